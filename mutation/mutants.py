"""The mutants of a file: mutmut's of its functions, and those of `operators`, without repetitions."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from libcst import CSTNode, FunctionDef, SimpleString
from mutmut.mutation.file_mutation import create_mutations

from mutation.operators import Operators

ROOT = Path(__file__).parent.parent


class Mutant(NamedTuple):
    """One fault: in which file and function ("" at module level), which lines of it are other ones, and the whole source."""

    file: str
    function: str
    change: str
    lines: tuple[int, ...]
    source: str

    @property
    def key(self) -> str:
        """Says which mutant it is, also after lines were moved."""
        return f"{self.file} {self.function or '-'}: {self.change}"


def mutants_of(path: Path) -> list[Mutant]:
    """The mutants of a file of the package."""
    file, before = str(path.relative_to(ROOT)), path.read_text()
    functions = _functions(before)
    found: list[Mutant] = []
    times: Counter[str] = Counter()
    for source in dict.fromkeys((*_of_mutmut(path, before), *_of_ours(before))):
        if source == before or not _compiles(source):
            continue
        change, lines = _difference(before, source)
        mutant = Mutant(file, functions.get(lines[0], ""), change, lines, source)
        times[mutant.key] += 1
        again = f" #{times[mutant.key]}" if times[mutant.key] > 1 else ""
        found.append(mutant._replace(change=change + again))
    return found


def _of_mutmut(path: Path, before: str) -> Iterator[str]:
    """Of its three changes of a string, the first: a test that sees one sees them all."""
    module, mutations, *_ = create_mutations(str(path), before)
    places = {id(node): (at, part) for at, part in enumerate(module.body) for node in _nodes(part)}
    texts = [module.code_for_node(part) for part in module.body]
    head = before[: len(before) - len("".join(texts))]
    strings: set[int] = set()
    for mutation in mutations:
        if not isinstance(mutation.contained_by_top_level_function, FunctionDef) or id(mutation.original_node) in strings:
            continue
        if isinstance(mutation.original_node, SimpleString):
            strings.add(id(mutation.original_node))
        at, part = places[id(mutation.original_node)]
        new = part.deep_replace(mutation.original_node, mutation.mutated_node)
        yield head + "".join((*texts[:at], module.code_for_node(new), *texts[at + 1 :]))


def _nodes(node: CSTNode) -> Iterator[CSTNode]:
    yield node
    for child in node.children:
        yield from _nodes(child)


def _of_ours(before: str) -> Iterator[str]:
    text = before.encode()
    for start, end, new in Operators(before).edits():
        yield (text[:start] + new.encode() + text[end:]).decode()


def _compiles(source: str) -> bool:
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _difference(before: str, after: str) -> tuple[str, tuple[int, ...]]:
    """The lines that differ, old and new, and the numbers of the old ones."""
    old, new = before.splitlines(), after.splitlines()
    first = next(i for i in range(len(old)) if i >= len(new) or old[i] != new[i])
    same = 0
    while same < min(len(old), len(new)) - first and old[-1 - same] == new[-1 - same]:
        same += 1
    last = len(old) - same
    words = (" ".join(line.strip() for line in lines) for lines in (old[first:last], new[first : len(new) - same]))
    return " => ".join(words), tuple(range(first + 1, max(last, first + 1) + 1))


def _functions(source: str) -> dict[int, str]:
    """To each line the outermost function, or method, that it is in."""
    found: dict[int, str] = {}

    def look(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                look(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found.update(dict.fromkeys(range(first, (node.end_lineno or first) + 1), prefix + node.name))

    look(ast.parse(source).body, "")
    return found
