"""`SQLAlchemyRepository` and `AsyncSQLAlchemyRepository`: the store, on connections of an engine, or on the host's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from jobstate.adapters.sqlalchemy import bulk, schema
from jobstate.adapters.sqlalchemy.bulk import Step, Steps
from jobstate.adapters.sqlalchemy.faults import NothingDone, OfTheHost
from jobstate.adapters.sqlalchemy.lines import Direct, Line, Seen, is_watched
from jobstate.adapters.sqlalchemy.store import Part, Store
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.adapters.sqlalchemy.transactions import PartOfAnother, Transactions, make_ready
from jobstate.effects import Decide, Moved
from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import HistoryRecord, Job, JobFilter
from jobstate.ports import AsyncWithin, Within
from jobstate.query import Cursor, Due, DuePage, Listing, PageRequest

AnyJob = Job[Any, Any]
R = TypeVar("R")
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
        _check(engine)
        self.tables = Tables() if tables is None else tables
        self._engine = engine
        self._commits_itself = False
        self._store = Store(self.tables, engine.dialect, history=history)
        self._transactions = Transactions(self._store.backend)
        self._host: Connection | Session | None = None

    def bind(self, transaction: Connection | Session) -> SQLAlchemyRepository:
        """The same repository as a part of a transaction of the host's: its connection, or its ORM session.

        What it writes is committed or rolled back with the host's rows; nothing is committed here. As with any statement, an
        error of PostgreSQL in between ends the host's transaction.
        """
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part._transactions = PartOfAnother(self._store.backend)
        part._host = transaction
        return part

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
        return self._write(job.id, lambda line: self._store.insert(line, job, record), within)

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

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`: on PostgreSQL a statement for all that write the same columns."""
        return self._drive(bulk.save_many(self._store, transitions))

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
        return self._drive(bulk.move_due(self._store, Part(due, until, limit, after, include_request), decide))

    def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        return self._read(lambda line: self._store.count(line, where))

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        return self._read(lambda line: self._store.history(line, job_id, after_version))

    def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        self._write(job_id, lambda line: self._store.delete(line, job_id, version))


class AsyncSQLAlchemyRepository:
    """`SQLAlchemyRepository`, awaited, on an async engine: PostgreSQL (psycopg or asyncpg), or a SQLite file (aiosqlite)."""

    def __init__(self, engine: AsyncEngine, tables: Tables | None = None, *, history: bool = True) -> None:
        _check(engine.sync_engine)
        self.tables = Tables() if tables is None else tables
        self._engine = engine
        self._store = Store(self.tables, engine.sync_engine.dialect, history=history)
        self._transactions = Transactions(self._store.backend)
        self._host: AsyncConnection | AsyncSession | None = None

    def bind(self, transaction: AsyncConnection | AsyncSession) -> AsyncSQLAlchemyRepository:
        """As `SQLAlchemyRepository.bind`."""
        part = object.__new__(type(self))
        part.__dict__.update(self.__dict__)
        part._transactions = PartOfAnother(self._store.backend)
        part._host = transaction
        return part

    async def create_schema(self) -> None:
        """As `SQLAlchemyRepository.create_schema`."""
        if self._host is None:
            await self._read(self._store.backend.create)
        await self._whole("schema", lambda connection: schema.create(connection, self.tables))

    async def upgrade_schema(self) -> tuple[int, int]:
        """As `SQLAlchemyRepository.upgrade_schema`."""
        return await self._whole("schema", lambda connection: schema.upgrade(connection, self.tables))

    @asynccontextmanager
    async def _connect(self) -> AsyncGenerator[AsyncConnection]:
        if self._host is not None:
            yield await self._host.connection() if isinstance(self._host, AsyncSession) else self._host
            return
        async with self._engine.connect() as connection:
            yield connection

    def _seen(self, connection: Connection) -> Line:
        line = Seen(connection)
        if self._host is None:
            make_ready(line, self._store.backend)
        return line

    async def _run(self, work: Callable[[Connection], R]) -> R:
        with NothingDone():
            async with self._connect() as connection:
                return await connection.run_sync(work)

    async def _read(self, work: Work[R]) -> R:
        return await self._run(lambda connection: work(self._seen(connection)))

    async def _write(self, job_id: str, work: Work[R], within: AsyncWithin | None = None) -> R:
        if within is None:
            return await self._read(lambda line: self._transactions.write(line, job_id, work))
        with NothingDone():
            async with self._connect() as connection:
                return await self._write_within(connection, job_id, work, within)

    async def _write_within(self, connection: AsyncConnection, job_id: str, work: Work[R], within: AsyncWithin) -> R:
        transactions = self._transactions
        line = await connection.run_sync(self._seen)
        try:
            await connection.run_sync(lambda _: transactions.begin(line))
            answer = await connection.run_sync(lambda _: work(line))
            if answer is None:
                with OfTheHost():
                    await within(connection)
                await connection.run_sync(lambda _: transactions.check(line))
        except BaseException as error:
            failure = error
            await connection.run_sync(lambda _: transactions.abandon(line, failure))
            raise
        await connection.run_sync(lambda _: transactions.commit(line, job_id))
        return answer

    async def _whole(self, job_id: str, work: Callable[[Connection], R]) -> R:
        def transact(connection: Connection) -> R:
            with self._transactions.transaction(self._seen(connection), job_id):
                return work(connection)

        return await self._run(transact)

    async def _transact(self, job_id: str, work: Work[R]) -> R:
        def transact(line: Line) -> R:
            with self._transactions.transaction(line, job_id):
                return work(line)

        return await self._read(transact)

    async def _drive(self, steps: Steps[R]) -> R:
        try:
            step: Step = next(steps)
            while True:
                try:
                    answer = await (self._transact if step.whole else self._write)(step.job_id, step.work)
                except RepositoryError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as stop:
            value: R = stop.value
            return value

    async def insert(self, job: AnyJob, record: HistoryRecord, *, within: AsyncWithin | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        return await self._write(job.id, lambda line: self._store.insert(line, job, record), within)

    async def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        return await self._read(lambda line: self._store.load(line, job_id, organization_id, include_request, include_response))

    async def save(self, transition: Accepted, *, within: AsyncWithin | None = None) -> None:
        """As `Repository.save`."""
        await self._write(transition.job_id, lambda line: self._store.save(line, transition), within)

    async def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`."""
        return await self._drive(bulk.save_many(self._store, transitions))

    async def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """As `Repository.list`."""
        return await self._read(lambda line: self._store.list(line, where, page, include_request, include_response))

    async def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        return await self._read(lambda line: self._store.due(line, Part(due, until, limit, after)))

    async def move_due(
        self,
        due: Due,
        *,
        until: int,
        limit: int,
        after: Cursor | None = None,
        decide: Decide,
        include_request: bool = False,
    ) -> Moved:
        """As `SharedSweeps.move_due`."""
        return await self._drive(bulk.move_due(self._store, Part(due, until, limit, after, include_request), decide))

    async def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        return await self._read(lambda line: self._store.count(line, where))

    async def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        return await self._read(lambda line: self._store.history(line, job_id, after_version))

    async def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        await self._write(job_id, lambda line: self._store.delete(line, job_id, version))


def _check(engine: Engine) -> None:
    if engine.dialect.name == "sqlite" and engine.url.database in (None, "", ":memory:"):
        raise ValueError("engine: a SQLite database in memory belongs to one connection: use a file, or MemoryRepository")
