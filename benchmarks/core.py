"""The pure core against `transitions` and python-statemachine, and a flow in memory against the same operation by hand."""

from __future__ import annotations

import time

from statemachine import State, StateMachine
from transitions import Machine, MachineError

from benchmarks.measure import compare
from jobstate import Event, Job, Jobs, JobStatus, apply, decide
from jobstate.drivers import new_id
from jobstate.lifecycle import Accepted, Refused
from jobstate.memory import MemoryRepository
from jobstate.model import evolve

NOW = 1_700_000_000
JOB: Job = Job(
    id="job_" + "0" * 21, organization_id="o", endpoint="/x", status=JobStatus.FAILED, run=1, ttl=60,
    created_at=NOW, updated_at=NOW, expires_at=NOW + 60,
)  # fmt: skip


class _Model:
    """What `transitions` decorates, with a transition that goes back to where it came from, so that it can be repeated."""

    def __init__(self) -> None:
        machine = Machine(self, states=["failed", "queued"], initial="failed", auto_transitions=False)
        machine.add_transition("retry", "failed", "failed", conditions="allowed")
        machine.add_transition("finish", "queued", "failed")

    def allowed(self) -> bool:
        return True


class _Machine(StateMachine):
    """The same with python-statemachine."""

    failed = State(initial=True)
    queued = State()
    retry = failed.to(failed, cond="allowed")
    begin = failed.to(queued)
    finish = queued.to(failed)

    def allowed(self) -> bool:
        return True


def _retry() -> Job:
    """A decision, and a new job in which the whole reset list is carried out."""
    decision = decide(JOB, Event.RETRY, NOW)
    assert isinstance(decision, Accepted)
    return apply(JOB, decision)


def accepted() -> None:
    """A retry that is decided and applied, and the new value alone, against one trigger with one condition."""
    decision = decide(JOB, Event.RETRY, NOW)
    assert isinstance(decision, Accepted)
    changes, trigger = decision.changes, _Model().retry  # type: ignore[attr-defined]  # attached at run time
    title = "decide + apply of a retry / one trigger of"
    compare(f"{title} transitions, one condition", _retry, trigger, 3000, asked=0.25)
    compare(f"{title} python-statemachine, one condition", _retry, _Machine().retry, 300, asked=0.03)
    compare("the new value of that retry alone / one trigger of transitions", lambda: evolve(JOB, changes), trigger, 3000)


def refused() -> None:
    """A refusal with its reason, and one whose legal events are read too, against an error that is raised and caught."""
    model = _Model()

    def raised() -> None:
        try:
            model.finish()  # type: ignore[attr-defined]  # attached at run time
        except MachineError:
            return

    def with_legal() -> tuple[Event, ...]:
        refusal = decide(JOB, Event.CANCEL, NOW)
        assert isinstance(refusal, Refused)
        return refusal.legal

    compare(
        "decide, refused / a raised and caught MachineError", lambda: decide(JOB, Event.CANCEL, NOW), raised, 3000, asked=0.5
    )
    compare("decide, refused, its legal events read / a MachineError", with_legal, raised, 3000)


def flows() -> None:
    """A cancel and a retry through `Jobs` in memory, and the same reads, ids, times, decisions and saves without effects.

    By hand nothing is asked about arguments, conflicts, lost answers, dispatchers and artifacts.
    """
    repository = MemoryRepository()
    jobs = Jobs(repository).for_organization("org")
    ours, theirs = jobs.create("/x", {}).id, jobs.create("/x", {}).id

    def through() -> None:
        jobs.cancel(ours)
        jobs.retry(ours)

    def by_hand() -> None:
        for asked in (Event.CANCEL, Event.RETRY):
            job = repository.load(theirs, organization_id="org")
            now = time.time()
            decision = decide(job, asked, int(now), operation=new_id("op", now))
            assert isinstance(decision, Accepted)
            repository.save(decision)
            apply(job, decision)

    compare("cancel and retry through Jobs in memory / by hand, without effects", through, by_hand, 200, asked=2.0)
