"""Repositories on SQL databases, one for each driver, for contracts and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.wire import Wire

SPOIL = "UPDATE jobstate_jobs SET status = 'frozen' WHERE id = :id"


AUTOMATIC: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}
"""An engine for the library alone: where nobody listens to it, statements go straight to the driver."""


def sqlite_engine(folder: Path, **options: Any) -> Engine:
    engine = create_engine(f"sqlite:///{folder / 'jobs.sqlite'}", **options)
    event.listen(engine, "connect", _without_sync)
    return engine


def aiosqlite_engine(folder: Path) -> AsyncEngine:
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'jobs.sqlite'}")
    event.listen(engine.sync_engine, "connect", _without_sync)
    return engine


def _without_sync(connection: Any, _record: Any) -> None:
    """No test of these cuts the power."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous = OFF")
    cursor.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Engine]]:
    """As many engines on one empty database as are asked for."""
    made: list[Engine] = []

    def make() -> Engine:
        url: URL | None = request.getfixturevalue("server") if request.param == "postgresql" else None
        made.append(sqlite_engine(tmp_path) if url is None else engine_of(url))
        return made[-1]

    if request.param == "postgresql":
        emptied(make())
    yield make
    for engine in made:
        engine.dispose()


def shape(engine: Engine) -> list[tuple[str, ...]]:
    """All that stands in the database under the library's prefix, as the database itself describes it."""
    asked = {
        "sqlite": ["SELECT name, sql FROM sqlite_master WHERE name LIKE 'jobstate%'"],
        "postgresql": [
            "SELECT table_name, column_name, ordinal_position, data_type, character_maximum_length, is_nullable,"
            " collation_name, column_default FROM information_schema.columns WHERE table_name LIKE 'jobstate%'",
            "SELECT tablename, indexdef FROM pg_indexes WHERE tablename LIKE 'jobstate%'",
            "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint WHERE conname LIKE 'jobstate%'",
        ],
    }[engine.dialect.name]
    with engine.connect() as connection:
        rows = [row for question in asked for row in connection.execute(text(question))]
    return sorted(tuple(_plain(value) for value in row) for row in rows)


def _plain(value: object) -> str:
    return " ".join(str(value).split()).replace("( ", "(").replace(" )", ")")


class OnSQLite:
    """What a contract is given: a repository on a SQLite file."""

    engine: Engine
    options: dict[str, Any] = {}

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = sqlite_engine(folder, **self.options)
        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        return repository

    def close_repository(self, repository: Any) -> None:
        self.engine.dispose()

    def spoil(self, repository: Any, job_id: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(SPOIL), {"id": job_id})


class OnAioSQLite:
    """The same, awaited."""

    engine: AsyncEngine

    async def open_repository(self, folder: Path) -> AsyncSQLAlchemyRepository:
        self.engine = aiosqlite_engine(folder)
        repository = AsyncSQLAlchemyRepository(self.engine)
        await repository.create_schema()
        return repository

    async def close_repository(self, repository: Any) -> None:
        await self.engine.dispose()

    async def spoil(self, repository: Any, job_id: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(SPOIL), {"id": job_id})


class _OnServer:
    """A PostgreSQL server behind a wire that can lose an answer."""

    url: URL
    wire: Wire

    @pytest.fixture(autouse=True)
    def _server(self, server: URL, wire: Wire) -> None:
        self.wire = wire
        self.url = server.set(host="127.0.0.1", port=wire.port, query={})
        engine = engine_of(server)
        emptied(engine)
        engine.dispose()


class OnPostgreSQL(_OnServer):
    """What a contract is given: a repository on PostgreSQL, through psycopg."""

    engine: Engine
    options: dict[str, Any] = {}

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = engine_of(self.url, **self.options)
        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        return repository

    def close_repository(self, repository: Any) -> None:
        self.engine.dispose()

    def spoil(self, repository: Any, job_id: str) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(SPOIL), {"id": job_id})

    def lose(self, repository: Any) -> None:
        self.wire.lose()


class OnAsyncPostgreSQL(_OnServer):
    """The same, awaited, through a driver of one's choice."""

    engine: AsyncEngine
    driver = "postgresql+psycopg"
    options: dict[str, Any] = {}

    async def open_repository(self, folder: Path) -> AsyncSQLAlchemyRepository:
        self.engine = async_engine_of(self.url, self.driver, **self.options)
        repository = AsyncSQLAlchemyRepository(self.engine)
        await repository.create_schema()
        return repository

    async def close_repository(self, repository: Any) -> None:
        await self.engine.dispose()

    async def spoil(self, repository: Any, job_id: str) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(SPOIL), {"id": job_id})

    async def lose(self, repository: Any) -> None:
        self.wire.lose()


class OnAsyncpg(OnAsyncPostgreSQL):
    """Through asyncpg."""

    driver = "postgresql+asyncpg"
