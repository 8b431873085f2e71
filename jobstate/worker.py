"""The worker's side, for any engine: from a delivery to start, handler, heartbeat, and complete, fail, release or give back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, TypeVar

from pydantic import JsonValue

from jobstate.attempt import AsyncAttempt, Attempt, Ends, async_end_alone, completing, end_alone, failing
from jobstate.context import AsyncContext, Context
from jobstate.errors import InvalidInputError, JobNotFoundError, LeaseLostError, TransitionError
from jobstate.model import Delivery, JobError, JobStatus
from jobstate.observe import Listeners
from jobstate.payload import said, words_of
from jobstate.service import AsyncJobs, Jobs
from jobstate.telling import GIVEN_BACK_TOO_OFTEN as GIVEN_BACK_TOO_OFTEN  # what an engine's adapter asks for, in one place
from jobstate.telling import RunFate as RunFate
from jobstate.telling import RunResult as RunResult
from jobstate.telling import async_give_back as async_give_back
from jobstate.telling import async_tell_alone, tell_alone
from jobstate.telling import give_back as give_back

R = TypeVar("R")

logger = logging.getLogger("jobstate.worker")

HANDLER_ERROR = "handler_error"
"""The failure code of an exception that a handler did not mean."""
INVALID_REQUEST = "invalid_request"
"""The failure code of a stored request that is not of the endpoint's type any more."""
INVALID_RESULT = "invalid_result"
"""The failure code of a result that is not JSON, or not of the endpoint's type."""


def check_handler(handler: object) -> None:
    """A handler of the wrong colour is found before it runs. Raises TypeError for what `run_job` cannot call."""
    if not callable(handler):
        raise TypeError(f"handler: a function of a request and a context is needed, not {type(handler).__name__}")
    if iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004  # of an instance
        raise TypeError("handler: it is async, and nobody awaits it here: use AsyncJobs, and async_run_job or AsyncWorker")


class JobFailed(Exception):  # noqa: N818  # what a handler says, not what went wrong with it
    """Raised by a handler: the attempt failed, for a reason that its user is to read.

    Halves of surrogate pairs in the message are escaped; of details that are not JSON it is told what is wrong. Raises
    InvalidInputError for a code that is not 1 to 128 characters of Unicode without NUL, and a message that is no string.
    """

    def __init__(
        self, code: str, message: str, details: dict[str, JsonValue] | None = None, *, retryable: bool = False
    ) -> None:
        super().__init__(code, message, details)
        self.error = said(JobError, code, message, details)
        self.retryable = retryable


def _not_started(delivery: Delivery, error: Exception) -> RunResult:
    """Drop a delivery only when its run is over, started, or of no job; any other goes back."""
    if isinstance(error, JobNotFoundError):
        return RunResult(RunFate.DROPPED, "job_not_found")
    if not isinstance(error, TransitionError):
        logger.warning("%s was not started and goes back: %s", delivery.job_id, error)
        return RunResult(RunFate.RETURNED, type(error).__name__)
    if error.code == "not_available":
        return RunResult(RunFate.RETURNED, error.code, error.wait_until)
    if error.code == "run_not_reached" or error.status == JobStatus.VALIDATING:
        return RunResult(RunFate.RETURNED, error.code)
    return RunResult(RunFate.DROPPED, error.code)


def _told_of(source: Any, delivery: Delivery, result: RunResult) -> RunResult:
    """The result, told to whoever listens to these jobs, or to this attempt."""
    listeners: Listeners | None = getattr(source, "listeners", None)  # an engine's tests bring less than whole Jobs
    if listeners is not None:
        listeners.tell("delivery", delivery, result.fate, result.reason)
    return result


def _watched(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any]) -> AbstractContextManager[object]:
    """Within this, an attempt runs: for whoever measures or traces it."""
    listeners = attempt.listeners
    return nullcontext() if listeners is None else listeners.around("attempt", attempt.held, attempt.number)


def _failure(error: Exception, retry_exceptions: bool) -> tuple[JobError, bool]:
    if isinstance(error, JobFailed):
        return error.error, error.retryable
    if isinstance(error, _InvalidRequestError):
        return JobError(code=INVALID_REQUEST, message=words_of(error)), False
    logger.error("the handler raised %s: %s", type(error).__name__, words_of(error))
    return JobError(code=HANDLER_ERROR, message=f"{type(error).__name__}: {words_of(error)}"), retry_exceptions


class _InvalidRequestError(Exception):
    """The stored request cannot be given to the handler."""


def _request(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any]) -> Any:
    try:
        return attempt.job.request
    except InvalidInputError as error:
        raise _InvalidRequestError(str(error)) from error


Handler = Callable[[Any, Context], Any]
"""Called with the request and a context; returns the response's body (or a JobResponse), or raises JobFailed."""


def run_job(
    jobs: Jobs,
    delivery: Delivery,
    handler: Handler,
    *,
    retry_exceptions: bool = True,
    on_start: Callable[[Context], object] | None = None,
) -> RunResult:
    """Run one delivery to its end. What the engine has to know is in the answer; no Exception is raised.

    An exception of the handler other than JobFailed is a failure with code `handler_error`, retryable if `retry_exceptions`.
    A BaseException (KeyboardInterrupt, SystemExit) gives the job back and goes on. `on_start` is called with the context.
    """
    check_handler(handler)
    try:
        attempt = jobs.start(delivery)
    except Exception as error:
        return _told_of(jobs, delivery, _not_started(delivery, error))
    return run_attempt(attempt, handler, retry_exceptions=retry_exceptions, on_start=on_start)


def run_attempt(
    attempt: Attempt[Any, Any],
    handler: Handler,
    *,
    retry_exceptions: bool = True,
    on_start: Callable[[Context], object] | None = None,
) -> RunResult:
    """`run_job`, from an attempt that was started."""
    delivery = attempt.held.delivery
    with _watched(attempt):
        result = _run(attempt, handler, retry_exceptions, on_start)
    return _told_of(attempt, delivery, result)


def _run(
    attempt: Attempt[Any, Any], handler: Handler, retry_exceptions: bool, on_start: Callable[[Context], object] | None
) -> RunResult:
    ends = handle(attempt, handler, retry_exceptions, on_start)
    return ends if isinstance(ends, RunResult) else tell_alone(attempt, partial(end_alone, attempt, ends))


def handle(
    attempt: Attempt[Any, Any], handler: Handler, retry_exceptions: bool, on_start: Callable[[Context], object] | None
) -> Ends | RunResult:
    """Run the handler: what ends the attempt, or what became of it when there is nothing to tell.

    What is told is checked, and copied, here: what the handler returned may change later.
    """
    context = Context(attempt)
    try:
        if on_start is not None:
            on_start(context)
        with context.kept_alive():
            result = handler(_request(attempt), context)
    except Exception as error:
        if isinstance(error, LeaseLostError) and error.job_id == attempt.job_id:
            return RunResult(RunFate.LOST, error.code)
        failure, retryable = _failure(error, retry_exceptions)
        return _checked(attempt, lambda: failing(attempt, failure, retryable=retryable))
    except BaseException:
        give_back(attempt)
        raise
    return _checked(attempt, lambda: completing(attempt, result))


def _checked(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any], ends: Callable[[], Ends]) -> Ends:
    """What ends the attempt; what cannot be stored fails it."""
    try:
        return ends()
    except InvalidInputError as error:
        return failing(attempt, JobError(code=INVALID_RESULT, message=words_of(error)), retryable=False)


AsyncHandler = Callable[[Any, AsyncContext], Awaitable[Any]]
"""`Handler`, awaited."""


async def async_run_job(
    jobs: AsyncJobs,
    delivery: Delivery,
    handler: AsyncHandler,
    *,
    retry_exceptions: bool = True,
    on_start: Callable[[AsyncContext], object] | None = None,
) -> RunResult:
    """`run_job`, awaited. A cancelled task gives the job back, and goes on being cancelled."""
    try:
        attempt = await _started(jobs, delivery)
    except Exception as error:
        return _told_of(jobs, delivery, _not_started(delivery, error))
    return await async_run_attempt(attempt, handler, retry_exceptions=retry_exceptions, on_start=on_start)


async def async_run_attempt(
    attempt: AsyncAttempt[Any, Any],
    handler: AsyncHandler,
    *,
    retry_exceptions: bool = True,
    on_start: Callable[[AsyncContext], object] | None = None,
) -> RunResult:
    """`run_attempt`, awaited."""
    delivery = attempt.held.delivery
    with _watched(attempt):
        result = await _async_run(attempt, handler, retry_exceptions, on_start)
    return _told_of(attempt, delivery, result)


async def _async_run(
    attempt: AsyncAttempt[Any, Any],
    handler: AsyncHandler,
    retry_exceptions: bool,
    on_start: Callable[[AsyncContext], object] | None,
) -> RunResult:
    ends = await async_handle(attempt, handler, retry_exceptions, on_start)
    if isinstance(ends, RunResult):
        return ends
    return await _told(async_tell_alone(attempt, partial(async_end_alone, attempt, ends)))


async def async_handle(
    attempt: AsyncAttempt[Any, Any],
    handler: AsyncHandler,
    retry_exceptions: bool,
    on_start: Callable[[AsyncContext], object] | None,
) -> Ends | RunResult:
    """`handle`, awaited."""
    context = AsyncContext(attempt)
    try:
        if on_start is not None:
            on_start(context)
        async with context.kept_alive():
            answer = handler(_request(attempt), context)
            if not isawaitable(answer):
                raise TypeError("handler: it is not async: use `async def`, or Jobs, and run_job or Worker")
            result = await answer
    except Exception as error:
        if isinstance(error, LeaseLostError) and error.job_id == attempt.job_id:
            return RunResult(RunFate.LOST, error.code)
        failure, retryable = _failure(error, retry_exceptions)
        return _checked(attempt, lambda: failing(attempt, failure, retryable=retryable))
    except BaseException:
        await to_its_end(async_give_back(attempt))
        raise
    return _checked(attempt, lambda: completing(attempt, result))


async def _started(jobs: AsyncJobs, delivery: Delivery) -> AsyncAttempt[Any, Any]:
    """A start that is cancelled in the middle of its save is brought to its end, and given back."""
    start, cancelled = await to_its_end(jobs.start(delivery))
    if cancelled is None:
        return start.result()
    if start.exception() is None:
        await to_its_end(async_give_back(start.result()))
    raise cancelled


async def _told(telling: Coroutine[Any, Any, RunResult]) -> RunResult:
    """What is told is told to its end; a task that was cancelled meanwhile goes on being cancelled."""
    task, cancelled = await to_its_end(telling)
    if cancelled is not None:
        raise cancelled
    return task.result()


async def to_its_end(work: Coroutine[Any, Any, R]) -> tuple[asyncio.Task[R], asyncio.CancelledError | None]:
    """The work, done, however often the task was cancelled meanwhile; and the last of these cancellations."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    return task, cancelled
