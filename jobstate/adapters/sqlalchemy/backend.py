"""What differs from one database to the next: how a row is read as JSON, and how a write is made in one piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Dialect, Integer, bindparam

from jobstate.adapters.sqlalchemy.codec import Write
from jobstate.adapters.sqlalchemy.lines import Line
from jobstate.adapters.sqlalchemy.prepared import Kept
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.lifecycle import Accepted
from jobstate.payload import encode


class Backend(ABC):
    """One kind of database.

    A write answers whether it was done: False for a row that is there (insert), or is not there at this version (all others).

    Attributes:
        begin: the statement that begins a transaction of the library's own.
        in_one: whether each write is one statement, and needs no transaction.
        holds_rows: whether rows can be held for one transaction, and passed over by others.
        channel: where listeners hear of new jobs; None where there are no notices.
    """

    begin: str
    in_one: bool
    holds_rows: bool
    channel: str | None = None

    def __init__(self, tables: Tables, dialect: Dialect, *, history: bool) -> None:
        self.tables = tables
        self.history = history
        self.kept = Kept(dialect)

    # Expressions

    def plain(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """A column as `codec` reads it."""
        return column

    @abstractmethod
    def snapshot(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
        """A JSON array of columns, as text."""

    @abstractmethod
    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """The column's value is one of the list that is bound under this name."""

    @abstractmethod
    def has_pairs(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """The JSON object in the column has all pairs of the one that is bound, as text, under this name."""

    def limit(self, name: str) -> ColumnElement[int]:
        """The limit of a due page, bound under this name."""
        return bindparam(name, type_=Integer)

    @abstractmethod
    def many(self, values: Sequence[str]) -> object:
        """A list, as it is bound."""

    def pairs(self, values: Mapping[str, str]) -> object:
        """A JSON object, as it is bound."""
        return encode(dict(values))

    def prepare(self, line: Line) -> None:  # noqa: B027  # most need nothing
        """Make a connection that was just checked out ready for the library's statements."""

    def join(self, line: Line) -> None:  # noqa: B027  # most need nothing
        """Before the first write in a transaction of the host's: see to it that there is one."""

    def notify(self, line: Line) -> None:  # noqa: B027  # most can tell nobody
        """Tell listeners that a job was queued."""

    def create(self, line: Line) -> None:  # noqa: B027  # most need nothing
        """Make the database ready for the tables, outside of any transaction."""

    # Writes

    @abstractmethod
    def insert(self, line: Line, write: Write) -> bool:
        """A new job with its payloads and its record, unless its id or its organization's key is there."""

    @abstractmethod
    def save(self, line: Line, write: Write) -> bool:
        """Compare-and-set."""

    @abstractmethod
    def batches(self, transitions: Sequence[Accepted]) -> Sequence[Sequence[Accepted]]:
        """The transitions, divided into what `save_many` takes at once."""

    @abstractmethod
    def save_many(self, line: Line, batch: Sequence[Accepted]) -> list[bool]:
        """Compare-and-set of each of a batch."""

    @abstractmethod
    def delete(self, line: Line, job_id: str, version: int) -> bool:
        """Remove a job, its payloads and its history."""
