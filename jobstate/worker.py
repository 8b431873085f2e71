"""The worker's side, for any engine: from a delivery to start, handler, heartbeat, and complete, fail, release or give back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, NamedTuple, TypeVar

from pydantic import JsonValue

from jobstate.attempt import (
    AsyncAttempt,
    Attempt,
    Ends,
    async_end_alone,
    async_end_together,
    completing,
    end_alone,
    end_together,
    failing,
)
from jobstate.context import AsyncContext, Context
from jobstate.errors import (
    GuardRefusedError,
    InvalidInputError,
    JobNotFoundError,
    LeaseLostError,
    OutcomeUnknownError,
    TransitionError,
)
from jobstate.model import Delivery, Event, Job, JobError, JobStatus
from jobstate.observe import Listeners
from jobstate.payload import words_of
from jobstate.service import AsyncJobs, Jobs

R = TypeVar("R")

logger = logging.getLogger("jobstate.worker")

HANDLER_ERROR = "handler_error"
"""The failure code of an exception that a handler did not mean."""
INVALID_REQUEST = "invalid_request"
"""The failure code of a stored request that is not of the endpoint's type any more."""
INVALID_RESULT = "invalid_result"
"""The failure code of a result that is not JSON, or not of the endpoint's type."""
GIVEN_BACK_TOO_OFTEN = "given_back_too_often"
"""The failure code of an attempt that could not be given back at no cost any more."""


def check_handler(handler: object) -> None:
    """A handler of the wrong colour is found before it runs. Raises TypeError for what `run_job` cannot call."""
    if not callable(handler):
        raise TypeError(f"handler: a function of a request and a context is needed, not {type(handler).__name__}")
    if iscoroutinefunction(handler) or iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004  # of an instance
        raise TypeError("handler: it is async, and nobody awaits it here: use AsyncJobs, and async_run_job or AsyncWorker")


class JobFailed(Exception):  # noqa: N818  # what a handler says, not what went wrong with it
    """Raised by a handler: the attempt failed, for a reason that its user is to read."""

    def __init__(
        self, code: str, message: str, details: dict[str, JsonValue] | None = None, *, retryable: bool = False
    ) -> None:
        super().__init__(code, message, details)
        self.error = JobError(code=code, message=message, details=details)
        self.retryable = retryable


class RunFate(StrEnum):
    """What became of a delivery."""

    COMPLETED = "completed"
    FAILED = "failed"
    RELEASED = "released"
    """Failed, and queued for another attempt."""
    GIVEN_BACK = "given_back"
    LOST = "lost"
    """The lease went to somebody else, or the job was cancelled; the result was dropped."""
    UNKNOWN = "unknown"
    """Nobody can say whether the result was saved; if not, a rescue finds the job."""
    DROPPED = "dropped"
    """The delivery was late, repeated, or of an unknown job: acknowledge it."""
    RETURNED = "returned"
    """The delivery was early, or its start met an error: deliver it again."""


class RunResult(NamedTuple):
    """What became of a delivery, why, and, when it is to come again, not before when (Unix seconds)."""

    fate: RunFate
    reason: str | None = None
    not_before: int | None = None


_FATES: dict[Event | None, RunFate] = {
    Event.COMPLETE: RunFate.COMPLETED,
    Event.FAIL: RunFate.FAILED,
    Event.RELEASE: RunFate.RELEASED,
    Event.GIVE_BACK: RunFate.GIVEN_BACK,
}

_TELL_TRIES = 3
"""How often the end of an attempt is told while the answers are lost: the same words twice have one effect."""


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


def _not_told(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any], error: Exception, *, doubt: bool) -> RunResult:
    """The end could not be told. After a lost answer a lost lease proves nothing: the first telling may have ended it."""
    if isinstance(error, LeaseLostError) and not doubt:
        return RunResult(RunFate.LOST, error.code)
    if isinstance(error, TransitionError) and error.code == "already_finished" and attempt.ended is not None:
        return RunResult(_FATES[attempt.ended], error.code)
    logger.warning("how an attempt of %s ended could not be told: %s", attempt.job_id, error)
    return RunResult(RunFate.UNKNOWN, "outcome_unknown" if doubt else type(error).__name__)


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


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt is to end. Either is called by who has run the handler: what it returned may change later."""

    attempt: Attempt[Any, Any]
    tell: Callable[[], Job[Any, Any]]
    """Tells it."""
    check: Callable[[], Ends]
    """Checks and copies what is to be told, with others or later."""


def _run(
    attempt: Attempt[Any, Any], handler: Handler, retry_exceptions: bool, on_start: Callable[[Context], object] | None
) -> RunResult:
    ending = handle(attempt, handler, retry_exceptions, on_start)
    return ending if isinstance(ending, RunResult) else _tell(attempt, ending.tell)


def handle(
    attempt: Attempt[Any, Any], handler: Handler, retry_exceptions: bool, on_start: Callable[[Context], object] | None
) -> Ending | RunResult:
    """Run the handler: what is to be told, or what became of it when there is nothing to tell."""
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
        fail = partial(attempt.fail, failure, retryable=retryable)
        return Ending(attempt, fail, partial(failing, attempt, failure, retryable=retryable))
    except BaseException:
        give_back(attempt)
        raise
    return Ending(attempt, partial(_complete, attempt, result), partial(_completing, attempt, result))


def _complete(attempt: Attempt[Any, Any], result: Any) -> Job[Any, Any]:
    try:
        return attempt.complete(result)
    except InvalidInputError as error:
        return attempt.fail(JobError(code=INVALID_RESULT, message=words_of(error)))


def _completing(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any], result: Any) -> Ends:
    try:
        return completing(attempt, result)
    except InvalidInputError as error:
        return failing(attempt, JobError(code=INVALID_RESULT, message=words_of(error)), retryable=False)


Ended = tuple[Attempt[Any, Any], Ends]
"""An attempt, and what ends it."""


def tell_together(ended: Sequence[Ended]) -> list[RunResult]:
    """Tell how attempts of one worker ended, which nobody observes, as one; whose answer was lost is told again by itself."""
    answers = end_together([attempt for attempt, _ in ended], [ends for _, ends in ended])
    return [_after(*one, answer) for one, answer in zip(ended, answers, strict=True)]


def _after(attempt: Attempt[Any, Any], ends: Ends, answer: Job[Any, Any] | Exception) -> RunResult:
    if isinstance(answer, OutcomeUnknownError):
        return _tell(attempt, partial(end_alone, attempt, ends), told=1)
    return _not_told(attempt, answer, doubt=False) if isinstance(answer, Exception) else _fate(attempt)


def give_back(attempt: Attempt[Any, Any]) -> RunResult:
    """Give an attempt back; one that was given back too often is released at the cost of an attempt."""

    def give() -> Job[Any, Any]:
        try:
            return attempt.give_back()
        except GuardRefusedError as refusal:
            return attempt.fail(JobError(code=GIVEN_BACK_TOO_OFTEN, message=refusal.reason), retryable=True)

    return _tell(attempt, give)


def _fate(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any]) -> RunResult:
    return RunResult(_FATES[attempt.ended])


def _tell(attempt: Attempt[Any, Any], tell: Callable[[], Job[Any, Any]], *, told: int = 0) -> RunResult:
    """Tell it; it was told so often before, and the answers were lost."""
    for tries in range(told, _TELL_TRIES):
        try:
            tell()
            return _fate(attempt)
        except OutcomeUnknownError:
            continue
        except Exception as error:
            return _not_told(attempt, error, doubt=tries > 0)
    return RunResult(RunFate.UNKNOWN, "outcome_unknown")


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


@dataclass(frozen=True, slots=True)
class AsyncEnding:
    """`Ending`, awaited."""

    attempt: AsyncAttempt[Any, Any]
    tell: Callable[[], Awaitable[Job[Any, Any]]]
    check: Callable[[], Ends]


async def _async_run(
    attempt: AsyncAttempt[Any, Any],
    handler: AsyncHandler,
    retry_exceptions: bool,
    on_start: Callable[[AsyncContext], object] | None,
) -> RunResult:
    ending = await async_handle(attempt, handler, retry_exceptions, on_start)
    return ending if isinstance(ending, RunResult) else await _told(_async_tell(attempt, ending.tell))


async def async_handle(
    attempt: AsyncAttempt[Any, Any],
    handler: AsyncHandler,
    retry_exceptions: bool,
    on_start: Callable[[AsyncContext], object] | None,
) -> AsyncEnding | RunResult:
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
        fail = partial(attempt.fail, failure, retryable=retryable)
        return AsyncEnding(attempt, fail, partial(failing, attempt, failure, retryable=retryable))
    except BaseException:
        await to_its_end(async_give_back(attempt))
        raise
    return AsyncEnding(attempt, partial(_async_complete, attempt, result), partial(_completing, attempt, result))


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


async def _async_complete(attempt: AsyncAttempt[Any, Any], result: Any) -> Job[Any, Any]:
    try:
        return await attempt.complete(result)
    except InvalidInputError as error:
        return await attempt.fail(JobError(code=INVALID_RESULT, message=words_of(error)))


AsyncEnded = tuple[AsyncAttempt[Any, Any], Ends]


async def async_tell_together(ended: Sequence[AsyncEnded]) -> list[RunResult]:
    """`tell_together`, awaited."""
    answers = await async_end_together([attempt for attempt, _ in ended], [ends for _, ends in ended])
    return [await _async_after(*one, answer) for one, answer in zip(ended, answers, strict=True)]


async def _async_after(attempt: AsyncAttempt[Any, Any], ends: Ends, answer: Job[Any, Any] | Exception) -> RunResult:
    if isinstance(answer, OutcomeUnknownError):
        return await _async_tell(attempt, partial(async_end_alone, attempt, ends), told=1)
    return _not_told(attempt, answer, doubt=False) if isinstance(answer, Exception) else _fate(attempt)


async def async_give_back(attempt: AsyncAttempt[Any, Any]) -> RunResult:
    """`give_back`, awaited."""

    async def give() -> Job[Any, Any]:
        try:
            return await attempt.give_back()
        except GuardRefusedError as refusal:
            return await attempt.fail(JobError(code=GIVEN_BACK_TOO_OFTEN, message=refusal.reason), retryable=True)

    return await _async_tell(attempt, give)


async def _async_tell(
    attempt: AsyncAttempt[Any, Any], tell: Callable[[], Awaitable[Job[Any, Any]]], *, told: int = 0
) -> RunResult:
    for tries in range(told, _TELL_TRIES):
        try:
            await tell()
            return _fate(attempt)
        except OutcomeUnknownError:
            continue
        except Exception as error:
            return _not_told(attempt, error, doubt=tries > 0)
    return RunResult(RunFate.UNKNOWN, "outcome_unknown")
