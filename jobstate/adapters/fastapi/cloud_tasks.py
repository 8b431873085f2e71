"""The route that Cloud Tasks delivers to.

No `from __future__ import annotations`: FastAPI reads the types from the signatures.
"""

from asyncio import Task, create_task, gather
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any, overload

from fastapi import APIRouter, Depends, Request, Response

from jobstate.adapters.cloud_tasks import Answer, async_receive
from jobstate.service import AsyncJobs, Jobs
from jobstate.worker import AsyncHandler, Handler


@overload
def cloud_tasks_router(
    jobs: Jobs, handler: Handler, *, caller: Callable[..., Any], path: str = ..., retry_exceptions: bool = ...
) -> APIRouter: ...


@overload
def cloud_tasks_router(
    jobs: AsyncJobs, handler: AsyncHandler, *, caller: Callable[..., Any], path: str = ..., retry_exceptions: bool = ...
) -> APIRouter: ...


def cloud_tasks_router(
    jobs: Jobs | AsyncJobs,
    handler: Handler | AsyncHandler,
    *,
    caller: Callable[..., Any],
    path: str = "/tasks/run",
    retry_exceptions: bool = True,
) -> APIRouter:
    """A router with one POST, which runs the delivery that it gets, and answers when that is over.

    Args:
        jobs: the service; with `Jobs` each handler runs in a thread of its own.
        handler: as of `run_job`, of the service's colour.
        caller: a dependency that raises HTTPException unless the caller is Cloud Tasks.
        path: of the route.
        retry_exceptions: as of `run_job`.

    A request that is cancelled gives its job back (uvicorn cancels once `timeout_graceful_shutdown` is over), and so does what
    runs still when the application shuts down. The shutdown waits until all of it is saved.
    """
    running = set[Task[Answer]]()

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncGenerator[None]:
        yield
        for task in running:
            task.cancel()
        await gather(*running, return_exceptions=True)

    router = APIRouter(lifespan=lifespan)

    @router.post(path, dependencies=[Depends(caller)], include_in_schema=False)
    async def run(request: Request) -> Response:
        task = create_task(async_receive(jobs, await request.body(), handler, retry_exceptions=retry_exceptions))
        running.add(task)
        task.add_done_callback(running.discard)
        answer = await task
        return Response(status_code=answer.status, headers=answer.headers)

    return router
