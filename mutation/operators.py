"""Faults that mutmut does not make, as edits of the source text.

Everywhere: a condition that always or never holds, an element left out of a literal, a statement left out. Where mutmut makes
none (module level code, class bodies, decorated functions): another constant, operator, status, event, guard or change, a
keyword argument left out, a lambda or a property that gives None. Annotations, decorators and `__all__` are left alone.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple, cast

SWAPS: dict[type[ast.AST], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.Div: "*",
    ast.LShift: ">>",
    ast.And: "or",
    ast.Or: "and",
}
DROPPED = (ast.Expr, ast.Raise, ast.Delete, ast.AugAssign)


class Edit(NamedTuple):
    """Bytes `start` to `end` of the source become `text`."""

    start: int
    end: int
    text: str


class Operators:
    """The edits of one source file."""

    def __init__(self, source: str) -> None:
        self.source = source.encode()
        self.tree = ast.parse(source)
        self.lines = [0]
        for line in self.source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.siblings = _siblings(self.tree)

    def edits(self) -> Iterator[Edit]:
        """All of them, in the order of the source."""
        yield from self._within(self.tree, foreign=False)

    def _within(self, node: ast.AST, *, foreign: bool) -> Iterator[Edit]:
        """Of a node and what is in it; `foreign` is what mutmut sees too."""
        if _left_alone(node):
            return
        yield from self._everywhere(node)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            plain = not node.decorator_list
            for part in node.body:
                yield from self._within(part, foreign=foreign or plain)
            return
        if not foreign:
            yield from self._ours(node)
        for child in _children(node):
            yield from self._within(child, foreign=foreign and not _unseen(node))

    def _everywhere(self, node: ast.AST) -> Iterator[Edit]:
        if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Constant):
            yield self._edit(node.test, "False")
            if isinstance(node, ast.If):
                yield self._edit(node.test, "True")
        if isinstance(node, ast.comprehension):
            for condition in node.ifs:
                yield self._edit(condition, "True")
        if isinstance(node, DROPPED) or (
            isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name | ast.Tuple)
        ):
            yield self._edit(node, "pass")
        if isinstance(node, ast.Dict):
            keys = [
                self._at(key)[0] if key else self._at(value)[0] - 2 for key, value in zip(node.keys, node.values, strict=True)
            ]
            yield from self._without(node, list(zip(keys, [self._at(value)[1] for value in node.values], strict=True)), "{}")
        if isinstance(node, ast.Tuple | ast.List | ast.Set) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            empty = {ast.Tuple: "()", ast.List: "[]", ast.Set: "set()"}[type(node)]
            yield from self._without(node, [self._at(element) for element in node.elts], empty)

    def _without(self, node: ast.expr, spans: list[tuple[int, int]], empty: str) -> Iterator[Edit]:
        if len(spans) == 1:
            yield self._edit(node, empty)
        elif len(spans) == 2 and isinstance(node, ast.Tuple):
            yield from (self._edit(node, f"({self.source[start:end].decode()},)") for start, end in reversed(spans))
        elif spans:
            for (start, _), (behind, _) in pairwise(spans):
                yield Edit(start, behind, "")
            yield Edit(spans[-2][1], spans[-1][1], "")

    def _ours(self, node: ast.AST) -> Iterator[Edit]:
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                other = not value if isinstance(value, bool) else "XX" + value if isinstance(value, str) else value + 1
                yield self._edit(node, repr(other))
            case ast.Compare(ops=[operator], left=left, comparators=[right]):
                yield from self._between(left, right, operator)
            case ast.BinOp(left=left, op=operator, right=right):
                yield from self._between(left, right, operator)
            case ast.BoolOp(op=operator, values=[left, right, *_]):
                yield from self._between(left, right, operator)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                yield self._edit(node, ast.unparse(operand))
            case ast.IfExp(test=test):
                yield from (self._edit(test, text) for text in ("True", "False"))
            case ast.Lambda(body=body) | ast.Return(value=ast.expr() as body):
                yield self._edit(body, "None")
            case ast.Call(keywords=keywords) if keywords:
                for keyword in keywords:
                    rest = [other for other in keywords if other is not keyword]
                    yield self._edit(node, ast.unparse(ast.Call(node.func, node.args, rest)))
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in self.siblings:
                yield self._edit(node, f"{owner}.{self.siblings[owner, name]}")
            case ast.Name(id=name, ctx=ast.Load()) if ("", name) in self.siblings:
                yield self._edit(node, self.siblings["", name])
            case _:
                pass

    def _between(self, left: ast.expr, right: ast.expr, operator: ast.AST) -> Iterator[Edit]:
        """The operator, with the blanks around it; what stands in brackets is beyond it."""
        start, end = self._at(left)[1], self._at(right)[0]
        if type(operator) in SWAPS and not set(self.source[start:end]) & set(b"()\n"):
            yield Edit(start, end, f" {SWAPS[type(operator)]} ")

    def _edit(self, node: ast.expr | ast.stmt, text: str) -> Edit:
        return Edit(*self._at(node), text)

    def _at(self, node: ast.expr | ast.stmt) -> tuple[int, int]:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self.lines[node.lineno - 1] + node.col_offset, self.lines[node.end_lineno - 1] + node.end_col_offset


def _left_alone(node: ast.AST) -> bool:
    words = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    public = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    return words or public or isinstance(node, ast.Import | ast.ImportFrom | ast.JoinedStr)


def _unseen(node: ast.AST) -> bool:
    """A call that mutmut makes nothing of."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("len", "isinstance")


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """What is evaluated: no decorators and no annotations, but what limits the values of a field."""
    for name, value in ast.iter_fields(node):
        if name == "decorator_list" or (isinstance(node, ast.Subscript) and name == "slice" and not _limits(node)):
            continue
        if name == "annotation" and not (isinstance(value, ast.Subscript) and _limits(value)):
            continue
        parts = cast("list[object]", value if isinstance(value, list) else [value])
        yield from (child for child in parts if isinstance(child, ast.AST))


def _limits(node: ast.Subscript) -> bool:
    return ast.unparse(node.value) == "Annotated"


def _siblings(tree: ast.Module) -> dict[tuple[str, str], str]:
    """What may stand in the place of a name: the next one of its owner in this file, or of those assigned together with it."""
    groups: dict[str, dict[str, None]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id != "self":
            groups.setdefault(node.value.id, {})[node.attr] = None
    together = [
        node.targets[0].elts for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Tuple)
    ]
    named = [("", [ast.unparse(name) for name in names]) for names in together]
    lists = [*((owner, list(names)) for owner, names in groups.items()), *named]
    return {
        (owner, name): names[(i + 1) % len(names)] for owner, names in lists for i, name in enumerate(names) if len(names) > 1
    }
