"""How an attempt ended, told: by itself or with others, again while the answers are lost; and what became of it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

from jobstate.attempt import AsyncAttempt, Attempt, Ends, async_end_alone, async_end_together, end_alone, end_together
from jobstate.errors import GuardRefusedError, LeaseLostError, OutcomeUnknownError, TransitionError
from jobstate.model import Event, Job, JobError

logger = logging.getLogger("jobstate.worker")

GIVEN_BACK_TOO_OFTEN = "given_back_too_often"
"""The failure code of an attempt that could not be given back at no cost any more."""


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


def _not_told(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any], error: Exception, *, doubt: bool) -> RunResult:
    """The end could not be told. After a lost answer a lost lease proves nothing: the first telling may have ended it."""
    if isinstance(error, LeaseLostError) and not doubt:
        return RunResult(RunFate.LOST, error.code)
    if isinstance(error, TransitionError) and error.code == "already_finished" and attempt.ended is not None:
        return RunResult(_FATES[attempt.ended], error.code)
    logger.warning("how an attempt of %s ended could not be told: %s", attempt.job_id, error)
    return RunResult(RunFate.UNKNOWN, "outcome_unknown" if doubt else type(error).__name__)


Ended = tuple[Attempt[Any, Any], Ends]
"""An attempt, and what ends it."""


def tell_together(ended: Sequence[Ended]) -> list[RunResult]:
    """Tell how attempts of one worker ended, which nobody observes, as one; whose answer was lost is told again by itself."""
    answers = end_together([attempt for attempt, _ in ended], [ends for _, ends in ended])
    return [_after(*one, answer) for one, answer in zip(ended, answers, strict=True)]


def _after(attempt: Attempt[Any, Any], ends: Ends, answer: Job[Any, Any] | Exception) -> RunResult:
    if isinstance(answer, OutcomeUnknownError):
        return tell_alone(attempt, partial(end_alone, attempt, ends), told=1)
    return _not_told(attempt, answer, doubt=False) if isinstance(answer, Exception) else _fate(attempt)


def give_back(attempt: Attempt[Any, Any]) -> RunResult:
    """Give an attempt back; one that was given back too often is released at the cost of an attempt."""

    def give() -> Job[Any, Any]:
        try:
            return attempt.give_back()
        except GuardRefusedError as refusal:
            return attempt.fail(JobError(code=GIVEN_BACK_TOO_OFTEN, message=refusal.reason), retryable=True)

    return tell_alone(attempt, give)


def _fate(attempt: Attempt[Any, Any] | AsyncAttempt[Any, Any]) -> RunResult:
    return RunResult(_FATES[attempt.ended])


def tell_alone(attempt: Attempt[Any, Any], tell: Callable[[], Job[Any, Any]], *, told: int = 0) -> RunResult:
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


AsyncEnded = tuple[AsyncAttempt[Any, Any], Ends]


async def async_tell_together(ended: Sequence[AsyncEnded]) -> list[RunResult]:
    """`tell_together`, awaited."""
    answers = await async_end_together([attempt for attempt, _ in ended], [ends for _, ends in ended])
    return [await _async_after(*one, answer) for one, answer in zip(ended, answers, strict=True)]


async def _async_after(attempt: AsyncAttempt[Any, Any], ends: Ends, answer: Job[Any, Any] | Exception) -> RunResult:
    if isinstance(answer, OutcomeUnknownError):
        return await async_tell_alone(attempt, partial(async_end_alone, attempt, ends), told=1)
    return _not_told(attempt, answer, doubt=False) if isinstance(answer, Exception) else _fate(attempt)


async def async_give_back(attempt: AsyncAttempt[Any, Any]) -> RunResult:
    """`give_back`, awaited."""

    async def give() -> Job[Any, Any]:
        try:
            return await attempt.give_back()
        except GuardRefusedError as refusal:
            return await attempt.fail(JobError(code=GIVEN_BACK_TOO_OFTEN, message=refusal.reason), retryable=True)

    return await async_tell_alone(attempt, give)


async def async_tell_alone(
    attempt: AsyncAttempt[Any, Any], tell: Callable[[], Awaitable[Job[Any, Any]]], *, told: int = 0
) -> RunResult:
    """`tell_alone`, awaited."""
    for tries in range(told, _TELL_TRIES):
        try:
            await tell()
            return _fate(attempt)
        except OutcomeUnknownError:
            continue
        except Exception as error:
            return _not_told(attempt, error, doubt=tries > 0)
    return RunResult(RunFate.UNKNOWN, "outcome_unknown")
