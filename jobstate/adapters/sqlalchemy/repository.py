"""`SQLAlchemyRepository`: the store, on connections of an engine, or on the host's own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

from jobstate.adapters.sqlalchemy import bulk, schema
from jobstate.adapters.sqlalchemy.bulk import Steps
from jobstate.adapters.sqlalchemy.faults import NothingDone, OfTheHost
from jobstate.adapters.sqlalchemy.lines import Direct, Line, Seen, is_watched
from jobstate.adapters.sqlalchemy.notices import PostgreSQLListener, is_new, is_queued
from jobstate.adapters.sqlalchemy.store import Part, Store
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.adapters.sqlalchemy.transactions import PartOfAnother, Transactions, make_ready
from jobstate.effects import Decide, Moved
from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, HistoryRecord
from jobstate.notices import Pace, Polling
from jobstate.ports import Listener, Within
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest

R = TypeVar("R")
Same = TypeVar("Same")
Work = Callable[[Line], R]


class SQLAlchemyRepository:
    """A `Repository` on a SQLAlchemy engine: PostgreSQL (psycopg), or a SQLite file.

    The engine stays the host's: no event is registered on it, and its own transactions are as they were. Each operation takes
    a connection from its pool, in AUTOCOMMIT mode; an engine made with `isolation_level="AUTOCOMMIT"` spares the switching.
    On PostgreSQL each write is one statement; on SQLite a transaction (`BEGIN IMMEDIATE`). Thread- and process-safe.

    `tables` are the library's tables on the host's `MetaData`. With `history=False` no records are kept: `history` is empty, a
    retry is recognised by the last `retry_key` only, and a lost answer that others have overtaken stays an
    OutcomeUnknownError. Raises ValueError for a database that is not supported.
    """

    def __init__(self, engine: Engine, tables: Tables | None = None, *, history: bool = True) -> None:
        check_engine(engine)
        self.tables = Tables() if tables is None else tables
        self._engine = engine
        self._commits_itself = False
        self._store = Store(self.tables, engine.dialect, history=history)
        self._transactions = Transactions(self._store.backend)
        self._host: Connection | Session | None = None
        self._announces = False
        self._pace = Pace()

    def bind(self, transaction: Connection | Session) -> SQLAlchemyRepository:
        """The same repository as a part of a transaction of the host's: its connection, or its ORM session.

        What it writes is committed or rolled back with the host's rows; nothing is committed here. As with any statement, an
        error of PostgreSQL in between ends the host's transaction.
        """
        return like(self, _transactions=PartOfAnother(self._store.backend), _host=transaction)

    def announcing(self) -> SQLAlchemyRepository:
        """As `Notices.announcing`: on PostgreSQL, one statement more after a write that queued a job that is due."""
        return like(self, _announces=self._store.backend.channel is not None)

    def listen(self) -> Listener:
        """As `Notices.listen`: on PostgreSQL, with a connection of its own; on SQLite the time passes."""
        channel = self._store.backend.channel
        if channel is None:
            return Polling()
        with NothingDone():
            return PostgreSQLListener(self._engine, channel)

    def create_schema(self) -> None:
        """Create the tables and indexes where there are none; safe to call at every start. A SQLite file is switched to WAL.

        Bound to a transaction of the host's, it is a part of that, and a file's mode stays. Raises RepositoryError for tables
        of another version: `upgrade_schema` brings them to this one.
        """
        if self._host is None:
            self._read(self._store.backend.create)
        self._whole("schema", lambda connection: schema.create(connection, self.tables))

    def upgrade_schema(self) -> tuple[int, int]:
        """Bring the tables of an earlier release to this one's, in one transaction: the version before, and now.

        Raises RepositoryError when there are none, or those of a later release.
        """
        return self._whole("schema", lambda connection: schema.upgrade(connection, self.tables))

    @contextmanager
    def _connect(self) -> Generator[Connection]:
        """A connection of the engine, or the host's."""
        if self._host is not None:
            yield self._host.connection() if isinstance(self._host, Session) else self._host
            return
        with self._engine.connect() as connection:
            yield connection

    def _line(self) -> AbstractContextManager[Line]:
        """A line in AUTOCOMMIT mode, or the host's: straight to the driver where nobody would see the difference."""
        if self._host is not None or not self._commits_itself or is_watched(self._engine):
            return self._seen_line()
        return Direct(self._engine, self._store.backend.prepare)

    @contextmanager
    def _seen_line(self) -> Generator[Line]:
        with self._connect() as connection:
            yield self._seen(connection)

    def _seen(self, connection: Connection) -> Line:
        line = Seen(connection)
        if self._host is None:
            self._commits_itself = line.commits_itself
            make_ready(line, self._store.backend)
        return line

    def _read(self, work: Work[R]) -> R:
        with NothingDone(), self._line() as line:
            return work(line)

    def _write(self, job_id: str, work: Work[R], within: Within | None = None) -> R:
        """Make a write; what `within` does is a part of it, if the write is done, which None says."""
        if within is not None:
            return self._write_within(job_id, work, within)
        with NothingDone(), self._line() as line:
            return self._transactions.write(line, job_id, work)

    def _write_within(self, job_id: str, work: Work[R], within: Within) -> R:
        with NothingDone(), self._connect() as connection:
            line = self._seen(connection)
            with self._transactions.transaction(line, job_id):
                answer = work(line)
                if answer is None:
                    with OfTheHost():
                        within(connection)
                    self._transactions.check(line)
            return answer

    def _whole(self, job_id: str, work: Callable[[Connection], R]) -> R:
        """A transaction on a connection that the host may use too."""
        with NothingDone(), self._connect() as connection, self._transactions.transaction(self._seen(connection), job_id):
            return work(connection)

    def _transact(self, job_id: str, work: Work[R]) -> R:
        with NothingDone(), self._line() as line, self._transactions.transaction(line, job_id):
            return work(line)

    def _announce(self) -> None:
        """Tell of a job that was queued; who is not told looks by himself before long."""
        if self._host is not None or self._pace.lets_through():  # a host commits later than it writes
            with suppress(RepositoryError):
                self._read(self._store.backend.notify)

    def _drive(self, steps: Steps[R]) -> R:
        try:
            step = next(steps)
            while True:
                try:
                    answer = (self._transact if step.whole else self._write)(step.job_id, step.work)
                except RepositoryError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            value: R = stop.value
            return value

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Within | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        standing = self._write(job.id, lambda line: self._store.insert(line, job, record), within)
        if self._announces and standing is None and is_new(job):
            self._announce()
        return standing

    def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        return self._read(lambda line: self._store.load(line, job_id, organization_id, include_request, include_response))

    def save(self, transition: Accepted, *, within: Within | None = None) -> None:
        """As `Repository.save`."""
        self._write(transition.job_id, lambda line: self._store.save(line, transition), within)
        if self._announces and is_queued(transition):
            self._announce()

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`: on PostgreSQL a statement for all that write the same columns."""
        answers = self._drive(bulk.save_many(self._store, transitions))
        if self._announces and any(map(is_queued, transitions)):
            self._announce()
        return answers

    def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """As `Repository.list`."""
        return self._read(lambda line: self._store.list(line, where, page, include_request, include_response))

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        return self._read(lambda line: self._store.due(line, Part(due, until, limit, after)))

    def move_due(
        self,
        due: Due,
        *,
        until: int,
        limit: int,
        after: Cursor | None = None,
        decide: Decide,
        include_request: bool = False,
    ) -> Moved:
        """As `SharedSweeps.move_due`: PostgreSQL passes over the rows that another one holds; SQLite lets it wait."""
        moved = self._drive(bulk.move_due(self._store, Part(due, until, limit, after, include_request), decide))
        if self._announces and any(map(is_queued, moved.transitions)):
            self._announce()
        return moved

    def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        return self._read(lambda line: self._store.count(line, where))

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        return self._read(lambda line: self._store.history(line, job_id, after_version))

    def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        self._write(job_id, lambda line: self._store.delete(line, job_id, version))


def like(repository: Same, **changes: Any) -> Same:
    """The same repository but for these attributes."""
    other = object.__new__(type(repository))
    other.__dict__.update(repository.__dict__, **changes)
    return other


def check_engine(engine: Engine) -> None:
    """Raises TypeError for what is no sync engine, ValueError for a database that no two connections share."""
    check_kind(engine, Engine, "create_engine(url)", "AsyncSQLAlchemyRepository")
    if engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:"):
        raise ValueError("engine: a SQLite database in memory belongs to one connection: use a file, or MemoryRepository")


def check_kind(engine: object, kind: type, made_by: str, other: str) -> None:
    """Raises TypeError for what is no engine of this colour, with what to do."""
    if not isinstance(engine, kind):
        words = f"a {kind.__name__}, made by {made_by}, is needed, not {type(engine).__name__}"
        raise TypeError(f"engine: {words}: for an engine of the other colour there is {other}")
