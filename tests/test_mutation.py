"""The mutation testing: which faults its operators make of which text, and which tests and mutants it chooses."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mutation.choice import is_in_share, within_budget
from mutation.operators import Operators


def mutated(source: str) -> list[str]:
    text = source.encode()
    return [(text[:start] + new.encode() + text[end:]).decode() for start, end, new in Operators(source).edits()]


@pytest.mark.parametrize(
    ("source", "faults"),
    [
        ("x = (a, b, c)", ["x = (b, c)", "x = (a, c)", "x = (a, b)"]),
        ("x = (a, b)", ["x = (b,)", "x = (a,)"]),
        ("x = [a]", ["x = []"]),
        ("x = {**a, b: c}", ["x = {b: c}", "x = {**a}"]),
        ("x = 7", ["x = 8"]),
        ("x = True", ["x = False"]),
        ("x = a < b", ["x = a <= b"]),
        ("x = f(a, b=c)", ["x = f(a)"]),
        ("x = lambda: a", ["x = lambda: None"]),
        ("x = Event.A\ny = Event.B", ["x = Event.B\ny = Event.B", "x = Event.A\ny = Event.A"]),
        ("a, b = c, d\nx = a", ["a, b = (d,)\nx = a", "a, b = (c,)\nx = a", "a, b = c, d\nx = b"]),
        (
            "class C:\n    x: Annotated[int, F(le=1)]",
            ["class C:\n    x: Annotated[(F(le=1),)]", "class C:\n    x: Annotated[(int,)]"],
        ),
    ],
)
def test_of_what_is_evaluated_on_import(source: str, faults: list[str]) -> None:
    assert set(faults) <= set(mutated(source))


def test_in_a_function_only_what_the_other_tool_does_not_make() -> None:
    function = "def f():\n    if a < 7:\n        raise b\n    g(1)\n    return a"
    assert mutated(function) == [
        function.replace("a < 7", "False"),
        function.replace("a < 7", "True"),
        function.replace("raise b", "pass"),
        function.replace("g(1)", "pass"),
    ]


def test_in_a_property_everything() -> None:
    assert mutated("class C:\n    @property\n    def p(self):\n        return 1") == [
        "class C:\n    @property\n    def p(self):\n        return None",
        "class C:\n    @property\n    def p(self):\n        return 2",
    ]


@pytest.mark.parametrize(
    "source", ['"""Words."""', "from a import b", "__all__ = ['a']", "x: dict[str, int]", "@d(1)\ndef f(): ..."]
)
def test_words_imports_annotations_and_decorators_are_left_alone(source: str) -> None:
    assert mutated(source) == []


def test_a_text_with_other_letters_is_cut_where_it_should_be() -> None:
    assert "x = ('é', 8)" in mutated("x = ('é', 7)")


DURATIONS = {"f::a[1]": 1.0, "f::a[2]": 2.0, "f::a[3]": 3.0, "f::b[9]": 9.0, "f::b[4]": 4.0, "g::c": 5.0}


@pytest.mark.parametrize(
    ("budget", "chosen"),
    [
        (24, ["f::a[1]", "f::b[4]", "g::c", "f::a[2]", "f::b[9]", "f::a[3]"]),
        (12, ["f::a[1]", "f::b[4]", "g::c", "f::a[2]"]),
        (8, ["f::a[1]", "f::b[4]", "f::a[2]"]),
        (0.5, []),
    ],
)
def test_cases_are_taken_from_each_function_in_turn_while_they_fit_into_the_budget(budget: float, chosen: list[str]) -> None:
    assert within_budget(reversed(DURATIONS), DURATIONS, budget) == chosen


def test_a_share_is_as_large_as_it_says_and_holds_every_smaller_one() -> None:
    keys = [f"jobstate/file.py f: x = {number}" for number in range(4000)]
    half, quarter = ({key for key in keys if is_in_share(key, share)} for share in (Fraction(1, 2), Fraction(1, 4)))
    assert quarter < half
    assert 1800 < len(half) < 2200
    assert 900 < len(quarter) < 1100
    assert all(is_in_share(key, Fraction(1)) for key in keys)
    assert not any(is_in_share(key, Fraction(0)) for key in keys)
