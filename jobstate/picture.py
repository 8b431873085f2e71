"""The table as a picture: SVG, light or dark as its reader's system is. What is drawn comes from the table; where, from here.

An event that all members of a frame have in common, to the same status, is one arrow from the frame. An arrow that has no
place of its own here is a straight line: the picture is then not pretty, and still true.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from html import escape
from typing import Final, NamedTuple

from jobstate.diagram import CREATED, arrows
from jobstate.model import JobStatus

WIDTH, HEIGHT = 1000, 560
NODE_WIDTH, NODE_HEIGHT = 130, 44

Statuses = tuple[JobStatus, ...]


class Frame(NamedTuple):
    """Statuses with a line around them (left, top, right, bottom), and what they have in common."""

    members: Statuses
    box: tuple[int, int, int, int]
    words: str
    words_at: tuple[int, int]


class Arrow(NamedTuple):
    """An arrow from all of `sources`; from none, where a job is created."""

    sources: Statuses
    target: JobStatus
    events: tuple[str, ...]


class Place(NamedTuple):
    """Where an arrow runs, as the data of an SVG path, and where the middle of its label stands."""

    path: str
    x: float
    y: float


_V, _Q, _P, _C, _F, _X, _E = JobStatus

CENTRES: Final[dict[JobStatus, tuple[int, int]]] = {
    _V: (185, 150),
    _Q: (410, 150),
    _P: (650, 150),
    _C: (885, 150),
    _F: (610, 355),
    _X: (820, 355),
    _E: (410, 515),
}

FRAMES: Final = (
    Frame((_V, _Q, _P, _C, _F, _X), (70, 15, 980, 430), "can expire", (905, 35)),
    Frame((_V, _Q, _P), (95, 45, 740, 245), "can be cancelled", (245, 235)),
    Frame((_F, _X), (525, 305, 905, 405), "can be retried", (540, 396)),
)

PLACES: Final[dict[tuple[Statuses, JobStatus], Place]] = {
    ((), _V): Place("M36 150 H112", 40, 180),
    ((), _Q): Place("M32 142 C50 40 350 50 390 120", 235, 74),
    ((_V,), _Q): Place("M250 150 H337", 294, 138),
    ((_Q,), _P): Place("M475 150 H577", 526, 138),
    ((_P,), _Q): Place("M635 128 C600 70 470 70 430 120", 532, 72),
    ((_P,), _C): Place("M715 150 H812", 780, 138),
    ((_V,), _F): Place("M195 172 C205 300 330 355 537 355", 224, 290),
    ((_P,), _F): Place("M645 172 L617 325", 690, 280),
    ((_V, _Q, _P), _X): Place("M728 245 L800 325", 800, 274),
    ((_F, _X), _Q): Place("M560 305 L433 180", 545, 275),
    ((_E,), _Q): Place("M395 493 V180", 372, 270),
    (FRAMES[0].members, _E): Place("M500 430 L447 486", 508, 466),
}

_STYLE = """
.ground { fill: #ffffff } .frame { fill: none; stroke: #8c959f; stroke-dasharray: 5 4 }
.status rect { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.5 } .final rect { fill: #f6f8fa; stroke: #57606a }
text { font: 14px system-ui, sans-serif; fill: #1f2328; text-anchor: middle } .status text { font-weight: 600 }
.caption { font-size: 12px; fill: #57606a; text-anchor: start }
.arrow { fill: none; stroke: #57606a; stroke-width: 1.5 } .head { fill: #57606a }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117 } .frame { stroke: #6e7681 }
.status rect { fill: #0c2d6b; stroke: #58a6ff } .final rect { fill: #21262d; stroke: #8b949e }
text { fill: #e6edf3 } .caption { fill: #9198a1 }
.arrow { stroke: #9198a1 } .head { fill: #9198a1 }
}
"""


def bundled() -> list[Arrow]:
    """All arrows of the table, with those of a frame's members as one; first those of a creation."""
    single: dict[tuple[JobStatus, JobStatus], set[str]] = defaultdict(set)
    for (source, target), events in arrows().items():
        single[source, target].update(events)
    found = [Arrow((), status, ("create",)) for status in CREATED]
    for frame in FRAMES:
        for target in JobStatus:
            common = single[frame.members[0], target].intersection(*(single[source, target] for source in frame.members))
            if common:
                found.append(Arrow(frame.members, target, tuple(sorted(common))))
            for source in frame.members:
                single[source, target] -= common
    found += [Arrow((source,), target, tuple(sorted(events))) for (source, target), events in single.items() if events]
    return found


def place(arrow: Arrow) -> Place:
    """Where an arrow stands: as it was laid out, else straight from the middle of its first status."""
    laid = PLACES.get((arrow.sources, arrow.target))
    if laid is not None:
        return laid
    (x1, y1), (x2, y2) = CENTRES[arrow.sources[0] if arrow.sources else arrow.target], CENTRES[arrow.target]
    return Place(f"M{x1} {y1} L{x2} {y2}", (x1 + x2) / 2, (y1 + y2) / 2)


def svg() -> str:
    """The picture, as the text of an SVG file. An arrow says in `data-from`, `data-to` and `data-events` what it stands for."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="title">',
        '<title id="title">The statuses of a job, and the events that lead from one to another</title>',
        f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path class="head" d="M0 0 L10 5 L0 10 z"/></marker></defs>',
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="8"/>',
        *(line for frame in FRAMES for line in _frame(frame)),
        '<circle class="head" cx="28" cy="150" r="7"/>',
        *(line for status in JobStatus for line in _status(status)),
        *(line for arrow in bundled() for line in _arrow(arrow)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _frame(frame: Frame) -> Iterator[str]:
    (left, top, right, bottom), (x, y) = frame.box, frame.words_at
    yield f'<rect class="frame" x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" rx="12"/>'
    yield f'<text class="caption" x="{x}" y="{y}">{escape(frame.words)}</text>'


def _status(status: JobStatus) -> Iterator[str]:
    x, y = CENTRES[status]
    kind = "status" if status in FRAMES[1].members else "status final"
    yield f'<g class="{kind}" data-status="{status}">'
    yield f'<rect x="{x - NODE_WIDTH // 2}" y="{y - NODE_HEIGHT // 2}" width="{NODE_WIDTH}" height="{NODE_HEIGHT}" rx="8"/>'
    yield f'<text x="{x}" y="{y + 5}">{status}</text></g>'


def _arrow(arrow: Arrow) -> Iterator[str]:
    where = place(arrow)
    sources, events = " ".join(arrow.sources), " ".join(arrow.events)
    yield (
        f'<path class="arrow" d="{where.path}" marker-end="url(#head)" '
        f'data-from="{sources}" data-to="{arrow.target}" data-events="{events}"/>'
    )
    words = ", ".join(arrow.events)
    wide = 7 * len(words) + 8  # about as wide as the font is
    yield f'<rect class="ground" x="{where.x - wide / 2:g}" y="{where.y - 14:g}" width="{wide}" height="18"/>'
    yield f'<text class="label" x="{where.x:g}" y="{where.y:g}">{words}</text>'
