"""Decide, apply, explain: one evaluation of the table behind all of them.

`at`, the time of a decision, is the clock's, but never before the row's last write (`updated_at`): on one row time does not
run backwards. What is decided is bound to `job.version`; whoever saves it compares that version on the row.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypedDict, Unpack, cast

from jobstate.errors import InvalidInputError, StaleJobError
from jobstate.lifecycle import guards
from jobstate.lifecycle.answers import Accepted, Already, Choices, Decision, Refused
from jobstate.lifecycle.machine import Facts as _Facts
from jobstate.lifecycle.machine import Guard, Reason, Row
from jobstate.lifecycle.table import TABLE
from jobstate.model import AnyJob, Artifact, Event, Job, JobError, JobResponse, JobStatus, JobWarning, evolve
from jobstate.policy import Policy, seconds


class Facts(TypedDict, total=False):
    """What an event brings with it from outside. `NEEDS` says which event needs which."""

    token: str
    """The lease token: new for start, one's own for every other command of a worker."""
    run: int
    """The run that a delivery, or a dispatch mark, speaks of."""
    task_name: str
    """The dispatcher's name for the task."""
    response: JobResponse[Any]
    response_artifacts: tuple[Artifact, ...] | None
    error: JobError
    digest: str
    """The digest of a result: the same result again has the same one."""
    failure_code: str
    """Why a job is released for another attempt."""
    progress: float
    """0 to 1."""
    warnings: tuple[JobWarning, ...]
    """Warnings to add to those that the job has."""
    retry_key: str | None
    past_retry_keys: frozenset[str]
    """The keys of earlier accepted retries, from the history."""


_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "token": (str,),
    "run": (int,),
    "task_name": (str,),
    "response": (JobResponse,),
    "response_artifacts": (tuple, type(None)),
    "error": (JobError,),
    "digest": (str,),
    "failure_code": (str,),
    "progress": (float, int),
    "warnings": (tuple,),
    "retry_key": (str, type(None)),
    "past_retry_keys": (frozenset,),
}

NEEDS: Final[dict[Event, tuple[str, ...]]] = {
    Event.REJECT: ("error",),
    Event.DISPATCHED: ("run", "task_name"),
    Event.DELAYED: ("run",),
    Event.START: ("token", "run"),
    Event.HEARTBEAT: ("token",),
    Event.COMPLETE: ("token", "response", "digest"),
    Event.FAIL: ("token", "error", "digest"),
    Event.RELEASE: ("token", "failure_code"),
    Event.GIVE_BACK: ("token",),
}
"""The facts that an event cannot be decided without."""

_WORKER: Final = frozenset({Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RELEASE, Event.GIVE_BACK})


DEFAULT_POLICY: Final = Policy()


def decide(
    job: AnyJob,
    event: Event,
    now: int,
    *,
    policy: Policy = DEFAULT_POLICY,
    operation: str = "",
    actor: str | None = None,
    reason: str | None = None,
    **facts: Unpack[Facts],
) -> Decision:
    """What the event does to the job at `now` (Unix seconds, UTC). Pure: nothing is changed, each guard runs once.

    `operation` is the id under which a save can be found again; `actor` and `reason` go to the history.
    Raises TypeError for a `now` that is not a whole number, and for facts that are missing, unknown or of a wrong type;
    InvalidInputError for a fact beyond its limit.
    """
    at = _time(job, now)
    if type(event) is not Event or facts or event in NEEDS:
        _check(event, facts)
    return _answer(job, event, at, facts, policy, (operation, actor, reason))


def apply(job: Job[Any, Any], transition: Accepted) -> Job[Any, Any]:
    """The job after the transition: a new value; nothing is validated again.

    Raises StaleJobError when the transition was decided on another version, or another job.
    """
    if job.version != transition.version or job.id != transition.job_id:
        raise StaleJobError(transition.job_id, transition.version)
    return evolve(job, transition.changes)


def mark_dispatched(queued: Accepted, task_name: str) -> Accepted:
    """A transition that queues a job, with the mark that its first delivery went out in the same write."""
    marks = {"task_name": task_name, "dispatched_at": queued.at, "dispatch_count": 1}
    return queued._replace(changes={**queued.changes, **marks})


def foresee(job: AnyJob, event: Event, now: int, *, policy: Policy = DEFAULT_POLICY, **facts: Unpack[Facts]) -> Decision:
    """What `decide` would answer; facts that are not given are taken to be right (one's own token, this run)."""
    known: Facts = {**_best_facts(job), **facts}
    if event is Event.START and "token" not in facts:
        known["token"] = ""  # a start brings a token of its own
    at = _time(job, now)
    _check(event, known)
    return _evaluate(job, event, at, known, policy, ("", None, None))


def explain(job: AnyJob, event: Event, now: int, *, policy: Policy = DEFAULT_POLICY, **facts: Unpack[Facts]) -> str:
    """In words, what `foresee` answers."""
    return str(foresee(job, event, now, policy=policy, **facts))


def allowed_events(job: AnyJob, now: int, *, policy: Policy = DEFAULT_POLICY) -> tuple[Event, ...]:
    """The events that would be accepted at `now`, in the order of `Event`; facts are taken to be right."""
    return _legal(job, _time(job, now), policy, {})


def may_be_forgotten(job: AnyJob, now: int, policy: Policy) -> bool:
    """Clean-up has ended, and `Policy.forget_after` has passed since: the row may be deleted, at this version."""
    if policy.forget_after is None or job.cleanup_completed_at is None:
        return False
    return max(now, job.updated_at) >= job.cleanup_completed_at + seconds(policy.forget_after)


# One evaluation behind all of them


_Marks = tuple[str, str | None, str | None]
"""What an accepted transition carries along to the row and the history: operation, actor, reason."""


def _evaluate(job: AnyJob, event: Event, at: int, facts: _Facts, policy: Policy, marks: _Marks) -> Decision:
    """The answer on facts that were checked."""
    again = _REPEATS.get(event)
    if again is not None and (words := again(job, at, facts, policy)) is not None:
        return Already(job.id, event, job.status, words)
    seen: Seen = {}
    verdict = _judge(job, event, at, facts, policy, seen)
    if isinstance(verdict, Reason):
        choices = Choices(partial(_legal, job, at, policy, seen))
        return Refused(job.id, event, job.status, verdict.code, verdict.words, choices, verdict.wait_until)
    changes = verdict.change(job, at, facts, policy)
    attempt = changes.get("attempt_count", job.attempt_count)
    target, version = verdict.target, job.version
    operation, actor, reason = marks
    changes["status"] = target
    changes["version"] = version + 1
    changes["operation"] = operation
    changes["updated_at"] = at
    values = (job.id, event, verdict.source, target, version, at, attempt, operation, actor, reason, changes)
    return _new_tuple(Accepted, values)


_new_tuple: Callable[[type[Accepted], tuple[Any, ...]], Accepted] = cast(Any, tuple).__new__
"""Half the time of the `__new__` that a NamedTuple has."""

_answer = _evaluate
"""What `decide` asks, and nothing else: the place where `jobstate.testing.table_coverage` puts a recorder."""

Seen = dict[Guard, Reason | None]
"""What each guard has answered in this decision."""


def _judge(job: AnyJob, event: Event, at: int, facts: _Facts, policy: Policy, seen: Seen) -> Row | Reason:
    """The row that applies, or the reason against the first row. No guard runs twice."""
    rows = TABLE.get((event, job.status))
    if rows is None:
        return _no_row(job, event, facts)
    first: Reason | None = None
    for row in rows:
        for guard in row.guards:
            if guard in seen:
                reason = seen[guard]
            else:
                reason = seen[guard] = guard(job, at, facts, policy)
            if reason is not None:
                first = first or reason
                break
        else:
            return row
    return cast(Reason, first)


def _no_row(job: AnyJob, event: Event, facts: _Facts) -> Reason:
    said = _NO_ROW.get((event, job.status))
    return _POSSIBLE[event] if said is None else said(job, facts)


def _attempt_is_over(job: AnyJob, facts: _Facts) -> Reason:
    if _finished_under(job, facts["token"]):
        return Reason("already_finished", f"this attempt ended the job before: it is {job.status}")
    return Reason("lease_lost", f"the attempt is over: the job is {job.status}")


def _cancelled_before(job: AnyJob, facts: _Facts) -> Reason:
    return Reason("already_cancelled", f"it was cancelled at {job.completed_at}")


def _started_by_another(job: AnyJob, facts: _Facts) -> Reason:
    return Reason("already_started", f"another attempt of run {job.run} began at {job.started_at}")


def _completed(job: AnyJob, facts: _Facts) -> Reason:
    words = f"a completed job is retried once it has expired, at {job.expires_at}"
    return Reason("illegal_transition", words, job.expires_at)


_NO_ROW: Final[dict[tuple[Event, JobStatus], Callable[[AnyJob, _Facts], Reason]]] = {
    **{(event, status): _attempt_is_over for event in _WORKER for status in JobStatus},
    (Event.CANCEL, JobStatus.CANCELLED): _cancelled_before,
    (Event.START, JobStatus.IN_PROGRESS): _started_by_another,
    (Event.RETRY, JobStatus.COMPLETED): _completed,
}
"""What is said where the table has no row, and there is more to say than from where it has one."""


def _from_where(event: Event) -> Reason:
    sources = ", ".join(status for status in JobStatus if (event, status) in TABLE)
    return Reason("illegal_transition", f"{event} is possible from {sources}")


_POSSIBLE: Final = {event: _from_where(event) for event in Event}


def _finished_under(job: AnyJob, token: str) -> bool:
    return job.result_digest is not None and job.lease is not None and job.lease.token == token


def _legal(job: AnyJob, at: int, policy: Policy, seen: Seen) -> tuple[Event, ...]:
    """What would be accepted with the right facts; guards that were asked before are not asked again."""
    assumed = {**seen, **_RIGHT_FACTS}
    return tuple(  # of a list, which takes less time than a generator
        [event for event in _EVENTS_FROM[job.status] if type(_judge(job, event, at, {}, policy, assumed)) is Row]
    )


_RIGHT_FACTS: Final[Seen] = {guards.lease_is_own: None, guards.run_is_current: None}
"""The guards that ask what an event brings with it."""

_EVENTS_FROM: Final = {status: tuple(event for event in Event if (event, status) in TABLE) for status in JobStatus}

_ANY_RESPONSE: Final[JobResponse[Any]] = JobResponse(body=None)
_ANY_ERROR: Final = JobError(code="error", message="")


def _best_facts(job: AnyJob) -> Facts:
    return {
        "token": "" if job.lease is None else job.lease.token,
        "run": job.run,
        "task_name": "",
        "response": _ANY_RESPONSE,
        "error": _ANY_ERROR,
        "digest": "",
        "failure_code": "error",
    }


# Repeats, declared


def _started_before(job: AnyJob, at: int, facts: _Facts, policy: Policy) -> str | None:
    if job.status is JobStatus.IN_PROGRESS and job.lease is not None and job.lease.token == facts["token"]:
        return f"attempt {job.attempt_count} began at {job.started_at} under this token"
    return None


def _finished_before(job: AnyJob, at: int, facts: _Facts, policy: Policy) -> str | None:
    if _finished_under(job, facts["token"]) and job.result_digest == facts["digest"]:
        return f"this attempt brought the same result at {job.completed_at}"
    return None


def _beat_after_the_end(job: AnyJob, at: int, facts: _Facts, policy: Policy) -> str | None:
    return "this attempt ended the job" if _finished_under(job, facts["token"]) else None


def _retried_before(job: AnyJob, at: int, facts: _Facts, policy: Policy) -> str | None:
    """A key covers its retry for ever; without one, an active retry, and one whose caller was told of a delay just now."""
    key = facts.get("retry_key")
    if key is not None:
        known = key == job.retry_key or key in facts.get("past_retry_keys", ())
        return f"retry_key {key!r} was accepted before" if known else None
    if job.retried_at is None:
        return None
    if job.status in (JobStatus.QUEUED, JobStatus.IN_PROGRESS):
        return f"it was retried at {job.retried_at} and is active"
    ended = job.status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)
    told = job.dispatch_delayed_at
    if ended and told is not None and at - told <= seconds(policy.resend_window):
        return f"it was retried at {job.retried_at}, and its caller was told at {told} that dispatch is delayed"
    return None


_REPEATS: Final[dict[Event, Callable[[AnyJob, int, _Facts, Policy], str | None]]] = {
    Event.START: _started_before,
    Event.COMPLETE: _finished_before,
    Event.FAIL: _finished_before,
    Event.HEARTBEAT: _beat_after_the_end,
    Event.RETRY: _retried_before,
}


# What is asked from outside


def _time(job: AnyJob, now: int) -> int:
    """`now`, or the row's last write if that is later."""
    if type(now) is not int or now < 0:
        raise TypeError(f"now: whole Unix seconds (int, not negative) are needed, not {now!r}")
    last = job.updated_at
    return now if now > last else last


def _check(event: Event, facts: _Facts) -> None:
    if type(event) is not Event:
        raise TypeError(f"event: a jobstate.Event is needed, not {event!r}: write Event({event!r}) if it is the name of one")
    for name, value in facts.items():
        kinds = _TYPES.get(name)
        if kinds is None:
            raise TypeError(f"{event}: there is no fact {name!r}; known are {', '.join(_TYPES)}")
        if not isinstance(value, kinds):
            words = " or ".join(kind.__name__ for kind in kinds)
            raise TypeError(f"{event}: {name} must be {words}, not {type(value).__name__}")
    progress, key = facts.get("progress", 0), facts.get("retry_key")
    if not 0 <= progress <= 1:
        raise InvalidInputError("progress", f"a number from 0 to 1 is needed, not {progress!r}")
    if key is not None and not 1 <= len(key) <= 255:
        raise InvalidInputError("retry_key", f"1 to 255 characters are allowed, not {len(key)}")
    for name in NEEDS.get(event, ()):
        if name not in facts:
            raise TypeError(f"{event} needs {', '.join(NEEDS[event])}: {name} is missing")
