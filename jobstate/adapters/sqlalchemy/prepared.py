"""Statements compiled once. Building one for each call costs more than running it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ClauseElement, Dialect

from jobstate.adapters.sqlalchemy.lines import Answer, Line


class Prepared:
    """A statement for one dialect: its text, and the order of its parameters where the driver takes them by place."""

    __slots__ = ("_fixed", "_numbered", "names", "text")

    def __init__(self, statement: ClauseElement, dialect: Dialect) -> None:
        compiled: Any = statement.compile(dialect=dialect)
        names: Sequence[str] | None = compiled.positiontup
        self.text = str(compiled)
        self.names: tuple[str, ...] | None = None if names is None else tuple(names)
        self._fixed: dict[str, Any] = {name: value for name, value in compiled.params.items() if value is not None}
        """Values that the dialect has put in, such as an offset of 0."""
        self._numbered = _numbered(self.text) if dialect.driver == "psycopg" else None

    def run(self, line: Line, values: dict[str, Any]) -> Answer:
        """Run it with these values by name; what it does not name is left out. Values go to the driver as they are."""
        if self._fixed:
            values = {**values, **self._fixed}
        if self._numbered is not None and line.takes_numbered:
            text, pick = self._numbered
            return line.send(text, pick(values))
        names = self.names
        return line.send(self.text, values if names is None else tuple([values[name] for name in names]))


_NAMED = re.compile(r"%\((\w+)\)s|%%")


def _numbered(text: str) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]:
    """The statement with numbers for names (`$1`), as the server takes it: the driver then has nothing to translate.

    And what picks its values, in order.
    """
    numbers: dict[str, int] = {}

    def number(found: re.Match[str]) -> str:
        name = found[1]
        return "%" if name is None else f"${numbers.setdefault(name, len(numbers) + 1)}"

    numbered = _NAMED.sub(number, text)
    if len(numbers) > 1:
        return numbered, itemgetter(*numbers)
    return numbered, lambda values: tuple([values[name] for name in numbers])


class Kept:
    """Statements by their shape: each is built when it is first needed, and kept."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: dict[object, Prepared] = {}

    def get(self, shape: object, build: Callable[[], ClauseElement]) -> Prepared:
        """The statement of this shape."""
        prepared = self._kept.get(shape)
        if prepared is None:
            prepared = self._kept[shape] = Prepared(build(), self._dialect)
        return prepared

    def prepare(self, statement: ClauseElement) -> Prepared:
        """A statement that is not kept by shape."""
        return Prepared(statement, self._dialect)
