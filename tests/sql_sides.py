"""Every driver behind one face: a repository that is called, whatever its colour; and the row as the database has it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event as Signal
from typing import Any

from sqlalchemy import URL, Engine, text

from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository, Tables
from jobstate.lifecycle import creation_record
from jobstate.model import Job
from jobstate.testing.contracts.samples import example
from tests.postgresql import async_engine_of, engine_of
from tests.sql import AUTOMATIC, aiosqlite_engine, sqlite_engine

PREFIX = "faults_"
POSTGRESQL = ("psycopg", "psycopg direct", "psycopg async", "psycopg async direct", "asyncpg", "asyncpg direct")
SQLITE = ("sqlite3", "sqlite3 direct", "aiosqlite")
DRIVERS = (*POSTGRESQL, *SQLITE)


class SyncSide:
    def __init__(self, engine: Engine, tables: Tables) -> None:
        self.engine = engine
        self.repository = SQLAlchemyRepository(engine, tables)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        return getattr(self.repository, name)(*args, **options)

    def close(self) -> None:
        self.engine.dispose()


class AsyncSide:
    """On a loop of its own."""

    def __init__(self, engine: Any, tables: Tables) -> None:
        self.engine = engine
        self.runner = asyncio.Runner()
        self.repository = AsyncSQLAlchemyRepository(engine, tables)

    def call(self, name: str, *args: Any, **options: Any) -> Any:
        within: Callable[[Any], Any] | None = options.get("within")
        if within is not None:

            async def awaited(transaction: Any) -> None:
                await transaction.run_sync(within)

            options["within"] = awaited
        return self.run(getattr(self.repository, name)(*args, **options))

    def run(self, answer: Awaitable[Any]) -> Any:
        async def main() -> Any:
            return await answer

        return self.runner.run(main())

    def close(self) -> None:
        self.run(self.engine.dispose())
        self.runner.close()


def side_of(driver: str, url: URL, folder: Path, **options: Any) -> SyncSide | AsyncSide:
    """A repository through a driver, on tables of these tests' own."""
    tables = Tables(prefix=PREFIX)
    name, _, way = driver.partition(" ")
    options |= AUTOMATIC if way.endswith("direct") else {}
    if name == "sqlite3":
        return SyncSide(sqlite_engine(folder, **options), tables)
    if driver == "aiosqlite":
        return AsyncSide(aiosqlite_engine(folder), tables)
    if name == "psycopg" and not way.startswith("async"):
        return SyncSide(engine_of(url, **options), tables)
    return AsyncSide(async_engine_of(url, f"postgresql+{name}", **options), tables)


class Called:
    """A repository for `Jobs`: a side's, of whatever colour."""

    def __init__(self, side: SyncSide | AsyncSide) -> None:
        self._side = side

    def __getattr__(self, name: str) -> Any:
        return partial(self._side.call, name)

    def move_due(self, *args: Any, **options: Any) -> Any:
        return self._side.call("move_due", *args, **options)


@contextmanager
def opened(driver: str, url: URL, folder: Path, **options: Any) -> Generator[SyncSide | AsyncSide]:
    side = side_of(driver, url, folder, **options)
    try:
        yield side
    finally:
        side.close()


class Truth:
    """What stands in the database, seen past the repository."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._repository = SQLAlchemyRepository(engine, Tables(prefix=PREFIX))

    def prepare(self) -> None:
        self._repository.create_schema()
        with self.engine.begin() as connection:
            for table in ("jobs", "payloads", "history"):
                connection.execute(text(f"DELETE FROM {PREFIX}{table}"))

    def store(self, count: int = 1, **fields: Any) -> list[Job[Any, Any]]:
        """New jobs."""
        jobs = [example(number, **fields) for number in range(count)]
        for job in jobs:
            assert self._repository.insert(job, creation_record(job)) is None
        return jobs

    def execute(self, statement: str, **values: Any) -> Any:
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), values)
            return result.all() if result.returns_rows else None

    def versions(self) -> dict[str, int]:
        """Each job's version, which is its last record's too, and the response's that was written with it."""
        rows = self.execute(
            f"SELECT j.id, j.version, (SELECT max(version) FROM {PREFIX}history h WHERE h.job_id = j.id) FROM {PREFIX}jobs j"
        )
        assert all(version == recorded for _, version, recorded in rows), rows
        records = self.execute(f"SELECT count(*) FROM {PREFIX}history WHERE job_id NOT IN (SELECT id FROM {PREFIX}jobs)")
        payloads = self.execute(f"SELECT count(*) FROM {PREFIX}payloads WHERE job_id NOT IN (SELECT id FROM {PREFIX}jobs)")
        assert (records, payloads) == ([(0,)], [(0,)]), "something was left behind"
        return {job_id: version for job_id, version, _ in rows}


def settled(engine: Engine, when: str) -> None:
    """No transaction is open; a server may still be about to notice that its client has gone."""
    if engine.dialect.name == "sqlite":
        return  # the next write would wait, and fail
    others = (
        "SELECT state, query FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' "
        "AND (state = 'active' OR state LIKE 'idle in transaction%')"
    )
    pause, open_ones = Signal(), list[Any]()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:  # a transaction sees one picture of it
        for _ in range(1_000):
            open_ones = list(connection.execute(text(others)))
            if not open_ones:
                return
            pause.wait(0.005)
    raise AssertionError(f"{when}: {open_ones}")
