"""Two silent bugs of generator code, looked for in the syntax tree of every flow: a bare effect, and a plain `yield` of one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

import jobstate.flows
from jobstate import effects
from jobstate.drivers import _CALLS
from jobstate.effects import Effect

EFFECTS = {name for name, value in vars(effects).items() if isinstance(value, type) and value.__base__ is Effect}
FILES = sorted(Path(next(iter(jobstate.flows.__path__))).glob("*.py"))


def faults(source: str) -> list[str]:
    return [f"line {node.lineno}: {what}" for node, what in _faults(ast.parse(source))]


def _faults(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    flows = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and _is_flow(node)}
    driven = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.YieldFrom)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield):
            yield node, "a plain yield"
        if _calls(node) in EFFECTS and id(node) not in driven:
            yield cast("ast.expr", node), "an effect that is not driven"
        if isinstance(node, ast.Expr) and _calls(node.value) in flows:
            yield node, "a flow that is not driven"
        yield from ((inner, "an effect where none may stand") for part in _closed(node) for inner in _drives(part))


def _calls(node: ast.AST) -> str | None:
    return node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else None


def _closed(node: ast.AST) -> list[ast.stmt]:
    """Where no effect may stand: a `finally`, a `with`, an `except BaseException`."""
    if isinstance(node, ast.Try):
        return node.finalbody
    if isinstance(node, ast.With):
        return node.body
    if isinstance(node, ast.ExceptHandler) and (node.type is None or ast.unparse(node.type) == "BaseException"):
        return node.body
    return []


def _is_flow(node: ast.FunctionDef) -> bool:
    return node.returns is not None and ast.unparse(node.returns).startswith("Flow[")


def _drives(part: ast.stmt) -> Iterator[ast.expr]:
    return (node for node in ast.walk(part) if isinstance(node, ast.YieldFrom))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_effect_is_driven_with_yield_from(path: Path) -> None:
    assert faults(path.read_text()) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_flow_is_short(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = [part for part in node.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
            assert (node.end_lineno or 0) - body[0].lineno < 32, node.name


@pytest.mark.parametrize(
    "code",
    [
        "def f() -> Flow[None]:\n    Save(x)",
        "def f() -> Flow[None]:\n    yield Save(x)",
        "def f() -> Flow[None]:\n    job = Load(x)",
        "def g() -> Flow[None]: ...\ndef f() -> Flow[None]:\n    g()",
        "def f() -> Flow[None]:\n    try:\n        pass\n    finally:\n        yield from Save(x)",
        "def f() -> Flow[None]:\n    with x:\n        yield from Save(x)",
        "def f() -> Flow[None]:\n    try:\n        pass\n    except BaseException:\n        yield from Save(x)",
    ],
)
def test_the_faults_would_be_seen(code: str) -> None:
    assert faults(code)


def test_all_effects_are_carried_out_by_the_drivers() -> None:
    assert {cls.__name__ for cls in _CALLS} == EFFECTS
    assert len(EFFECTS) == 18
