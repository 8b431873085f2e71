"""Ratios measured side by side in one run: `python -m benchmarks`. Needs what the tests need."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import create_engine
from transitions import Machine, MachineError

from jobstate import Event, Job, Jobs, Policy, apply, decide
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.lifecycle import Accepted
from jobstate.memory import MemoryRepository

NOW = 1_700_000_000
ROUNDS = 15


def compare(title: str, ours: Callable[[], object], other: Callable[[], object], calls: int) -> None:
    """Time both in turn, ROUNDS times, and print the medians and the median of the ratios."""
    rows = [(_time(ours, calls), _time(other, calls)) for _ in range(ROUNDS)]
    first, second = (statistics.median(row[index] for row in rows) * 1e6 / calls for index in (0, 1))
    ratios = sorted(mine / its for mine, its in rows)
    spread = f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
    print(f"{title:<72} {first:9.2f} us {second:9.2f} us   {statistics.median(ratios):5.2f}  {spread}")


def _time(work: Callable[[], object], calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - begin


class _Model:
    """What `transitions` decorates."""

    def allowed(self) -> bool:
        return True


def core() -> None:
    """The pure part against one trigger of `transitions`."""
    job: Job = Job(
        id="job_" + "0" * 21, organization_id="o", endpoint="/x", status="failed", run=1, ttl=60,
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


def payloads(folder: Path) -> None:
    """A life of a job with a 5 MB request against one with 1 KB, on SQLite: each transition, without the creation."""
    repository = SQLAlchemyRepository(create_engine(f"sqlite:///{folder / 'payloads.sqlite'}"))
    repository.create_schema()
    jobs = Jobs(repository, policy=Policy(max_attempts=1_000_000)).for_organization("org")
    sizes = {size: jobs.create("/x", {"data": "x" * size}) for size in (5_000_000, 1_000)}

    def life(size: int) -> Callable[[], object]:
        def run() -> None:
            job = jobs.retrieve(sizes[size].id)
            attempt = jobs.start(job.delivery, include_request=False)
            attempt.heartbeat(0.5)
            attempt.give_back()
            jobs.cancel(job.id)
            jobs.retry(job.id)

        return run

    compare("five transitions on SQLite, 5 MB request / 1 KB request", life(5_000_000), life(1_000), 20)


def flow(folder: Path) -> None:
    """A cancel and a retry through `Jobs`, in memory and on SQLite."""
    sqlite = SQLAlchemyRepository(create_engine(f"sqlite:///{folder / 'flow.sqlite'}"))
    sqlite.create_schema()

    def both(repository: MemoryRepository | SQLAlchemyRepository) -> Callable[[], object]:
        jobs = Jobs(repository).for_organization("org")
        job = jobs.create("/x", {})

        def run() -> None:
            jobs.cancel(job.id)
            jobs.retry(job.id)

        return run

    compare("cancel and retry through Jobs, SQLite / memory", both(sqlite), both(MemoryRepository()), 30)


if __name__ == "__main__":
    print(f"{'what':<72} {'first':>12} {'second':>12}   ratio  (range), medians of {ROUNDS} rounds")
    core()
    with tempfile.TemporaryDirectory() as name:
        payloads(Path(name))
        flow(Path(name))
