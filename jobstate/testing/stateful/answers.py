"""Whether what a caller is told is true: the answer to one command, held against the looks before and after it. No `decide`."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum
from typing import Any, NamedTuple, cast

from jobstate.errors import JobNotFoundError, LeaseLostError, OutcomeUnknownError, TransitionError
from jobstate.model import AnyJob, Event, Job, JobStatus
from jobstate.policy import Policy
from jobstate.testing.stateful.look import RIVAL, Look
from jobstate.testing.stateful.promises import ACTIVE, BrokenPromiseError


class Outcome(StrEnum):
    """What a command may come to, when no port goes wrong."""

    DONE = "done"
    AGAIN = "again"
    """It was done before: nothing changes, and the caller gets the job."""
    REFUSED = "refused"


class Told(NamedTuple):
    """One command on one job, and what its caller was told.

    Attributes:
        events: what it is recorded as.
        may: what it may come to, by hand.
        answer: what was returned, or the error that was raised.
        disturbed: whether a port went wrong meanwhile.
        token: a worker's lease token.
    """

    job_id: str
    events: Collection[Event]
    may: Collection[Outcome]
    answer: Any
    disturbed: bool
    token: str | None = None


def check_answer(told: Told, before: Look, after: Look) -> bool:
    """Whether the command was done. Raises BrokenPromiseError when the answer is not true, or a fenced worker got through."""
    done, fault = _done(told, before, after)
    if told.token is not None and (touched := _touched(told, before, after)):
        _break("a fenced worker changes nothing (P1, P2)", told, touched)
    if fault := fault or _untrue(told, done, before, after):
        _break("answers are truthful (P5, P11, P21)", told, fault)
    return done


def _break(promise: str, told: Told, fault: str) -> None:
    raise BrokenPromiseError(f"{promise}: {'/'.join(told.events)} of {told.job_id}: {fault}")


def _done(told: Told, before: Look, after: Look) -> tuple[bool, str | None]:
    """Whether it happened; and what else did, that should not have."""
    news = [record for record in after.since(before, told.job_id) if record.actor != RIVAL and record.event != Event.DELAYED]
    own = sum(record.event in told.events for record in news)
    if Event.HEARTBEAT in told.events and told.job_id in before.rows:
        own += _grown(told.job_id, before, after)
    wrong = own > 1 or any(record.event not in told.events for record in news)
    if Outcome.DONE not in told.may and own:
        return True, "it is not possible, and was done"
    return own > 0, f"it was asked once, and {[str(record.event) for record in news]} happened" if wrong else None


def _grown(job_id: str, before: Look, after: Look) -> int:
    """By how many versions a row has grown, what somebody else did not counted."""
    row = after.rows.get(job_id)
    rivals = sum(record.actor == RIVAL for record in after.since(before, job_id))
    return 0 if row is None else row.version - before.rows[job_id].version - rivals


def _touched(told: Told, before: Look, after: Look) -> str | None:
    row = before.rows.get(told.job_id)
    if row is None or holds(row, str(told.token)) or not _grown(told.job_id, before, after):
        return None
    return f"its row went from version {row.version} to {after.rows[told.job_id].version}"


def _untrue(told: Told, done: bool, before: Look, after: Look) -> str | None:
    answer, row = told.answer, after.rows.get(told.job_id)
    if isinstance(answer, JobNotFoundError):
        return None if told.job_id not in before.rows else "the job is there, and it was said to be unknown"
    if isinstance(answer, LeaseLostError) and row is not None and told.token is not None and holds(row, told.token):
        return "the worker was told that its lease is lost, and it is not"
    if isinstance(answer, TransitionError):
        if done:
            return f"it was refused ({answer}), and done"
        return None if told.disturbed or Outcome.REFUSED in told.may else f"it is possible, and was refused: {answer}"
    if isinstance(answer, Exception):
        if not told.disturbed:
            return f"no port failed, and it raised {answer!r}"
        return f"it raised {answer!r}, and was done" if done and not isinstance(answer, OutcomeUnknownError) else None
    if not done and Outcome.AGAIN not in told.may:
        return f"it was said to be done, and is not: the row is {row and row.status}"
    return (
        None
        if told.disturbed or row is None or not isinstance(answer, Job)
        else _unlike(cast("AnyJob", cast(object, answer)), row)
    )


def _unlike(shown: AnyJob, row: AnyJob) -> str | None:
    if (shown.version, shown.status, shown.run) == (row.version, row.status, row.run):
        return None
    return f"the answer shows {shown.status} v{shown.version}, the row is {row.status} v{row.version}"


# What is possible, by hand

_MOVED, _REFUSED = frozenset({Outcome.DONE}), frozenset({Outcome.REFUSED})


def when(possible: bool) -> Collection[Outcome]:
    """Done if it is possible, else refused."""
    return _MOVED if possible else _REFUSED


def of_decision(row: AnyJob) -> Collection[Outcome]:
    """What an accept or a reject comes to."""
    return when(row.status is JobStatus.VALIDATING)


def of_cancel(row: AnyJob) -> Collection[Outcome]:
    """What a cancel comes to."""
    return when(row.status in (JobStatus.VALIDATING, *ACTIVE))


def of_retry(row: AnyJob, key: str | None, *, known: bool) -> Collection[Outcome]:
    """What a retry comes to; `known`: the key is one of an accepted retry."""
    ended = row.status in (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED)
    fresh = when(ended and row.run > 0 and row.cleanup_started_at is None)
    if known:
        return {Outcome.AGAIN}
    if key is not None or row.retried_at is None:
        return fresh
    if row.status in ACTIVE:
        return {Outcome.AGAIN}
    told_of_delay = row.dispatch_delayed_at is not None and row.status is not JobStatus.EXPIRED
    return {*fresh, Outcome.AGAIN} if told_of_delay else fresh


def of_start(row: AnyJob, run: int, now: int) -> Collection[Outcome]:
    """What the start of a delivery comes to, at `now` (Unix seconds)."""
    at = max(now, row.updated_at)
    free = row.available_at is None or row.available_at <= at
    return when(row.status is JobStatus.QUEUED and row.run == run and free and at < row.expires_at)


def of_worker(row: AnyJob, token: str, *, same: bool) -> Collection[Outcome]:
    """What a worker's command comes to; `same`: it brings what this worker ended the job with, or is a heartbeat."""
    ended = row.result_digest is not None and row.lease is not None and row.lease.token == token
    return {Outcome.AGAIN} if ended and same else when(holds(row, token))


def of_give_back(row: AnyJob, token: str, policy: Policy) -> Collection[Outcome]:
    """What it comes to that a worker stops in good order."""
    return when(holds(row, token) and row.give_backs < policy.max_give_backs)


def holds(row: AnyJob, token: str) -> bool:
    """The worker with this token executes the job now."""
    return row.status is JobStatus.IN_PROGRESS and row.lease is not None and row.lease.token == token
