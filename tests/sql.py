"""Repositories on SQL databases, one for each driver, for contracts and tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, event, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.wire import Wire

SPOIL = "UPDATE jobstate_jobs SET status = 'frozen' WHERE id = :id"


def sqlite_engine(folder: Path) -> Engine:
    engine = create_engine(f"sqlite:///{folder / 'jobs.sqlite'}")
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


class OnSQLite:
    """What a contract is given: a repository on a SQLite file."""

    engine: Engine

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = sqlite_engine(folder)
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

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = engine_of(self.url)
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

    async def open_repository(self, folder: Path) -> AsyncSQLAlchemyRepository:
        self.engine = async_engine_of(self.url, self.driver)
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
