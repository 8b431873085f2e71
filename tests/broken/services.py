"""Services with one fault each, how the fault is put in for the time of a test, and the machine's word for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from jobstate.effects import Dispatch
from jobstate.errors import OutcomeUnknownError, StaleJobError
from jobstate.flows import attempts, commands, dispatch, many, settle, sweeps
from jobstate.flows.settle import Outcome
from jobstate.lifecycle import TABLE, Accepted, Refused, apply, guards
from jobstate.memory import MemoryDispatcher, MemoryRepository
from jobstate.model import Delivery, Event, Job
from tests.broken import dispatchers, repositories

Patch = pytest.MonkeyPatch


class Broken(NamedTuple):
    """A fault, and a part of what the machine says when it meets it."""

    name: str
    says: str
    put_in: Callable[[Patch], None] = lambda patch: None
    repository: Callable[[], MemoryRepository] = MemoryRepository
    dispatcher: Callable[[], MemoryDispatcher] = MemoryDispatcher


def without(guard: Any) -> Callable[[Patch], None]:
    """A table none of whose rows has this guard."""

    def put_in(patch: Patch) -> None:
        for key, rows in TABLE.items():
            kept = tuple(row._replace(guards=tuple(each for each in row.guards if each is not guard)) for row in rows)
            patch.setitem(TABLE, key, kept)

    return put_in


def writing(event: Event, *kept: str, **fields: Any) -> Callable[[Patch], None]:
    """A table in which an event leaves some fields as they are, and writes something else into others."""

    def put_in(patch: Patch) -> None:
        for key, rows in TABLE.items():
            if key[0] is event:
                patch.setitem(TABLE, key, tuple(row._replace(change=changed(row.change)) for row in rows))

    def changed(change: Any) -> Any:
        def write(job: Job, at: int, facts: Any, policy: Any) -> dict[str, Any]:
            return {**change(job, at, facts, policy), **{name: getattr(job, name) for name in kept}, **fields}

        return write

    return put_in


def flow(module: Any, name: str, instead: Any, *users: Any) -> Callable[[Patch], None]:
    """Another flow in its place, in its module and in those that use it."""

    def put_in(patch: Patch) -> None:
        for each in (module, *users):
            patch.setattr(each, name, instead)

    return put_in


def _lost_is_success(scope: Any, job: Any, asked: Any, *, held: bool) -> Any:
    decision = yield from settle.judge(scope, job, asked)
    if not isinstance(decision, Accepted):
        return None if held else settle.answer(job, decision)
    try:
        saved = yield from settle.save(scope, job, decision)
    except StaleJobError:
        return None
    except OutcomeUnknownError:
        saved = decision
    return Outcome(apply(job, saved), moved=True)


def _conflict_is_success(scope: Any, job: Any, asked: Any, *, held: bool) -> Any:
    decision = yield from settle.judge(scope, job, asked)
    if not isinstance(decision, Accepted):
        return None if held else settle.answer(job, decision)
    try:
        saved = yield from settle.save(scope, job, decision)
    except StaleJobError:
        saved = decision
    except OutcomeUnknownError:
        return job.version
    return Outcome(apply(job, saved), moved=True)


def _refusal_is_success(job: Any, decision: Any) -> Outcome:
    return Outcome(job, moved=False)


def _passes_on(scope: Any, job: Any, *, tell: bool) -> Any:
    if job.dispatch_pending:
        sent: Any = yield from dispatch.deliver(scope, job)
        return (yield from settle.carry_out(scope, job, sent)).job
    return job


def _marks_what_was_not_taken(scope: Any, job: Any) -> Any:
    name = settle.task_name(job)
    try:
        yield from Dispatch(job.delivery, name)
    except Exception:
        name += "-not"
    return (yield from settle.command(Event.DISPATCHED, {"run": job.run, "task_name": name}))


def _no_sweep(scope: Any) -> Any:
    yield from ()
    return sweeps.Swept()


def _clears_nothing(scope: Any, decisions: Any) -> Any:
    yield from ()
    return decisions


def _leaves_out(scope: Any, event: Any, page: Any, dry_run: Any, actor: Any, reason: Any) -> Any:
    asked = yield from settle.command(event, {}, actor, reason)
    outcomes: list[Any] = []
    for job in page:
        decision = yield from settle.judge(scope, job, asked)
        if isinstance(decision, Refused):
            continue
        outcome = yield from settle.carry_out(scope, job, asked)
        outcomes.append(many.BulkOutcome(job.id, many.Fate.MOVED, outcome.job, None))
    return outcomes


class LosesADeliveryForEver(MemoryDispatcher):
    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return task_name


class ForgetsWhatItHolds(MemoryDispatcher):
    """And takes the next dispatch of the same run for a repetition."""

    def __init__(self) -> None:
        super().__init__()
        self.held: set[Delivery] = set()

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        self.held.add(delivery)
        return task_name

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return task_name if delivery in self.held else super().dispatch(delivery, task_name)


class DeliversWhatIsRolledBack(MemoryDispatcher):
    """Says that it writes in the job's transaction, and does not."""

    transactional = True


LEFT = "a queued job has nothing of an earlier run (P5, P6)"
FENCE = "a fenced worker changes nothing (P1, P2)"
RUN = "a job with time left is run (P14, P22)"
MARK = "what is marked was dispatched (P14)"
STAYS = "a result changes by a retry only (P3)"

LIFECYCLE = [
    Broken("any token is the lease's", FENCE, without(guards.lease_is_own)),
    Broken("any run may start", "it is not possible, and was done", without(guards.run_is_current)),
    Broken("attempts are not counted", "attempts are the accepted starts (P7)", writing(Event.START, attempt_count=0)),
    Broken(
        "a retry keeps the cancel flag",
        "a queued job has nothing of an earlier run",
        writing(Event.RETRY, "cancelled"),
    ),
    Broken("a retry is the same run", STAYS, writing(Event.RETRY, "run")),
    Broken("a retry after clean-up", "an active job has its request whole (P9, P22)", without(guards.cleanup_not_begun)),
    Broken(
        "an expiry keeps no result",
        "a result changes by a retry only (P3)",
        writing(Event.EXPIRE, error=None, completed_at=None),
    ),
]

FLOWS = [
    Broken("a lost answer is success", "truthful", flow(settle, "try_once", _lost_is_success)),
    Broken("a conflict is success", "truthful", flow(settle, "try_once", _conflict_is_success)),
    Broken("a refusal is success", "truthful", flow(settle, "answer", _refusal_is_success, attempts)),
    Broken(
        "a failed dispatch is an error",
        "truthful",
        flow(dispatch, "hand_over", _passes_on, commands, attempts, many),
    ),
    Broken(
        "a failed dispatch is marked",
        "what is marked was dispatched (P14)",
        flow(dispatch, "deliver", _marks_what_was_not_taken, sweeps),
    ),
    Broken("nobody relays", RUN, flow(sweeps, "relay", _no_sweep)),
    Broken("nobody rescues", RUN, flow(sweeps, "rescue", _no_sweep)),
    Broken("nobody cleans up", "everything expires and is cleaned", flow(sweeps, "cleanup", _no_sweep)),
    Broken("artifacts stay", "what is cleaned is gone", flow(sweeps, "_clear", _clears_nothing)),
    Broken("bulk leaves the refused out", "bulk is the single command n times (P15)", flow(many, "_change_page", _leaves_out)),
]

REPOSITORIES = [
    Broken(name, says, repository=getattr(repositories, name))
    for name, says in (
        ("AcceptsAStaleWrite", ""),
        ("WritesNoRecord", ""),
        ("WritesTheRecordOfAStaleSave", ""),
        ("KeepsWhatBecomesNone", ""),
        ("ForgetsTheRequest", ""),
        ("DropsThePayloadOnEachSave", ""),
        ("KeepsThePayloadAtCleanUp", "what is cleaned is gone"),
        ("IgnoresKeys", "a creation makes one job"),
        ("HasKeysForAllOrganizations", ""),
        ("IgnoresTheTenant", "a job is its tenant's"),
        ("LosesUpdatesInBulk", ""),
        ("WritesNoRecordsInBulk", ""),
    )
]

DISPATCHERS = [
    Broken("LosesADeliveryForEver", "", dispatcher=LosesADeliveryForEver),
    Broken("DropsARunItHasSeen", "", dispatcher=dispatchers.DropsARunItHasSeen),
    Broken("ForgetsWhatItHolds", RUN, dispatcher=ForgetsWhatItHolds),
    Broken("DeliversWhatIsRolledBack", "what is dispatched is committed", dispatcher=DeliversWhatIsRolledBack),
]

SERVICES = [*LIFECYCLE, *FLOWS, *REPOSITORIES, *DISPATCHERS]
