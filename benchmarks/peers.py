"""A whole life on one PostgreSQL, against those who also keep their queue there: enqueued one by one, fetched, run, finished.

Each has one worker in this process, which fetches or runs ten jobs at a time. The time goes from the first enqueue to the
moment when a connection of its own sees all finished, with the start of the worker between (that of dbos works all the time).
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import psycopg
from sqlalchemy import URL

from benchmarks.measure import compare_seconds
from jobstate import AsyncContext, AsyncJobs, AsyncWorker, Jobs, Worker
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.sql import AUTOMATIC

JOBS = 500
AT_ONCE = 10
PAYLOAD = {"text": "to be or not to be"}
OURS: dict[str, Any] = {**AUTOMATIC, "pool_size": AT_ONCE + 2, "pool_use_lifo": True}
"""An engine for the library alone, as docs/sql.md has it."""


class Contestant(ABC):
    """One way to keep a queue in PostgreSQL. Seconds of a round: `enqueue` and the work until `finished` says all."""

    name: str
    finished: str
    """How many are finished: a query."""

    def __init__(self, url: URL) -> None:
        self.url = url
        self.dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)

    @abstractmethod
    def open(self) -> None:
        """Its tables, and what it keeps between rounds."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""

    @abstractmethod
    def empty(self) -> None:
        """Nothing in its tables; untimed."""

    @abstractmethod
    def enqueue(self) -> None:
        """All jobs, one by one."""

    @abstractmethod
    def start(self) -> Callable[[], None]:
        """A worker: what stops it."""

    def round(self) -> float:
        """Seconds from the first enqueue until all is finished."""
        self.empty()
        with psycopg.connect(self.dsn, autocommit=True) as seen:
            begin = time.perf_counter()
            self.enqueue()
            stop = self.start()
            while (seen.execute(self.finished.encode()).fetchone() or (0,))[0] < JOBS:
                time.sleep(0.005)
            end = time.perf_counter()
        stop()
        return end - begin


class Jobstate(Contestant):
    name = "jobstate"
    finished = "SELECT count(*) FROM jobstate_jobs WHERE status = 'completed'"

    def open(self) -> None:
        self.engine = engine_of(self.url, **OURS)
        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        self.jobs = Jobs(repository)

    def close(self) -> None:
        self.engine.dispose()

    def empty(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE jobstate_jobs, jobstate_payloads, jobstate_history")

    def enqueue(self) -> None:
        ours = self.jobs.for_organization("org")
        for _ in range(JOBS):
            ours.create("/v1/words", PAYLOAD)

    def start(self) -> Callable[[], None]:
        worker = Worker(self.jobs, lambda request, _: len(request["text"]), concurrency=AT_ONCE)
        thread = threading.Thread(target=worker.run)
        thread.start()

        def stop() -> None:
            worker.stop()
            thread.join()

        return stop


class _InLoop(Contestant):
    """A peer that lives in an event loop: a thread of its own, between rounds too."""

    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.run(self.opened())

    def close(self) -> None:
        self.run(self.closed())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result()

    async def opened(self) -> None: ...

    async def closed(self) -> None: ...


class AsyncJobstate(_InLoop):
    """Ours in an event loop, on asyncpg."""

    name = "jobstate, async"
    finished = Jobstate.finished
    empty = Jobstate.empty

    async def opened(self) -> None:
        self.engine = async_engine_of(self.url, "postgresql+asyncpg", **OURS)
        repository = AsyncSQLAlchemyRepository(self.engine)
        await repository.create_schema()
        self.jobs = AsyncJobs(repository)

    async def closed(self) -> None:
        await self.engine.dispose()

    def enqueue(self) -> None:
        async def all_of_them() -> None:
            ours = self.jobs.for_organization("org")
            for _ in range(JOBS):
                await ours.create("/v1/words", PAYLOAD)

        self.run(all_of_them())

    def start(self) -> Callable[[], None]:
        async def words(request: Any, _: AsyncContext) -> int:
            return len(request["text"])

        worker = AsyncWorker(self.jobs, words, concurrency=AT_ONCE)
        working = asyncio.run_coroutine_threadsafe(worker.run(), self.loop)

        def stop() -> None:
            worker.stop()
            working.result()

        return stop


class Procrastinate(_InLoop):
    name = "procrastinate"
    finished = "SELECT count(*) FROM procrastinate_jobs WHERE status = 'succeeded'"

    async def opened(self) -> None:
        from procrastinate import App, PsycopgConnector

        self.app = App(connector=PsycopgConnector(conninfo=self.dsn, max_size=AT_ONCE + 2))
        await self.app.open_async()
        await self.app.schema_manager.apply_schema_async()

        @self.app.task(name="words")
        async def words(text: str) -> int:
            return len(text)

        self.words = words

    async def closed(self) -> None:
        await self.app.close_async()

    def empty(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE procrastinate_jobs CASCADE")

    def enqueue(self) -> None:
        async def all_of_them() -> None:
            for _ in range(JOBS):
                await self.words.defer_async(**PAYLOAD)

        self.run(all_of_them())

    def start(self) -> Callable[[], None]:
        options: Any = {"concurrency": AT_ONCE, "wait": False, "install_signal_handlers": False}
        working = asyncio.run_coroutine_threadsafe(self.app.run_worker_async(**options), self.loop)
        return lambda: working.result()


class PgQueuer(_InLoop):
    name = "pgqueuer"
    finished = "SELECT count(*) FROM pgqueuer_log WHERE status = 'successful'"

    async def opened(self) -> None:
        import asyncpg
        from pgqueuer.db import AsyncpgDriver
        from pgqueuer.queries import Queries

        self.connection = await asyncpg.connect(self.dsn)
        self.queries = Queries(AsyncpgDriver(self.connection))
        await self.queries.install()

    async def closed(self) -> None:
        await self.connection.close()

    def empty(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE pgqueuer, pgqueuer_log")

    def enqueue(self) -> None:
        async def all_of_them() -> None:
            for _ in range(JOBS):
                await self.queries.enqueue("words", b'{"text": "to be or not to be"}')

        self.run(all_of_them())

    def start(self) -> Callable[[], None]:
        managers: list[Any] = []

        async def work() -> None:
            import asyncpg
            from pgqueuer.db import AsyncpgDriver
            from pgqueuer.qm import QueueManager
            from pgqueuer.queries import Queries

            connection = await asyncpg.connect(self.dsn)
            manager = QueueManager(Queries(AsyncpgDriver(connection)))

            @manager.entrypoint("words")
            async def words(job: Any) -> None:
                len(job.payload)

            managers.append(manager)
            await manager.run(batch_size=AT_ONCE)
            if not connection.is_closed():
                await connection.close()

        working = asyncio.run_coroutine_threadsafe(work(), self.loop)

        def stop() -> None:
            self.loop.call_soon_threadsafe(managers[0].shutdown.set)
            working.result()

        return stop


class Dbos(Contestant):
    name = "dbos"
    finished = "SELECT count(*) FROM dbos.workflow_status WHERE status = 'SUCCESS' AND queue_name = 'words'"

    def open(self) -> None:
        from dbos import DBOS

        DBOS(config={"name": "words", "system_database_url": self.dsn, "log_level": "ERROR"})

        @DBOS.workflow()
        def words(text: str) -> int:
            return len(text)

        self.words = words
        DBOS.launch()
        DBOS.register_queue("words", worker_concurrency=AT_ONCE, polling_interval_sec=0.01)

    def close(self) -> None:
        from dbos import DBOS

        DBOS.destroy()

    def empty(self) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("TRUNCATE dbos.workflow_status CASCADE")

    def enqueue(self) -> None:
        from dbos import DBOS

        for _ in range(JOBS):
            DBOS.enqueue_workflow("words", self.words, PAYLOAD["text"])

    def start(self) -> Callable[[], None]:
        return lambda: None  # it works all the time


PEERS: tuple[type[Contestant], ...] = (PgQueuer, Procrastinate, Dbos)


def lives(url: URL, kind: str, *more: type[Contestant]) -> None:
    """Ours of either colour against each peer, in turn."""
    engine = engine_of(url)
    emptied(engine)
    engine.dispose()
    colours = (Jobstate(url), AsyncJobstate(url))
    for ours in colours:
        ours.open()
    for make in (*PEERS, *more):
        peer = make(url)
        peer.open()
        for ours in colours:
            title = f"a life, one by one and {AT_ONCE} at once, {kind}: {ours.name} / {peer.name}"
            compare_seconds(title, ours.round, peer.round, units=JOBS, rounds=5, asked=1.0)
        peer.close()
    for ours in colours:
        ours.close()
