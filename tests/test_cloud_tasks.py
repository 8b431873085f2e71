"""Cloud Tasks: its contract over gRPC and HTTP, names, times, answers, and a stop of the host."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, cast

import pytest
from fastapi import FastAPI, Header, HTTPException
from google.cloud.tasks_v2 import OidcToken

from jobstate.adapters.cloud_tasks import AsyncCloudTasksDispatcher, CloudTasksDispatcher
from jobstate.adapters.fastapi.cloud_tasks import cloud_tasks_router
from jobstate.model import Delivery
from jobstate.testing.contracts import (
    AsyncDispatcherContract,
    AsyncDispatcherRaces,
    DispatcherContract,
    DispatcherRaces,
)
from tests.cloud_tasks import QUEUE, CloudTasks, async_client_of, client_of
from tests.test_contracts import NO_DATABASE, NotedJobs
from tests.web import serving

EMAIL = "tasks@example.iam.gserviceaccount.com"


def only_tasks(authorization: Annotated[str | None, Header()] = None) -> None:
    if authorization != f"Bearer {EMAIL}":
        raise HTTPException(401)


@contextmanager
def running(**options: Any) -> Generator[CloudTasks]:
    server = CloudTasks(**options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture
def cloud() -> Iterator[CloudTasks]:
    with running() as server:
        yield server


class OnCloudTasks:
    """A worker on loopback, which notes what is delivered to it."""

    cloud: CloudTasks
    noted: NotedJobs
    address: str

    @pytest.fixture(autouse=True)
    def _served(self, cloud: CloudTasks) -> Iterator[None]:
        self.cloud, self.noted = cloud, NotedJobs()
        app = FastAPI()
        app.include_router(cloud_tasks_router(cast(Any, self.noted), lambda request, context: None, caller=only_tasks))
        with serving(app) as self.address:
            yield

    def options(self) -> Any:
        return {
            "queue": QUEUE,
            "url": f"{self.address}/tasks/run",
            "oidc_token": OidcToken(service_account_email=EMAIL),
        }


class Called(OnCloudTasks):
    def open_dispatcher(self, folder: Path) -> CloudTasksDispatcher:
        return CloudTasksDispatcher(client_of(self.cloud.address), **self.options())

    def received(self, dispatcher: Any) -> list[Delivery]:
        return self.noted.taken()

    def close_dispatcher(self, dispatcher: Any) -> None:
        dispatcher._client.transport.close()


class TestCloudTasks(Called, DispatcherContract):
    lacks = NO_DATABASE


class TestCloudTasksRaces(Called, DispatcherRaces):
    pass


class Awaited(OnCloudTasks):
    async def open_dispatcher(self, folder: Path) -> AsyncCloudTasksDispatcher:
        return AsyncCloudTasksDispatcher(async_client_of(self.cloud.address), **self.options())

    async def received(self, dispatcher: Any) -> list[Delivery]:
        return self.noted.taken()

    async def close_dispatcher(self, dispatcher: Any) -> None:
        await dispatcher._client.transport.close()


class TestAsyncCloudTasks(Awaited, AsyncDispatcherContract):
    lacks = NO_DATABASE


class TestAsyncCloudTasksRaces(Awaited, AsyncDispatcherRaces):
    pass
