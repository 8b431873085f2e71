"""Polling a job through the router, against a bare FastAPI route that reads the same row by hand; and calls on the job of
another organization, against the same calls on one that nobody has.

All are called as ASGI applications in the process: no socket, no client, which would be the same for both. The bare route knows
its caller by the same dependency, looks for the job of its organization only, and answers with the same fields as JSON text,
past FastAPI's encoder, as the router does.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from fastapi import Depends, FastAPI, Header, HTTPException, Response
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
REQUEST = {"scan": "x" * 1_000_000}

_COLUMNS = """
id, status, created_at, started_at, completed_at, expires_at, cancelled, attempt_count, last_attempt_at, last_failure_code,
endpoint, organization_id, error, warnings, metadata, task_name AS cloud_task_name, request_artifacts AS request_gcs_paths
"""
_TEXTS = ("error", "warnings", "metadata", "request_gcs_paths")
_ROW = text(f"SELECT {_COLUMNS} FROM jobstate_jobs WHERE id = :id AND organization_id = :organization_id")


class Call(NamedTuple):
    """A request; `{}` in its path or query is for a job's id."""

    method: str
    path: str
    query: str = ""
    key: bytes = b"org"

    def of(self, job_id: str) -> Call:
        return self._replace(path=self.path.format(job_id), query=self.query.format(job_id))


async def caller(api_key: Annotated[str, Header()]) -> str:
    """The organization."""
    return api_key


Caller = Annotated[str, Depends(caller)]


def _shown(row: Any) -> Response:
    if row is None:
        raise HTTPException(404, "no such job")
    shown = {"object": "job", "request": None, "response": None, **row, "cancelled": bool(row["cancelled"])}
    shown |= {name: json.loads(shown[name]) for name in _TEXTS if isinstance(shown[name], str)}
    return Response(json.dumps(shown), media_type="application/json")


def _bare(engine: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/jobs/{job_id}")
    def poll(job_id: str, organization_id: Caller) -> Response:
        with engine.connect() as connection:
            found = connection.execute(_ROW, {"id": job_id, "organization_id": organization_id})
            return _shown(found.mappings().one_or_none())

    return app


def _async_bare(engine: Any) -> FastAPI:
    app = FastAPI()

    @app.get("/v1/jobs/{job_id}")
    async def poll(job_id: str, organization_id: Caller) -> Response:
        async with engine.connect() as connection:
            found = await connection.execute(_ROW, {"id": job_id, "organization_id": organization_id})
            return _shown(found.mappings().one_or_none())

    return app


def _routed(jobs: Any) -> FastAPI:
    app = FastAPI()
    app.include_router(jobs_router(jobs, organization=caller))
    return app


def _caller(runner: asyncio.Runner, app: FastAPI, call: Call, check: Callable[[int, bytes], None]) -> Callable[[], None]:
    """CALLS of one call, one after the other; the last answer is checked."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": call.method, "scheme": "http",
        "root_path": "", "path": call.path, "raw_path": call.path.encode(), "query_string": call.query.encode(),
        "headers": [(b"host", b"x"), (b"api-key", call.key)], "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
    }  # fmt: skip
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    async def calls() -> None:
        for _ in range(CALLS):
            sent.clear()
            await app(dict(scope), receive, send)
        check(sent[0]["status"], sent[1]["body"])

    return lambda: runner.run(calls())


def _poller(runner: asyncio.Runner, app: FastAPI, job_id: str) -> Callable[[], None]:
    def check(status: int, body: bytes) -> None:
        assert status == 200, body
        assert JobObject.model_validate_json(body, strict=False).id == job_id

    return _caller(runner, app, Call("GET", f"/v1/jobs/{job_id}"), check)


def _compare(title: str, ours: FastAPI, bare: FastAPI, job_id: str, runner: asyncio.Runner) -> None:
    """At least 0.7 times as many requests per second are asked for."""
    routed, by_hand = (_poller(runner, app, job_id) for app in (ours, bare))
    compare(f"{CALLS} polls {title}, the router / a bare route", routed, by_hand, asked=1 / 0.7)


def _compare_tenants(title: str, app: FastAPI, job_id: str, runner: asyncio.Runner) -> None:
    """Calls of another organization than the job's: on this job, and on one at the same place in a list, which nobody has."""

    def caller(call: Call) -> Callable[[], None]:
        listed = call.path == "/v1/jobs"

        def check(status: int, body: bytes) -> None:
            assert status == (200 if listed else 404), body
            assert not listed or json.loads(body)["data"] == []

        return _caller(runner, app, call, check)

    nobodys = job_id[:-1] + ("0" if job_id[-1] != "0" else "1")
    for name, call in {
        "reading": Call("GET", "/v1/jobs/{}", "", b"other"),
        "reading all": Call("GET", "/v1/jobs/{}", "include_request=true&include_response=true", b"other"),
        "listing after": Call("GET", "/v1/jobs", "after={}", b"other"),
        "cancelling": Call("POST", "/v1/jobs/{}/cancel", "", b"other"),
        "retrying": Call("POST", "/v1/jobs/{}/retry", "", b"other"),
    }.items():
        compare(f"{name} {title}, another's job / nobody's", caller(call.of(job_id)), caller(call.of(nobodys)))


def sqlite(folder: Path) -> None:
    """Sync in the threadpool, and async on aiosqlite."""
    file = folder / "jobs.sqlite"
    engine = create_engine(f"sqlite:///{file}", **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository)
    job_id = jobs.create("/x", REQUEST, organization_id="org").id
    with asyncio.Runner() as runner:
        _compare("on SQLite", _routed(jobs), _bare(engine), job_id, runner)
        _compare_tenants("on SQLite", _routed(jobs), job_id, runner)
        other = create_async_engine(f"sqlite+aiosqlite:///{file}", **AUTOMATIC)
        served = AsyncJobs(AsyncSQLAlchemyRepository(other))
        _compare("on aiosqlite", _routed(served), _async_bare(other), job_id, runner)
        _compare_tenants("on aiosqlite", _routed(served), job_id, runner)
        runner.run(other.dispose())
    engine.dispose()


def postgresql(url: URL) -> None:
    """The same on psycopg, and async on asyncpg."""
    engine = engine_of(url, **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository)
    job_id = jobs.create("/x", REQUEST, organization_id="org").id
    with asyncio.Runner() as runner:
        _compare("on psycopg", _routed(jobs), _bare(engine), job_id, runner)
        _compare_tenants("on psycopg", _routed(jobs), job_id, runner)
        other = async_engine_of(url, "postgresql+asyncpg", **AUTOMATIC)
        served = AsyncJobs(AsyncSQLAlchemyRepository(other))
        _compare("on asyncpg", _routed(served), _async_bare(other), job_id, runner)
        _compare_tenants("on asyncpg", _routed(served), job_id, runner)
        runner.run(other.dispose())
    emptied(engine)
    engine.dispose()


def in_folder() -> None:
    """SQLite in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        sqlite(Path(name))
