"""A small ASGI host of the job API, to try it all out: `python -m jobstate serve`.

The demo's endpoint, workers in the process, API keys from the environment, sweeps, and a stop in good order: what runs when
SIGTERM comes is given back.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from threading import Event
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.security import APIKeyHeader
from sqlalchemy import Engine

from jobstate.adapters.fastapi import jobs_router
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.database import open_engine
from jobstate.demo.extract import EXTRACT, extractor
from jobstate.inprocess import ThreadDispatcher
from jobstate.maintenance import run_maintenance
from jobstate.service import Jobs
from jobstate.worker import Handler

API_KEYS = "JOBSTATE_API_KEYS"
"""The variable with the API keys: `KEY=ORGANIZATION`, separated by commas."""

SWEEP_EVERY = 5.0
"""Seconds from the beginning of one sweep to the next."""

_PORTS = 65_535
_DAY = 86_400


def api_keys(text: str | None) -> dict[str, str]:
    """Organizations by API key. Raises ValueError when there are none, or for a pair that is none."""
    pairs = [pair.strip().partition("=") for pair in (text or "").split(",") if pair.strip()]
    if not pairs or not all(key and organization for key, _, organization in pairs):
        raise ValueError(f"{API_KEYS}: set it to KEY=ORGANIZATION, or to several of these separated by commas")
    return {key: organization for key, _, organization in pairs}


def demo_handler() -> Handler:
    """The demo's, with the exchange rates that come with the package."""
    return extractor(Path(str(files("jobstate.demo") / "rates.csv")))


_HEADER = APIKeyHeader(name="Api-Key", auto_error=False)


def _caller(keys: Mapping[str, str]) -> Callable[..., Awaitable[str]]:
    async def caller(
        api_key: Annotated[str | None, Depends(_HEADER)], access_token: Annotated[str | None, Query()] = None
    ) -> str:
        given = (api_key or access_token or "").encode()
        for key, organization in keys.items():
            if hmac.compare_digest(key.encode(), given):
                return organization
        raise HTTPException(401, {"code": "unauthorized", "message": "give an API key in the header Api-Key", "details": None})

    return caller


def make_app(
    engine: Engine, keys: Mapping[str, str], handler: Handler, *, workers: int, grace: float, every: float = SWEEP_EVERY
) -> FastAPI:
    """The host as an ASGI application; its workers run from its start to its end. Raises RepositoryError without a database."""
    dispatcher = ThreadDispatcher(workers=workers)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository, dispatcher, endpoints=[EXTRACT])

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        dispatcher.start(jobs, handler)
        stop = Event()
        maintenance = asyncio.create_task(asyncio.to_thread(run_maintenance, jobs, every, stop=stop))
        try:
            yield
        finally:
            stop.set()
            await maintenance
            await asyncio.to_thread(partial(dispatcher.stop, grace=grace))
            engine.dispose()

    app = FastAPI(title="jobstate", lifespan=lifespan)
    app.include_router(jobs_router(jobs, organization=_caller(keys)))
    return app


def serve(
    database: str,
    keys: Mapping[str, str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 4,
    grace: float = 10.0,
    handler: Handler | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. What runs then has `grace` seconds to finish, and is given back after that.

    Raises ValueError for a port that there is not, and for less than 0 seconds or more than a day.
    """
    if not 0 <= port <= _PORTS:
        raise ValueError(f"port: a number from 0 to {_PORTS} is needed, not {port}; 0 takes any that is free")
    if not 0 <= grace <= _DAY:
        raise ValueError(f"grace: seconds from 0 to {_DAY} are needed, not {grace}")
    app = make_app(open_engine(database), keys, handler or demo_handler(), workers=workers, grace=grace)
    uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=max(1, round(grace)))
