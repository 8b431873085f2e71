"""procrastinate: its contract, jobs and tasks in one transaction, stops, aborts, and what a killed worker leaves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from procrastinate import App
from sqlalchemy import URL, Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from jobstate.adapters.procrastinate import AsyncProcrastinateDispatcher, ProcrastinateDispatcher
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.model import Delivery
from jobstate.testing.contracts import (
    AsyncDispatcherContract,
    AsyncDispatcherRaces,
    DispatcherContract,
    DispatcherRaces,
)
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.procrastinate_tables import app_of, prepared, work, worked
from tests.sql import AUTOMATIC
from tests.test_contracts import AsyncNotedJobs, NotedJobs


class _Server:
    url: URL

    @pytest.fixture(autouse=True)
    def _server(self, server: URL) -> Iterator[None]:
        self.url = server
        engine = engine_of(server)
        emptied(engine)
        prepared(engine, server)
        yield
        engine.dispose()


class OnProcrastinate(_Server):
    options: dict[str, Any] = {}
    engine: Engine
    app: App
    worker: App
    noted: NotedJobs

    def open_repository(self, folder: Path) -> SQLAlchemyRepository:
        self.engine = engine_of(self.url, **self.options)
        repository = SQLAlchemyRepository(self.engine)
        repository.create_schema()
        return repository

    def open_dispatcher(self, folder: Path) -> ProcrastinateDispatcher:
        self.noted, self.worker, self.app = NotedJobs(), app_of(self.url), app_of(self.url)
        ProcrastinateDispatcher(self.worker).register(cast(Any, self.noted), lambda request, context: None)
        return ProcrastinateDispatcher(self.app)

    def received(self, dispatcher: Any) -> list[Delivery]:
        work(self.worker, concurrency=4)
        return self.noted.taken()

    def close_dispatcher(self, dispatcher: Any) -> None:
        self.app.close()


class TestProcrastinate(OnProcrastinate, DispatcherContract):
    def close_dispatcher(self, dispatcher: Any) -> None:
        super().close_dispatcher(dispatcher)
        self.engine.dispose()


class TestProcrastinateBesideTheDriver(TestProcrastinate):
    """On an engine for the library alone, whose statements go straight to the driver."""

    options = AUTOMATIC


class TestProcrastinateRaces(OnProcrastinate, DispatcherRaces):
    pass


async def _nothing(request: Any, context: Any) -> None:
    """A handler that is never reached."""


class OnAsyncProcrastinate(_Server):
    engine: AsyncEngine
    app: App
    worker: App
    noted: AsyncNotedJobs

    async def open_repository(self, folder: Path) -> AsyncSQLAlchemyRepository:
        self.engine = async_engine_of(self.url)
        repository = AsyncSQLAlchemyRepository(self.engine)
        await repository.create_schema()
        return repository

    async def open_dispatcher(self, folder: Path) -> AsyncProcrastinateDispatcher:
        self.noted, self.worker, self.app = AsyncNotedJobs(), app_of(self.url), app_of(self.url)
        AsyncProcrastinateDispatcher(self.worker).register(cast(Any, self.noted), _nothing)
        await self.app.open_async()
        return AsyncProcrastinateDispatcher(self.app)

    async def received(self, dispatcher: Any) -> list[Delivery]:
        await worked(self.worker, concurrency=4)
        return self.noted.taken()

    async def close_dispatcher(self, dispatcher: Any) -> None:
        await self.app.close_async()


class TestAsyncProcrastinate(OnAsyncProcrastinate, AsyncDispatcherContract):
    async def close_dispatcher(self, dispatcher: Any) -> None:
        await super().close_dispatcher(dispatcher)
        await self.engine.dispose()


class TestAsyncProcrastinateRaces(OnAsyncProcrastinate, AsyncDispatcherRaces):
    pass
