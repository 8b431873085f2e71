"""`AsyncSQLAlchemyRepository`: the store, awaited, on connections of an async engine, or on the host's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.util import greenlet_spawn

from jobstate.adapters.sqlalchemy import bulk, schema
from jobstate.adapters.sqlalchemy.bulk import Step, Steps
from jobstate.adapters.sqlalchemy.faults import NothingDone, OfTheHost
from jobstate.adapters.sqlalchemy.lines import Direct, Line, Seen, is_watched
from jobstate.adapters.sqlalchemy.notices import AsyncPostgreSQLListener, is_new, is_queued
from jobstate.adapters.sqlalchemy.repository import check_engine, check_kind, like
from jobstate.adapters.sqlalchemy.store import Part, Store
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.adapters.sqlalchemy.transactions import PartOfAnother, Transactions, make_ready
from jobstate.effects import Decide, Moved
from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, HistoryRecord
from jobstate.notices import AsyncPolling, Pace
from jobstate.ports import AsyncListener, AsyncWithin
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest

R = TypeVar("R")
Work = Callable[[Line], R]


class AsyncSQLAlchemyRepository:
    """`SQLAlchemyRepository`, awaited, on an async engine: PostgreSQL (psycopg or asyncpg), or a SQLite file (aiosqlite)."""

    def __init__(self, engine: AsyncEngine, tables: Tables | None = None, *, history: bool = True) -> None:
        check_kind(engine, AsyncEngine, "create_async_engine(url)", "SQLAlchemyRepository")
        check_engine(engine.sync_engine)
        self.tables = Tables() if tables is None else tables
        self._engine = engine
        self._store = Store(self.tables, engine.sync_engine.dialect, history=history)
        self._transactions = Transactions(self._store.backend)
        self._host: AsyncConnection | AsyncSession | None = None
        self._announces = False
        self._commits_itself = False
        self._pace = Pace()

    def bind(self, transaction: AsyncConnection | AsyncSession) -> AsyncSQLAlchemyRepository:
        """As `SQLAlchemyRepository.bind`."""
        return like(self, _transactions=PartOfAnother(self._store.backend), _host=transaction)

    def announcing(self) -> AsyncSQLAlchemyRepository:
        """As `SQLAlchemyRepository.announcing`."""
        return like(self, _announces=self._store.backend.channel is not None)

    async def listen(self) -> AsyncListener:
        """As `SQLAlchemyRepository.listen`."""
        channel = self._store.backend.channel
        if channel is None:
            return AsyncPolling()
        with NothingDone():
            return await AsyncPostgreSQLListener.open(self._engine, channel)

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
            self._commits_itself = line.commits_itself
            make_ready(line, self._store.backend)
        return line

    async def _run(self, work: Callable[[Connection], R]) -> R:
        with NothingDone():
            async with self._connect() as connection:
                return await connection.run_sync(work)

    async def _read(self, work: Work[R]) -> R:
        """Work on a line in AUTOCOMMIT mode, or the host's: straight to the driver where nobody would see the difference."""
        if self._host is not None or not self._commits_itself or is_watched(self._engine.sync_engine):
            return await self._run(lambda connection: work(self._seen(connection)))
        with NothingDone():
            answer: Any = await greenlet_spawn(self._directly, work)
            value: R = answer
            return value

    def _directly(self, work: Work[R]) -> R:
        with Direct(self._engine.sync_engine, self._store.backend.prepare) as line:
            return work(line)

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

    async def _announce(self) -> None:
        if self._host is not None or self._pace.lets_through():
            with suppress(RepositoryError):
                await self._read(self._store.backend.notify)

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
        standing = await self._write(job.id, lambda line: self._store.insert(line, job, record), within)
        if self._announces and standing is None and is_new(job):
            await self._announce()
        return standing

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
        if self._announces and is_queued(transition):
            await self._announce()

    async def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`."""
        answers = await self._drive(bulk.save_many(self._store, transitions))
        if self._announces and any(map(is_queued, transitions)):
            await self._announce()
        return answers

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
        moved = await self._drive(bulk.move_due(self._store, Part(due, until, limit, after, include_request), decide))
        if self._announces and any(map(is_queued, moved.transitions)):
            await self._announce()
        return moved

    async def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        return await self._read(lambda line: self._store.count(line, where))

    async def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        return await self._read(lambda line: self._store.history(line, job_id, after_version))

    async def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        await self._write(job_id, lambda line: self._store.delete(line, job_id, version))
