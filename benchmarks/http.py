"""Polling a job through the router, against a bare FastAPI route that reads the same row by hand.

Both are called as ASGI applications in the process: no socket, no client, which would be the same for both. Both know their
caller by the same dependency, look for the job of its organization only, and answer with the same fields.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy import URL, create_engine, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.measure import compare
from jobstate import AsyncJobs, Jobs
from jobstate.adapters.fastapi import jobs_router
from jobstate.adapters.fastapi.wire import JobObject
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.sql import AUTOMATIC

CALLS = 100

_COLUMNS = """
id, status, created_at, started_at, completed_at, expires_at, cancelled, attempt_count, last_attempt_at, last_failure_code,
endpoint, organization_id, error, warnings, metadata, task_name AS cloud_task_name, request_artifacts AS request_gcs_paths
"""
_TEXTS = ("error", "warnings", "metadata", "request_gcs_paths")
_ROW = text(f"SELECT {_COLUMNS} FROM jobstate_jobs WHERE id = :id AND organization_id = :organization_id")


async def caller(api_key: Annotated[str, Header()]) -> str:
    """The organization."""
    return api_key


Caller = Annotated[str, Depends(caller)]


def _shown(row: Any) -> dict[str, Any]:
    if row is None:
        raise HTTPException(404, "no such job")
    shown = {"object": "job", "request": None, "response": None, **row, "cancelled": bool(row["cancelled"])}
    return {**shown, **{name: json.loads(shown[name]) for name in _TEXTS if isinstance(shown[name], str)}}


def _bare(engine: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/jobs/{job_id}")
    def poll(job_id: str, organization_id: Caller) -> Any:
        with engine.connect() as connection:
            found = connection.execute(_ROW, {"id": job_id, "organization_id": organization_id})
            return _shown(found.mappings().one_or_none())

    return app


def _async_bare(engine: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/jobs/{job_id}")
    async def poll(job_id: str, organization_id: Caller) -> Any:
        async with engine.connect() as connection:
            found = await connection.execute(_ROW, {"id": job_id, "organization_id": organization_id})
            return _shown(found.mappings().one_or_none())

    return app


def _routed(jobs: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(jobs_router(jobs, organization=caller))
    return app


def _poller(runner: asyncio.Runner, app: FastAPI, job_id: str) -> Callable[[], None]:
    """CALLS polls, one after the other."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "root_path": "",
        "path": f"/v1/jobs/{job_id}", "raw_path": f"/v1/jobs/{job_id}".encode(), "query_string": b"",
        "headers": [(b"host", b"x"), (b"api-key", b"org")], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def polls() -> None:
        for _ in range(CALLS):
            sent.clear()
            await app(dict(scope), receive, send)
        assert sent[0]["status"] == 200, sent
        assert JobObject.model_validate_json(sent[1]["body"], strict=False).id == job_id

    return lambda: runner.run(polls())


def _compare(title: str, ours: FastAPI, bare: FastAPI, job_id: str, runner: asyncio.Runner) -> None:
    """The time of the bare one first, so that the ratio is that of requests per second."""
    compare(f"{CALLS} polls {title}, a bare route / the router", _poller(runner, bare, job_id), _poller(runner, ours, job_id))


def sqlite(folder: Path) -> None:
    """Sync in the threadpool, and async on aiosqlite."""
    file = folder / "jobs.sqlite"
    engine = create_engine(f"sqlite:///{file}", **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository)
    job_id = jobs.create("/x", {}, organization_id="org").id
    with asyncio.Runner() as runner:
        _compare("on SQLite", _routed(jobs), _bare(engine), job_id, runner)
        other = create_async_engine(f"sqlite+aiosqlite:///{file}", **AUTOMATIC)
        served = AsyncJobs(AsyncSQLAlchemyRepository(other))
        _compare("on aiosqlite", _routed(served), _async_bare(other), job_id, runner)
        runner.run(other.dispose())
    engine.dispose()


def postgresql(url: URL) -> None:
    """The same on psycopg, and async on asyncpg."""
    engine = engine_of(url, **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository)
    job_id = jobs.create("/x", {}, organization_id="org").id
    with asyncio.Runner() as runner:
        _compare("on psycopg", _routed(jobs), _bare(engine), job_id, runner)
        other = async_engine_of(url, "postgresql+asyncpg", **AUTOMATIC)
        served = AsyncJobs(AsyncSQLAlchemyRepository(other))
        _compare("on asyncpg", _routed(served), _async_bare(other), job_id, runner)
        runner.run(other.dispose())
    emptied(engine)
    engine.dispose()


def in_folder() -> None:
    """SQLite in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        sqlite(Path(name))
