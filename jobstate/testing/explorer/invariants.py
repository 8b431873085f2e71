"""What must hold whatever happens: one function for each, on worlds, on steps, and on answers."""

from __future__ import annotations

from collections.abc import Iterator

from jobstate.effects import Dispatch
from jobstate.errors import JobstateError, OutcomeUnknownError, RepositoryError, TransitionError
from jobstate.lifecycle import NOT_REPLAYED, Accepted, replay
from jobstate.model import AnyJob, Event, Job, JobStatus
from jobstate.policy import Policy, seconds
from jobstate.testing.explorer.actors import Worked
from jobstate.testing.explorer.search import Ending, Invariant
from jobstate.testing.explorer.space import Step
from jobstate.testing.explorer.world import World

OK = ""

_WORKER = frozenset({Event.HEARTBEAT, Event.COMPLETE, Event.FAIL, Event.RELEASE, Event.GIVE_BACK})
_ENDED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED})
_ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.IN_PROGRESS})
_PLANNED = ("available_at", "expires_at")
_OF_A_RUN = ("error", "response_artifacts", "result_digest", "progress", "started_at", "completed_at", "lease", "cancelled")
_RESULT = ("error", "response_artifacts", "result_digest", "completed_at", "cancelled")


def _moves(step: Step) -> Iterator[tuple[Accepted, AnyJob, AnyJob]]:
    """Each transition that took effect in a step, with the row before and after."""
    for transition in step.saved:
        before, after = step.before.row(transition.job_id), step.after.row(transition.job_id)
        assert before is not None
        assert after is not None
        yield transition, before, after


def _first(verdicts: Iterator[str | None]) -> str | None:
    """The first that says what is wrong; else OK, if any had something to say."""
    answer: str | None = None
    for verdict in verdicts:
        if verdict:
            return verdict
        answer = verdict if answer is None else answer
    return answer


# Of steps


def _fenced(step: Step) -> Iterator[str | None]:
    for transition, before, _ in _moves(step):
        if transition.event in _WORKER and step.actor != "late write":
            own = before.lease is not None and before.lease.token in step.minted
            yield OK if own else f"{transition.event} by a worker without the lease ({before.lease})"


def _results_stay(step: Step) -> Iterator[str | None]:
    for transition, before, after in _moves(step):
        if before.status not in _ENDED or transition.event is Event.RETRY:
            continue
        changed = [name for name in _RESULT if getattr(before, name) != getattr(after, name)]
        left = after.status is not before.status and after.status is not JobStatus.EXPIRED
        yield f"{transition.event} of a {before.status} job changed {changed or 'its status'}" if changed or left else OK


def _attempts_counted(step: Step) -> Iterator[str | None]:
    for transition, before, after in _moves(step):
        grown, expected = after.attempt_count - before.attempt_count, int(transition.event is Event.START)
        yield OK if grown == expected else f"{transition.event} changed attempt_count by {grown}"


def _runs_counted(step: Step) -> Iterator[str | None]:
    for transition, before, after in _moves(step):
        queued = after.status is JobStatus.QUEUED and before.status is not JobStatus.QUEUED
        grown = after.run - before.run
        yield (
            OK if grown == int(queued) else f"{transition.event} from {before.status} to {after.status} changed run by {grown}"
        )


def _rescued_dead(step: Step) -> Iterator[str | None]:
    for transition, before, _ in _moves(step):
        if transition.event is Event.RESCUE:
            end = None if before.lease is None else before.lease.expires_at
            yield (
                OK if end is not None and end <= step.before.time else f"rescued at {step.before.time}, the lease ends at {end}"
            )


def _retried_whole(step: Step) -> Iterator[str | None]:
    for transition, before, _ in _moves(step):
        if transition.event is Event.RETRY:
            there = step.before.has_payload(before.id, "request")
            lost = [part.key for part in before.request_artifacts or () if part.key not in step.before.artifacts]
            clean = before.cleanup_started_at is None
            yield (
                OK
                if there and not lost and clean
                else f"retried; request there: {there}, parts lost: {lost}, clean-up begun: {not clean}"
            )


def _retry_resets(step: Step) -> Iterator[str | None]:
    for transition, before, after in _moves(step):
        if transition.event is Event.RETRY:
            fresh = after.attempt_base == before.attempt_count and after.give_backs == 0
            yield _nothing_left(after, step.after) or (OK if fresh else "a retry gave no fresh budget")


def _nothing_left(job: AnyJob, world: World) -> str:
    """What a job in the queue must not have any more: whatever a run leaves behind."""
    left = [name for name in _OF_A_RUN if getattr(job, name) not in (None, False)]
    left += ["response"] if world.has_payload(job.id, "response") else []
    return f"a queued job still has {left}" if left else OK


def _one_active(step: Step) -> Iterator[str | None]:
    for transition, before, after in _moves(step):
        if transition.event is Event.RETRY:
            idle = before.status not in (*_ACTIVE, JobStatus.VALIDATING, JobStatus.COMPLETED)
            yield OK if idle and after.run == before.run + 1 else f"a retry of a {before.status} job, to run {after.run}"


def _committed(step: Step) -> Iterator[str | None]:
    if isinstance(step.effect, Dispatch):
        delivery = step.effect.delivery
        row = step.before.row(delivery.job_id)
        yield OK if row is not None and 1 <= delivery.run <= row.run else f"run {delivery.run} is dispatched, the row is {row}"


def _marked(step: Step) -> Iterator[str | None]:
    for transition, before, _ in _moves(step):
        if transition.event is Event.DISPATCHED:
            sent = (before.id, before.run) in step.before.sent
            yield OK if sent else f"run {before.run} is marked as dispatched and was not"


def _time_stands(step: Step) -> Iterator[str | None]:
    for transition, before, after in _moves(step):
        written = [getattr(after, name) for name in transition.changes if name.endswith("_at") and name not in _PLANNED]
        moments = [moment for moment in written if moment is not None]
        yield (
            OK
            if all(moment >= before.updated_at for moment in moments)
            else f"{transition.event} wrote a time before {before.updated_at}"
        )


def _deadlines(policy: Policy, step: Step) -> Iterator[str | None]:
    for transition, _, after in _moves(step):
        if transition.event is Event.RETRY:
            yield (
                OK
                if after.expires_at == transition.at + after.ttl
                else f"a retry at {transition.at} expires at {after.expires_at}"
            )
        if transition.event is Event.START and after.lease is not None and policy.lease_seconds is not None:
            end = transition.at + policy.lease_seconds
            yield (
                OK
                if after.lease.expires_at == end
                else f"a start at {transition.at} has a lease until {after.lease.expires_at}"
            )


def _in_time(policy: Policy, step: Step) -> Iterator[str | None]:
    latest = step.before.time + policy.skew_seconds
    for transition, before, _ in _moves(step):
        if transition.event is Event.EXPIRE:
            yield (
                OK
                if before.expires_at <= max(latest, before.updated_at)
                else f"expired at {step.before.time}, due {before.expires_at}"
            )
        if transition.event is Event.BEGIN_CLEANUP:
            due = before.expires_at + seconds(policy.cleanup_after)
            fine = before.status is JobStatus.EXPIRED and due <= max(latest, before.updated_at)
            yield OK if fine else f"clean-up of a {before.status} job at {step.before.time}, due {due}"


# Of worlds


def _whole(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        if job.status in _ACTIVE:
            lost = [part.key for part in job.request_artifacts or () if part.key not in world.artifacts]
            there = world.has_payload(job.id, "request")
            yield OK if there and not lost else f"a {job.status} job without its request ({there}), parts lost: {lost}"


def _queued_anew(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        if job.status is JobStatus.QUEUED:
            yield _nothing_left(job, world)
            pending = job.dispatched_at is not None or job.task_name is not None
            yield "it is marked as dispatched, and dispatch_count is 0" if pending and not job.dispatch_count else OK
            if pending:
                yield OK if (job.id, job.run) in world.sent else f"run {job.run} is marked as dispatched and was not"


def _one_start(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        run, starts = 0, dict[int, int]()
        for record in world.history(job.id):
            changed = record.changes.get("run")
            run = changed if isinstance(changed, int) else run
            if record.event is Event.START:
                starts[run] = starts.get(run, 0) + 1
        if starts:
            total = sum(starts.values())
            fine = max(starts.values()) == 1 and total == job.attempt_count
            yield OK if fine else f"starts by run {starts}, attempt_count {job.attempt_count}"


def _budget(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        if job.attempt_count:
            most = job.max_attempts - (job.status is JobStatus.QUEUED)
            yield OK if job.attempts_used <= most else f"{job.status} with {job.attempts_used} of {job.max_attempts} attempts"


def _replays(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        again = replay(world.history(job.id))
        differ = [name for name in Job.model_fields if name not in NOT_REPLAYED and getattr(again, name) != getattr(job, name)]
        yield f"history and row differ in {differ}" if differ else OK


def _once(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        operations = [record.operation for record in world.history(job.id)]
        yield OK if len(set(operations)) == len(operations) else f"an operation stands twice in {operations}"


def _one_job_a_key(world: World) -> Iterator[str | None]:
    keys = [(job.organization_id, job.idempotency_key) for job in world.jobs if job.idempotency_key is not None]
    if keys:
        yield OK if len(set(keys)) == len(keys) else f"{len(keys)} jobs of one key"


def _stays_cleaned(world: World) -> Iterator[str | None]:
    for job in world.jobs:
        if job.cleanup_started_at is not None:
            left = [name for name in ("request", "response") if world.has_payload(job.id, name)]
            yield OK if job.status is JobStatus.EXPIRED and not left else f"a cleaned job is {job.status}, with {left}"


# Of answers


def _truthful(ending: Ending) -> str | None:
    """Said accepted: it stands in the history under an own id, or another had done it. Refused: it does not.

    Whatever the actor, an error that is none of the library's is a bug of its flow.
    """
    event, error = ending.actor.event, ending.answer.error
    if isinstance(ending.answer.value, Worked):
        event, error = ending.answer.value
    if error is not None and not isinstance(error, JobstateError):
        return f"it raised {error!r}"
    if event is None:
        return None
    if isinstance(error, OutcomeUnknownError):
        return OK
    if error is not None and not isinstance(error, (TransitionError, RepositoryError)):
        return f"it raised {error!r}"
    own = [record for job in ending.world.jobs for record in ending.world.history(job.id) if record.operation in ending.minted]
    done = sum(record.event == event for record in own)
    if error is not None:
        return f"it was refused ({error}), and done" if done else OK
    if done > 1:
        return f"it was done {done} times"
    if done or (event is Event.RETRY and any(job.retried_at is not None for job in ending.world.jobs)):
        return OK
    if event is Event.RELEASE and any(record.event == Event.FAIL for record in own):
        return OK
    return "it was said to be done, and is not"


def _started(ending: Ending) -> str | None:
    """An attempt that was handed out is one that was counted, under its own token."""
    if not isinstance(ending.answer.value, Worked):
        return None
    records = [record for job in ending.world.jobs for record in ending.world.history(job.id)]
    own = [record for record in records if record.event is Event.START and record.operation in ending.minted]
    return OK if len(own) == 1 else f"an attempt was handed out for {len(own)} starts"


def invariants(policy: Policy) -> tuple[Invariant, ...]:
    """All of them, for jobs under this policy."""
    return (
        Invariant("a fenced worker changes nothing", ("P1", "P2"), step=lambda s: _first(_fenced(s))),
        Invariant("a result changes by a retry only", ("P3",), step=lambda s: _first(_results_stay(s))),
        Invariant("an attempt is counted when it starts", ("P7",), step=lambda s: _first(_attempts_counted(s))),
        Invariant("a new run begins in the queue, once", ("P7", "P22"), step=lambda s: _first(_runs_counted(s))),
        Invariant("a live lease is never taken over", ("P19",), step=lambda s: _first(_rescued_dead(s))),
        Invariant("an accepted retry finds its request whole", ("P9", "P10"), step=lambda s: _first(_retried_whole(s))),
        Invariant("a retry resets what it has to", ("P5", "P6"), step=lambda s: _first(_retry_resets(s))),
        Invariant("a retry begins one run of an idle job", ("P3", "P12"), step=lambda s: _first(_one_active(s))),
        Invariant("only what is committed is dispatched", ("P14",), step=lambda s: _first(_committed(s))),
        Invariant("what is marked as dispatched was", ("P14",), step=lambda s: _first(_marked(s))),
        Invariant("time does not run backwards on a row", ("P17",), step=lambda s: _first(_time_stands(s))),
        Invariant("deadlines are full", ("P17",), step=lambda s: _first(_deadlines(policy, s))),
        Invariant("nothing expires or is cleaned too early", ("P9", "P17"), step=lambda s: _first(_in_time(policy, s))),
        Invariant("an active job has its request", ("P9", "P22"), world=lambda w: _first(_whole(w))),
        Invariant("a queued job has nothing of an earlier run", ("P5", "P6"), world=lambda w: _first(_queued_anew(w))),
        Invariant("a run is started once", ("P7", "P22"), world=lambda w: _first(_one_start(w)), of_history=True),
        Invariant("the budget is kept", ("P7", "P8"), world=lambda w: _first(_budget(w))),
        Invariant("the history replays to the row", ("P16",), world=lambda w: _first(_replays(w)), of_history=True),
        Invariant("a command has one effect", ("P12", "P16", "P21"), world=lambda w: _first(_once(w))),
        Invariant("a key belongs to one job", ("P13",), world=lambda w: _first(_one_job_a_key(w))),
        Invariant("what is cleaned stays so", ("P9", "P10"), world=lambda w: _first(_stays_cleaned(w))),
        Invariant("answers are truthful", ("P5", "P11", "P21"), ending=_truthful),
        Invariant("an attempt handed out was started", ("P2", "P21"), ending=_started),
    )
