"""The picture of the lifecycle says what the table says, and can be read."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest

from jobstate import JobStatus, picture
from jobstate.diagram import arrows
from jobstate.lifecycle import MACHINE

SVG = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]


def _drawn() -> Xml.Element:
    return Xml.fromstring(picture.svg())


def _edges(root: Xml.Element) -> list[tuple[str, str, str]]:
    """Each arrow, taken apart."""
    return [
        (source, arrow.attrib["data-to"], event)
        for arrow in root.iter(f"{SVG}path")
        if "data-to" in arrow.attrib
        for source in arrow.attrib["data-from"].split() or ["created"]
        for event in arrow.attrib["data-events"].split()
    ]


def _box(element: Xml.Element) -> Box:
    """Left, top, right, bottom."""
    x, y, width, height = (float(element.attrib[name]) for name in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def test_the_arrows_are_the_moves_of_the_machine_each_once() -> None:
    declared = [
        (source.lower(), str(rule.dest).lower(), name)
        for name, event in MACHINE.events.items()
        for source, rules in list(event.transitions.items())
        for rule in rules
        if rule.dest != source
    ]
    created = [("created", "validating", "create"), ("created", "queued", "create")]
    assert sorted(_edges(_drawn())) == sorted([*set(declared), *created])


def test_a_change_of_the_table_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no place of its own is a straight line; a frame whose members differ loses its arrow, and they get their own."""
    moves = {pair: list(events) for pair, events in arrows().items()}
    moves.pop((JobStatus.QUEUED, JobStatus.CANCELLED))
    moves[JobStatus.COMPLETED, JobStatus.VALIDATING] = moves[JobStatus.FAILED, JobStatus.QUEUED]
    monkeypatch.setattr(picture, "arrows", lambda: moves)
    edges = {(source, target): event for source, target, event in _edges(_drawn())}
    assert ("queued", "cancelled") not in edges
    assert (edges["validating", "cancelled"], edges["completed", "validating"]) == ("cancel", "retry")


def test_the_label_of_an_arrow_names_its_events_and_the_title_is_there() -> None:
    root = _drawn()
    labels = [each.text for each in root.iter(f"{SVG}text") if each.attrib.get("class") == "label"]
    arrows = [each.attrib["data-events"].replace(" ", ", ") for each in root.iter(f"{SVG}path") if "data-to" in each.attrib]
    assert labels == arrows
    assert root.findtext(f"{SVG}title")


def test_every_arrow_has_a_place_of_its_own_and_ends_at_its_status() -> None:
    for arrow in picture.bundled():
        assert (arrow.sources, arrow.target) in picture.PLACES
        x, y = _end(picture.place(arrow).path)
        (left, top), wide = picture.CENTRES[arrow.target], 10
        assert abs(x - left) <= picture.NODE_WIDTH / 2 + wide
        assert abs(y - top) <= picture.NODE_HEIGHT / 2 + wide


def _end(path: str) -> tuple[float, float]:
    """The last point of a path; a horizontal or vertical line keeps one of its numbers."""
    numbers = [float(number) for number in re.findall(r"-?[\d.]+", path)]
    if "H" in path:
        return numbers[-1], numbers[1]
    return (numbers[0], numbers[-1]) if "V" in path else (numbers[-2], numbers[-1])


def test_statuses_and_labels_do_not_lie_on_each_other() -> None:
    root = _drawn()
    nodes = [_box(rect) for group in root.iter(f"{SVG}g") for rect in group.iter(f"{SVG}rect")]
    grounds = [rect for rect in root.iter(f"{SVG}rect") if rect.attrib.get("class") == "ground" and "x" in rect.attrib]
    boxes = [*nodes, *map(_box, grounds)]
    assert len(nodes) == len(JobStatus)
    assert len(grounds) == len(picture.bundled())
    assert [pair for pair in combinations(boxes, 2) if _meet(*pair)] == []
    assert all(left >= 0 and top >= 0 for left, top, _, _ in boxes)
    assert all(right <= picture.WIDTH and bottom <= picture.HEIGHT for _, _, right, bottom in boxes)


def _contrast(one: str, other: str) -> float:
    """The ratio of two colours (`#rrggbb`). Source: WCAG 2.2, "contrast ratio" and "relative luminance"."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("dark", [False, True])
def test_words_and_arrows_stand_out_in_light_and_dark(dark: bool) -> None:
    """Words by 4.5 to 1, lines by 3 to 1: what WCAG asks for."""
    style = picture.svg().split("<style>")[1].split("</style>")[0]
    light, _, night = style.partition("@media (prefers-color-scheme: dark)")
    rules = dict(re.findall(r"([.\w ]+?) \{ ([^}]*) \}", night if dark else light))
    colours = {name.strip(): re.findall(r"#[0-9a-f]{6}", rule) for name, rule in rules.items()}
    ground, ink = colours[".ground"][0], colours["text"][0]
    assert _contrast(ink, ground) >= 4.5
    assert _contrast(colours[".caption"][0], ground) >= 4.5
    for kind in (".status rect", ".final rect"):
        assert _contrast(ink, colours[kind][0]) >= 4.5
    for line in (".arrow", ".head"):
        assert _contrast(colours[line][0], ground) >= 3


def test_the_picture_of_the_docs_is_fresh() -> None:
    path = Path(__file__).parent.parent / "docs" / "lifecycle.svg"
    assert path.read_text() == picture.svg()
