"""Dispatchers on Google Cloud Tasks, and what a worker answers to its HTTP requests. Extra: `cloud_tasks`.

A task is a POST of job id and run, as JSON, to a route of the host's. Cloud Tasks repeats it until the answer is 2xx, as the
queue's retry configuration says; so only a delivery that is to come again is answered otherwise, and how often a job is tried
is the job's own. A request that outlives the task's deadline is repeated, too, and its handler goes on: what comes meanwhile
is dropped.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from time import time
from typing import Any, Generic, NamedTuple, TypeVar

from google.api_core.exceptions import AlreadyExists, NotFound, ServiceUnavailable
from google.api_core.retry import AsyncRetry, Retry, if_exception_type
from google.cloud.tasks_v2 import (
    CloudTasksAsyncClient,
    CloudTasksClient,
    CreateTaskRequest,
    DeleteTaskRequest,
    HttpMethod,
    HttpRequest,
    OidcToken,
    Task,
)
from pydantic import ValidationError

from jobstate.beside import run_job_in_thread
from jobstate.model import Delivery
from jobstate.service import AsyncJobs, Jobs
from jobstate.worker import AsyncHandler, Handler, RunFate, RunResult, async_run_job, run_job

_JSON = {"Content-Type": "application/json"}


ClientT = TypeVar("ClientT")


class _Queue(Generic[ClientT]):
    """What both colours have in common: the requests."""

    transactional = False
    _retry: type[Retry] | type[AsyncRetry]

    def __init__(
        self,
        client: ClientT,
        queue: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        oidc_token: OidcToken | None = None,
        deadline: timedelta = timedelta(minutes=30),
        timeout: float = 5.0,
    ) -> None:
        self._client: Any = client  # its methods are typed in part
        self._queue = queue
        self._target = HttpRequest(
            url=url, http_method=HttpMethod.POST, headers={**_JSON, **(headers or {})}, oidc_token=oidc_token
        )
        self._deadline = deadline
        again = self._retry(if_exception_type(ServiceUnavailable), initial=0.1, maximum=1.0, timeout=timeout)
        self._call: Any = {"timeout": timeout, "retry": again}

    def name(self, task_name: str) -> str:
        """The task's full name in Cloud Tasks, which is slow with names that begin alike: a hash comes first."""
        start = f"{self._queue}/tasks/"
        return task_name if task_name.startswith(start) else f"{start}{_hash(task_name)}-{task_name}"

    def _create(self, delivery: Delivery, task_name: str, not_before: int | None) -> CreateTaskRequest:
        target = HttpRequest(self._target)
        target.body = delivery.model_dump_json().encode()
        at = None if not_before is None else datetime.fromtimestamp(not_before, UTC)
        name = self.name(task_name)
        task = Task(name=name, http_request=target, dispatch_deadline=self._deadline, schedule_time=at)
        return CreateTaskRequest(parent=self._queue, task=task)

    def _delete(self, task_name: str) -> DeleteTaskRequest:
        return DeleteTaskRequest(name=self.name(task_name))


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=4).hexdigest()


class CloudTasksDispatcher(_Queue[CloudTasksClient]):
    """A `Dispatcher` whose deliveries are HTTP tasks of a queue (`projects/P/locations/L/queues/Q`).

    Args:
        client: Google's client, of the process that uses it: it outlives no fork.
        queue: the queue's full name.
        url: the route of the host's that takes deliveries.
        headers: of each request.
        oidc_token: who calls, for the route to check.
        deadline: from 15 seconds to 30 minutes; Cloud Tasks waits no longer for an answer, and calls again.
        timeout: seconds that a caller waits for Cloud Tasks; while it is unavailable, it is asked again.

    A task is named after the `task_name`. Cloud Tasks refuses a name for hours after its task is gone: that is taken as done.
    """

    _retry = Retry

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`; answers the task's full name. Raises google.api_core's GoogleAPIError."""
        return self._send(self._create(delivery, task_name, None))

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `dispatch`, not delivered before a time (Unix seconds), which Cloud Tasks takes up to 30 days ahead."""
        return self._send(self._create(delivery, task_name, not_before))

    def _send(self, request: CreateTaskRequest) -> str:
        with suppress(AlreadyExists):
            self._client.create_task(request, **self._call)
        return request.task.name

    def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`: a task that was not delivered yet is deleted."""
        with suppress(NotFound):
            self._client.delete_task(self._delete(task_name), **self._call)

    def register(self, jobs: Jobs, handler: Handler, *, retry_exceptions: bool = True) -> Callable[[bytes], Answer]:
        """What a route calls with a request's body: `receive`, with these."""
        return lambda body: receive(jobs, body, handler, retry_exceptions=retry_exceptions)


class AsyncCloudTasksDispatcher(_Queue[CloudTasksAsyncClient]):
    """An `AsyncDispatcher`: as `CloudTasksDispatcher`, with Google's async client."""

    _retry = AsyncRetry

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `CloudTasksDispatcher.dispatch`."""
        return await self._send(self._create(delivery, task_name, None))

    async def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `CloudTasksDispatcher.dispatch_at`."""
        return await self._send(self._create(delivery, task_name, not_before))

    async def _send(self, request: CreateTaskRequest) -> str:
        with suppress(AlreadyExists):
            await self._client.create_task(request, **self._call)
        return request.task.name

    async def revoke(self, task_name: str) -> None:
        """As `CloudTasksDispatcher.revoke`."""
        with suppress(NotFound):
            await self._client.delete_task(self._delete(task_name), **self._call)

    def register(
        self, jobs: AsyncJobs, handler: AsyncHandler, *, retry_exceptions: bool = True
    ) -> Callable[[bytes], Awaitable[Answer]]:
        """What a route awaits with a request's body: `async_receive`, with these."""
        return lambda body: async_receive(jobs, body, handler, retry_exceptions=retry_exceptions)


class Answer(NamedTuple):
    """What a route is to answer: an HTTP status, and headers; a body says nothing to Cloud Tasks."""

    status: int
    headers: dict[str, str]


def receive(jobs: Jobs, body: bytes, handler: Handler, *, retry_exceptions: bool = True) -> Answer:
    """Run the delivery in a request's body, as `run_job`.

    Answers 503 when it is to come again, with `Retry-After` when that is known; 400 when the body is no delivery; else 200.
    """
    delivery = _delivery(body)
    return _NONE if delivery is None else _answer(run_job(jobs, delivery, handler, retry_exceptions=retry_exceptions))


async def async_receive(
    jobs: Jobs | AsyncJobs, body: bytes, handler: Handler | AsyncHandler, *, retry_exceptions: bool = True
) -> Answer:
    """`receive`, awaited. A cancelled task gives the job back. A plain handler, of `Jobs`, runs in a thread of its own."""
    delivery = _delivery(body)
    if delivery is None:
        return _NONE
    run: Any = async_run_job if isinstance(jobs, AsyncJobs) else run_job_in_thread
    return _answer(await run(jobs, delivery, handler, retry_exceptions=retry_exceptions))


_NONE = Answer(400, {})


def _delivery(body: bytes) -> Delivery | None:
    try:
        return Delivery.model_validate_json(body)
    except ValidationError:
        return None


def _answer(result: RunResult) -> Answer:
    if result.fate is not RunFate.RETURNED:
        return Answer(200, {})
    if result.not_before is None:
        return Answer(503, {})
    return Answer(503, {"Retry-After": str(max(1, result.not_before - int(time())))})
