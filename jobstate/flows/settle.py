"""One event of one job, saved for certain: decide, compare-and-set, and find out what became of it.

A save can be done and its answer lost. The id of the operation is minted once, is stored in the row and in the history by the
save, and is looked for at every reload. `doubt` is the version at which a save may have landed, or may yet land:

    the row is at                     its operation   then
    any version                       ours            it was done
    the doubtful version              another's       not done yet: decide again, keep the doubt
    one later                         another's       never done, that place is taken: decide again
    still later                       another's       ask the decision, and the history; else nobody can say
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from jobstate.effects import Flow, History, IdKind, Load, NewId, Now, Save, SaveAndDispatch
from jobstate.errors import OutcomeUnknownError, StaleJobError
from jobstate.lifecycle import Accepted, Already, Decision, Facts, Refused, apply, decide, mark_dispatched
from jobstate.model import AnyJob, Event, JobStatus, evolve
from jobstate.policy import Policy

TRIES = 10
"""How often a command decides again on fresh data before it gives up."""


class Dispatching(Enum):
    """How deliveries reach workers."""

    NEVER = "never"
    """No dispatcher: jobs stay pending, and workers take them from the repository."""
    AFTER = "after"
    """The dispatcher is called after the save."""
    WITHIN = "within"
    """The dispatcher writes in the save's own transaction."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What every operation of one face has in common.

    `shares_sweeps`: the repository holds the rows of a sweep. `delays`: the dispatcher takes a job before it is due, with the
    time. `bound`: the repository writes in a transaction of the host's, which may yet
    roll back; so nothing is done that could not be undone, and the error of a transactional dispatcher is for the host.
    """

    policy: Policy
    organization_id: str | None = None
    dispatching: Dispatching = Dispatching.NEVER
    has_artifacts: bool = False
    shares_sweeps: bool = False
    delays: bool = False
    bound: bool = False

    def takes(self, job: AnyJob, now: int) -> bool:
        """Whether the dispatcher may be given this queued job now: it is due, or can be given with its time."""
        return self.delays or job.is_available(now)


@dataclass(frozen=True, slots=True)
class Command:
    """One event under one operation id."""

    event: Event
    operation: str
    facts: Facts
    actor: str | None = None
    reason: str | None = None


class Outcome(NamedTuple):
    """The job as it is, and whether this command moved it (or an earlier one with the same meaning had)."""

    job: AnyJob
    moved: bool


def command(event: Event, facts: Facts | None = None, actor: str | None = None, reason: str | None = None) -> Flow[Command]:
    """A command with an id of its own."""
    operation = yield from NewId(IdKind.OPERATION)
    return Command(event, operation, facts or {}, actor, reason)


def judge(scope: Scope, job: AnyJob, asked: Command) -> Flow[Decision]:
    """The lifecycle's answer on this version of the job, now."""
    now = yield from Now()
    facts = asked.facts
    key = facts.get("retry_key")
    if key is not None and job.retried_at is not None and job.retry_key != key:  # the row holds the last key only
        records = yield from History(job.id)
        keys = [record.changes.get("retry_key") for record in records]
        facts = Facts(**facts)
        facts["past_retry_keys"] = frozenset(key for key in keys if isinstance(key, str))
    return decide(
        job,
        asked.event,
        now,
        policy=scope.policy,
        operation=asked.operation,
        actor=asked.actor,
        reason=asked.reason,
        **facts,
    )


def carry_out(
    scope: Scope, job: AnyJob, asked: Command, *, held: bool = False, failed: Exception | None = None
) -> Flow[Outcome]:
    """Move the job, or say truthfully why not.

    A job that is `held`, not just loaded, is good enough to save from, since the save compares; any other answer is given on
    fresh data. `failed` is the error of a first save that was made elsewhere. Raises the refusal's TransitionError;
    StaleJobError when others were quicker TRIES times; OutcomeUnknownError when nobody can say, and then nothing else.
    """
    doubt = job.version if isinstance(failed, OutcomeUnknownError) else None
    try:
        for _ in range(TRIES):
            if failed is None:
                tried = yield from try_once(scope, job, asked, held=held)
                if isinstance(tried, Outcome):
                    return tried
                doubt = doubt if tried is None else tried
            held, failed = False, None
            job = yield from reload(scope, job)
            if job.operation == asked.operation:
                return Outcome(job, moved=True)
            if doubt is not None and job.version > doubt + 1:
                return (yield from look_back(scope, job, asked, doubt))
            if doubt is not None and job.version == doubt + 1:
                doubt = None
        raise StaleJobError(job.id, job.version)
    except Exception as error:
        if doubt is None or isinstance(error, OutcomeUnknownError):
            raise
        raise OutcomeUnknownError(job.id, f"the answer of a save was lost, then: {error}") from error


def try_once(scope: Scope, job: AnyJob, asked: Command, *, held: bool) -> Flow[Outcome | int | None]:
    """Decide and save: the outcome; None when it has to be tried on fresh data; the doubtful version of a lost answer."""
    decision = yield from judge(scope, job, asked)
    if not isinstance(decision, Accepted):
        return None if held else answer(job, decision)
    try:
        saved = yield from save(scope, job, decision)
    except StaleJobError:
        return None
    except OutcomeUnknownError:
        return job.version
    return Outcome(apply(job, saved), moved=True)


def answer(job: AnyJob, decision: Already | Refused) -> Outcome:
    """What is said when nothing is to be saved."""
    if isinstance(decision, Refused):
        raise decision.error()
    return Outcome(job, moved=False)


def reload(scope: Scope, job: AnyJob) -> Flow[AnyJob]:
    """The job as it is now. A request that was loaded is kept, not read again: it changes only when clean-up takes it."""
    fresh = yield from Load(job.id, scope.organization_id)
    return fresh if fresh.cleanup_started_at is not None else evolve(fresh, {"request": job.request})


def look_back(scope: Scope, job: AnyJob, asked: Command, doubt: int) -> Flow[Outcome]:
    """After a lost answer and more than one further write: what the decision says, or the history.

    A start that is found in the history only is over: it hands out no attempt.
    """
    decision = yield from judge(scope, job, asked)
    if isinstance(decision, Already):
        return Outcome(job, moved=False)
    if asked.event is not Event.START:
        records = yield from History(job.id, after_version=doubt)
        if any(record.operation == asked.operation for record in records):
            return Outcome(job, moved=True)
    raise OutcomeUnknownError(job.id, f"the answer of a save at version {doubt} was lost, the job is at {job.version} now")


def save(scope: Scope, job: AnyJob, decision: Accepted) -> Flow[Accepted]:
    """Save a transition; one that queues a job takes a transactional dispatcher along. What was saved is returned."""
    if (
        scope.dispatching is Dispatching.WITHIN
        and decision.target is JobStatus.QUEUED
        and decision.source is not decision.target
    ):
        queued = apply(job, decision)
        if scope.takes(queued, decision.at):
            marked = mark_dispatched(decision, task_name(queued))
            try:
                yield from SaveAndDispatch(marked, queued.delivery, task_name(queued), not_before(queued, decision.at))
            except (StaleJobError, OutcomeUnknownError):
                raise
            except Exception:  # the dispatcher's: rolled back, so the job is queued without it, pending
                if scope.bound:
                    raise
                yield from Save(decision)
                return decision
            return marked
    yield from Save(decision)
    return decision


def not_before(job: AnyJob, now: int) -> int | None:
    """The time (Unix seconds) with which a job is given to a dispatcher before it is due; None when it is due."""
    return None if job.is_available(now) else job.available_at


def task_name(job: AnyJob) -> str:
    """The name of the job's next task: another one for each run and each dispatch, made of URL-safe characters."""
    return f"{job.id}-{job.run}-{job.dispatch_count + 1}"
