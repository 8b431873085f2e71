"""The operators of the mutation testing: which faults they make of which text."""

from __future__ import annotations

import pytest

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
