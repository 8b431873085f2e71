"""A task of procrastinate, and a call of Cloud Tasks, that run a job, against bare ones. Jobs are on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from procrastinate import App
from sqlalchemy import URL

from benchmarks.measure import compare
from jobstate import AsyncJobs, Delivery, Jobs
from jobstate.adapters.fastapi.cloud_tasks import cloud_tasks_router
from jobstate.adapters.procrastinate import AsyncProcrastinateDispatcher, ProcrastinateDispatcher
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.procrastinate_tables import app_of, prepared
from tests.sql import AUTOMATIC

TASKS = 50
"""In each round, of each kind."""


def _nothing(_request: Any, _context: Any) -> None:
    """A plain handler."""


async def _async_nothing(_request: Any, _context: Any) -> None:
    """An async one."""


def _create(jobs: Jobs) -> list[Delivery]:
    return [jobs.create("/x", {}, organization_id="org").delivery for _ in range(TASKS)]


def _worker(runner: asyncio.Runner, app: App, queue: str) -> Callable[[], None]:
    """A worker that runs what waits in a queue, one by one."""
    options: Any = {"wait": False, "install_signal_handlers": False, "listen_notify": False}

    def work() -> None:
        runner.run(app.run_worker_async(queues=[queue], **options))

    return work


def procrastinate(url: URL) -> None:
    """An async handler in procrastinate's loop, and a plain one in a thread."""
    engine, async_engine = engine_of(url, **AUTOMATIC), async_engine_of(url, **AUTOMATIC)
    prepared(engine, url)
    SQLAlchemyRepository(engine).create_schema()
    app, creating = app_of(url), app_of(url)
    sync = ProcrastinateDispatcher(app, task="sync", queue="sync")
    sync.register(Jobs(SQLAlchemyRepository(engine), sync), _nothing)
    awaited = AsyncProcrastinateDispatcher(app, task="async", queue="async")
    awaited.register(AsyncJobs(AsyncSQLAlchemyRepository(async_engine), awaited), _async_nothing)

    @app.task(name="bare", queue="bare")
    def bare(job_id: str, run: int) -> None: ...

    @app.task(name="async_bare", queue="async_bare")
    async def async_bare(job_id: str, run: int) -> None: ...

    def fill(bare: str, ours: str) -> Callable[[], object]:
        jobs = Jobs(SQLAlchemyRepository(engine), ProcrastinateDispatcher(creating, task=ours, queue=ours))

        def before() -> None:
            prepared(engine, url)
            arguments: list[Any] = [{"job_id": "x", "run": 1}] * TASKS
            creating.configure_task(bare, queue=bare).batch_defer(*arguments)
            _create(jobs)

        return before

    with asyncio.Runner() as runner, creating.open():
        runner.run(app.open_async().__aenter__())
        for kind, ours in (("async", "async"), ("plain", "sync")):
            plain = "bare" if ours == "sync" else "async_bare"
            before = fill(plain, ours)
            title = f"{TASKS} tasks of procrastinate, {kind}, that run a job / bare"
            compare(title, _worker(runner, app, ours), _worker(runner, app, plain), before=before)
        runner.run(app.close_async())
        runner.run(async_engine.dispose())
    emptied(engine)
    engine.dispose()


def cloud_tasks(url: URL) -> None:
    """The route, called as an ASGI application: no socket, no client, which would be the same for both."""
    engine, async_engine = engine_of(url, **AUTOMATIC), async_engine_of(url, **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs, waiting = Jobs(repository), list[Delivery]()
    served: Any = {"async": AsyncJobs(AsyncSQLAlchemyRepository(async_engine)), "plain": jobs}
    handlers: Any = {"async": _async_nothing, "plain": _nothing}
    bare = FastAPI()

    @bare.post("/tasks/run")
    async def run(request: Request) -> Response:
        await request.body()
        return Response()

    with asyncio.Runner() as runner:
        for kind, face in served.items():
            app = FastAPI()
            app.include_router(cloud_tasks_router(face, handlers[kind], caller=lambda: None))

            def before() -> None:
                waiting[:] = _create(jobs)

            title = f"{TASKS} calls of the route of Cloud Tasks, {kind}, that run a job / bare"
            compare(title, _caller(runner, app, waiting), _caller(runner, bare, waiting), before=before)
        runner.run(async_engine.dispose())
    emptied(engine)
    engine.dispose()


def _caller(runner: asyncio.Runner, app: FastAPI, waiting: list[Delivery]) -> Callable[[], None]:
    """Calls with all that waits, one after the other."""
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": "",
        "path": "/tasks/run", "raw_path": b"/tasks/run", "query_string": b"", "headers": [(b"host", b"x")],
        "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 9),
    }  # fmt: skip

    async def call(delivery: Delivery) -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": delivery.model_dump_json().encode(), "more_body": False}

        async def send(message: Any) -> None:
            assert message.get("status", 200) == 200, message

        await app(dict(scope), receive, send)

    async def calls() -> None:
        for delivery in waiting:
            await call(delivery)

    return lambda: runner.run(calls())
