"""The pure core against `transitions`, and a flow in memory against the same operation by hand."""

from __future__ import annotations

from transitions import Machine, MachineError

from benchmarks.measure import compare
from jobstate import Event, Job, Jobs, JobStatus, apply, decide
from jobstate.lifecycle import Accepted
from jobstate.memory import MemoryRepository

NOW = 1_700_000_000


class _Model:
    """What `transitions` decorates."""

    def allowed(self) -> bool:
        return True


def decisions() -> None:
    """A retry that is decided and applied, and a refusal with its reasons, against triggers of `transitions`."""
    job: Job = Job(
        id="job_" + "0" * 21, organization_id="o", endpoint="/x", status=JobStatus.FAILED, run=1, ttl=60,
        created_at=NOW, updated_at=NOW, expires_at=NOW + 60,
    )  # fmt: skip
    model = _Model()
    machine = Machine(model, states=["failed", "queued"], initial="failed", auto_transitions=False)
    machine.add_transition("retry", "failed", "failed", conditions="allowed")
    machine.add_transition("finish", "queued", "failed")

    def retry() -> Job:
        decision = decide(job, Event.RETRY, NOW)
        assert isinstance(decision, Accepted)
        return apply(job, decision)

    def raised() -> None:
        try:
            model.finish()  # type: ignore[attr-defined]  # attached at run time
        except MachineError:
            return

    compare("decide + apply of a retry / one transitions trigger, one condition", retry, model.retry, 3000)  # type: ignore[attr-defined]
    compare("decide, refused / a raised and caught MachineError", lambda: decide(job, Event.CANCEL, NOW), raised, 3000)


def flows() -> None:
    """A cancel and a retry through `Jobs` in memory, and the same reads, decisions and saves without effects."""
    repository = MemoryRepository()
    jobs = Jobs(repository).for_organization("org")
    ours, theirs = jobs.create("/x", {}).id, jobs.create("/x", {}).id

    def through() -> None:
        jobs.cancel(ours)
        jobs.retry(ours)

    def by_hand() -> None:
        for number, asked in enumerate((Event.CANCEL, Event.RETRY)):
            job = repository.load(theirs, organization_id="org")
            decision = decide(job, asked, job.updated_at, operation=f"op{number}")
            assert isinstance(decision, Accepted)
            repository.save(decision)
            apply(job, decision)

    compare("cancel and retry through Jobs in memory / by hand, without effects", through, by_hand, 200)
