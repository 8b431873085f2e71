"""The ratios of a run as a picture: SVG, light or dark as its reader's system is.

A line for each result, on an axis of logarithms: from the smallest to the largest ratio of a round a bar, at the median a dot,
at the ratio that is asked for a tick. A dot right of its tick has missed, and is a ring. `python -m benchmarks.plot FILE` draws
the JSON of a run anew.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.measure import Result
from benchmarks.record import results_of

WIDTH, TITLES, PLOT = 1340, 720, 480
"""Of the whole, of the column of titles, and of the axis."""
TOP, ROW = 84, 24

_STYLE = """
.ground { fill: #ffffff } .grid { stroke: #d0d7de } .even { stroke: #57606a; stroke-width: 1.5 }
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { text-anchor: end } .mark { text-anchor: middle }
.caption, .mark { font-size: 12px; fill: #57606a }
.range { stroke: #54aeff; stroke-width: 6; stroke-linecap: round } .median { fill: #0550ae }
.asked { stroke: #1f2328; stroke-width: 2 }
.missed .range { stroke: #ff8182 } .missed .median { fill: #ffffff; stroke: #a40e26; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
.ground { fill: #0d1117 } .grid { stroke: #30363d } .even { stroke: #9198a1 }
text { fill: #e6edf3 } .caption, .mark { fill: #9198a1 }
.range { stroke: #1f6feb } .median { fill: #a5d6ff } .asked { stroke: #e6edf3 }
.missed .range { stroke: #b62324 } .missed .median { fill: #0d1117; stroke: #ffa198 }
}
"""


class Axis(NamedTuple):
    """Ratios from `low` to `high`, by their logarithms."""

    low: float
    high: float

    def at(self, ratio: float) -> float:
        """Where a ratio stands; one beyond the axis stands at its end."""
        share = math.log(max(self.low, min(self.high, ratio)) / self.low) / math.log(self.high / self.low)
        return TITLES + 20 + PLOT * share

    def marks(self) -> Iterator[float]:
        """Each 1, 2 and 5 of each power of ten."""
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1):
            yield from (mark for digit in (1, 2, 5) if self.low <= (mark := float(f"{digit}e{power}")) <= self.high)


def axis_of(results: Sequence[Result]) -> Axis:
    """From the largest power of ten below all ratios to the smallest above; what is smaller than 0.01 stands at its end."""
    ratios = [max(ratio, 0.01) for each in results for ratio in (each.low, each.high, each.asked or 1)]
    low, high = math.floor(math.log10(min([0.5, *ratios]))), math.ceil(math.log10(max([2, *ratios])))
    return Axis(10.0**low, 10.0**high)


def svg(results: Sequence[Result], caption: str) -> str:
    """The picture, as the text of an SVG file. A result says in `data-title` and `data-ratio` what it stands for."""
    axis, height = axis_of(results), TOP + ROW * len(results) + 16
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        '<title id="title">What was compared: the ratios of times, and what is asked for</title>',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{height}" rx="8"/>',
        f'<text class="caption" x="16" y="24">{escape(caption)}</text>',
        '<text class="caption" x="16" y="44">Bar: smallest to largest ratio of a round. Dot: median; a ring, where it misses. '
        "Upright tick: at most this is asked for.</text>",
        *(line for mark in axis.marks() for line in _mark(mark, axis.at(mark), height - 12)),
        *(line for number, result in enumerate(results) for line in _row(result, axis, TOP + ROW * number + ROW // 2)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def caption_of(where: dict[str, Any]) -> str:
    """In a line, where and on what it was measured; `+` behind a revision: with changes that are not committed."""
    revision = str(where["revision"])
    revision = revision[:10] + "+" * revision.endswith("+")
    words = f"{where['date'][:10]}, revision {revision}, {where['python']}, {where['cpus']} CPUs"
    return f"{words} ({where['processor']}), load {where['load']} at the beginning"


def _mark(ratio: float, x: float, bottom: float) -> Iterator[str]:
    yield f'<path class="{"even" if ratio == 1 else "grid"}" d="M{x:.1f} {TOP - 4} V{bottom}"/>'
    yield f'<text class="mark" x="{x:.1f}" y="{TOP - 10}">{ratio:g}</text>'


def _row(result: Result, axis: Axis, y: int) -> Iterator[str]:
    low, high, median = (axis.at(ratio) for ratio in (result.low, result.high, result.ratio))
    kind = "result missed" if result.missed else "result"
    yield f'<g class="{kind}" data-title="{escape(result.title)}" data-ratio="{result.ratio:.3f}">'
    yield f'<text class="title" x="{TITLES}" y="{y + 4}">{escape(result.title)}</text>'
    yield f'<path class="range" d="M{low:.1f} {y} H{high:.1f}"/>'
    if result.asked is not None:
        yield f'<path class="asked" d="M{axis.at(result.asked):.1f} {y - 9} V{y + 9}"/>'
    yield f'<circle class="median" cx="{median:.1f}" cy="{y}" r="5"/>'
    yield f'<text x="{TITLES + PLOT + 40}" y="{y + 4}">{result.ratio:.2f}</text></g>'


if __name__ == "__main__":
    text = Path(sys.argv[1]).read_text()
    sys.stdout.write(svg(results_of(text), caption_of(json.loads(text))))
