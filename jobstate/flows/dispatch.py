"""From the queue to the dispatcher. The row is the outbox: whatever fails here, the relay finds it."""

from __future__ import annotations

from jobstate.effects import Dispatch, Flow, Now, SaveAndDispatch
from jobstate.flows.settle import Command, Dispatching, Scope, carry_out, command, judge, not_before, reload, task_name
from jobstate.lifecycle import Accepted, apply
from jobstate.model import AnyJob, Event, JobWarning, evolve
from jobstate.payload import is_storable_name

DISPATCH_DELAYED = "dispatch_delayed"
"""The code of the warning that a caller gets."""

_DELAYED = JobWarning(
    code=DISPATCH_DELAYED,
    message="The job is stored and queued; its dispatch is delayed and made by a later sweep. Do not send it again.",
)


def hand_over(scope: Scope, job: AnyJob, *, tell: bool) -> Flow[AnyJob]:
    """Give a pending job to the dispatcher, and note on the row how it went: when it is due, or before, if that can be.

    Never an error, but in a transaction of the host's, which it is to roll back. With `tell`, a caller waits for the answer: a
    dispatcher's failure is noted on the row, and the job that is returned carries a warning if, and only if, that was saved.
    A job that is not due yet is not delayed by a failure: the relay dispatches it in time.
    """
    if scope.dispatching is Dispatching.NEVER or not job.dispatch_pending:
        return job
    now = yield from Now()
    if not scope.takes(job, now):
        return job
    early = not_before(job, now)
    try:
        sent = yield from deliver(scope, job, early)
    except Exception:
        if scope.bound:
            raise
        return (yield from _note_delay(scope, job)) if tell and early is None else job
    if isinstance(sent, Accepted):
        return apply(job, sent)
    try:
        return (yield from carry_out(scope, job, sent)).job
    except Exception:
        return (yield from _as_read(scope, job))


def deliver(scope: Scope, job: AnyJob, early: int | None = None) -> Flow[Command | Accepted]:
    """Give the delivery to the dispatcher: the command that marks the row, or the mark that was saved with it.

    `early`: the time (Unix seconds) of a job that is not due yet. Raises what the dispatcher raises.
    """
    name = task_name(job)
    if scope.dispatching is Dispatching.WITHIN:
        decision = yield from judge(scope, job, (yield from command(Event.DISPATCHED, {"run": job.run, "task_name": name})))
        if not isinstance(decision, Accepted):
            raise RuntimeError(f"a queued job takes its own mark: {decision}")
        yield from SaveAndDispatch(decision, job.delivery, name, early)
        return decision
    taken: object = yield from Dispatch(job.delivery, name, early)
    if is_storable_name(taken):  # an engine that has no name of its own for the task goes by ours
        name = taken
    return (yield from command(Event.DISPATCHED, {"run": job.run, "task_name": name}))


def _note_delay(scope: Scope, job: AnyJob) -> Flow[AnyJob]:
    asked = yield from command(Event.DELAYED, {"run": job.run})
    try:
        noted = (yield from carry_out(scope, job, asked)).job
    except Exception:
        return (yield from _as_read(scope, job))
    return evolve(noted, {"warnings": (*(noted.warnings or ()), _DELAYED)})


def _as_read(scope: Scope, job: AnyJob) -> Flow[AnyJob]:
    try:
        return (yield from reload(scope, job))
    except Exception:
        return job
