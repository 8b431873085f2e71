"""What statements are sent on. A line is a connection while it is used, and answers with rows at once.

`Seen` goes through SQLAlchemy's `Connection`, whose events and logs see each statement. Where nobody listens, `Direct` goes to
the driver's cursor, on a connection of the same pool: the way through costs as much as a statement.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Dialect, Engine
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.pool import PoolProxiedConnection

Values = dict[str, Any] | tuple[Any, ...] | list[Any]


class Answer(NamedTuple):
    """How many rows were written, and those that were read."""

    rowcount: int
    rows: Sequence[Any] = ()

    @property
    def value(self) -> Any:
        """The one value that was asked for."""
        return self.rows[0][0]


class Line(ABC):
    """Sends statements, one after the other."""

    dialect: Dialect
    takes_numbered: bool = False
    """Whether statements come with numbers for their parameters, and values in a list."""

    @property
    @abstractmethod
    def pooled(self) -> PoolProxiedConnection:
        """The connection as its pool has it."""

    @abstractmethod
    def send(self, text: str, values: Values = ()) -> Answer:
        """Carry out a statement. Raises SQLAlchemy's errors."""

    @abstractmethod
    def invalidate(self) -> None:
        """Throw the connection away."""

    @property
    def commits_itself(self) -> bool:
        """Whether it is in AUTOCOMMIT mode."""
        there = self.pooled.dbapi_connection
        return there is not None and bool(self.dialect.detect_autocommit_setting(there))


class Seen(Line):
    """Through a `Connection`."""

    __slots__ = ("connection", "dialect")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.dialect = connection.dialect

    @property
    def pooled(self) -> PoolProxiedConnection:
        """As `Line.pooled`."""
        return self.connection.connection

    def send(self, text: str, values: Values = ()) -> Answer:
        """As `Line.send`."""
        result = self.connection.exec_driver_sql(text, values or None)
        return Answer(result.rowcount, result.all() if result.returns_rows else ())

    def invalidate(self) -> None:
        """As `Line.invalidate`."""
        self.connection.invalidate()


class Direct(Line):
    """Straight to the driver, on a connection that goes back to its pool at the end of a `with`."""

    __slots__ = ("_engine", "_pooled", "_prepare", "dialect", "takes_numbered")

    def __init__(self, engine: Engine, prepare: Callable[[Line], None]) -> None:
        self._engine = engine
        self._prepare = prepare
        self.dialect = engine.dialect
        self.takes_numbered = engine.dialect.driver == "psycopg" and not engine.dialect.is_async
        try:
            self._pooled = engine.raw_connection()
        except self.dialect.loaded_dbapi.Error as error:
            raise self._told("", (), error, broken=False) from error

    def __enter__(self) -> Line:
        try:
            self._prepare(self)
        except BaseException:
            self._pooled.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._pooled.close()

    @property
    def pooled(self) -> PoolProxiedConnection:
        """As `Line.pooled`."""
        return self._pooled

    def send(self, text: str, values: Values = ()) -> Answer:
        """As `Line.send`."""
        if self._pooled.dbapi_connection is None:
            raise InvalidRequestError("the connection was thrown away")
        cursor: Any = self._new_cursor()
        try:
            cursor.execute(text, values)
            columns: Any = cursor.description  # None for what reads nothing
            return Answer(cursor.rowcount, cursor.fetchall() if columns else ())
        except self.dialect.loaded_dbapi.Error as error:
            broken = self.dialect.is_disconnect(error, self._pooled.dbapi_connection, cursor)
            raise self._told(text, values, error, broken) from error
        except BaseException:
            self.invalidate()
            raise
        finally:
            if self._pooled.is_valid:  # SQLite's cursors cannot be closed after it
                cursor.close()

    def _new_cursor(self) -> Any:
        """Psycopg translates names into numbers anew for each statement of fifty or more, unless it is given numbers."""
        if self.takes_numbered:
            return self.dialect.loaded_dbapi.RawCursor(self._pooled.driver_connection)
        return self._pooled.cursor()

    def _told(self, text: str, values: Any, error: Any, broken: bool) -> BaseException:
        """A driver's error as SQLAlchemy tells it. When one connection broke, those in the pool may have too."""
        if broken:
            self.invalidate()
            self._engine.dispose()
        base = self.dialect.loaded_dbapi.Error
        instance: Any = DBAPIError.instance  # pyright: ignore[reportUnknownMemberType]  # its overloads are of other colours
        told: BaseException = instance(text, values, error, base, connection_invalidated=broken, dialect=self.dialect)
        return told

    def invalidate(self) -> None:
        """As `Line.invalidate`."""
        if self._pooled.dbapi_connection is not None:
            self._pooled.invalidate()


def is_watched(engine: Engine) -> bool:
    """Whether somebody listens to the engine or its dialect, or reads its log; also when SQLAlchemy does not say."""
    listened = getattr(engine, "_has_events", True) or getattr(engine.dialect, "_has_events", True)
    return bool(listened) or engine.logger.isEnabledFor(logging.INFO)
