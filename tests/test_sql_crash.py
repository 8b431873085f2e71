"""A PostgreSQL server whose processes are all killed in the middle of the work, and which is started again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Signal
from typing import Any, cast

import psutil  # type: ignore[import-untyped]  # it comes with the server's wheel, without types

from jobstate import Event, Job, Jobs, JobStatus, Policy, run_job
from jobstate.errors import RepositoryError
from jobstate.lifecycle import NOT_REPLAYED, replay
from jobstate.memory import MemoryDispatcher
from jobstate.testing.clock import ManualClock
from tests.postgresql import engine_of, running
from tests.sql_sides import POSTGRESQL, Called, Truth, opened

PARTIES = 2
"""Workers for each driver."""
BEFORE, AFTER = 10, 3
"""Jobs that each worker finishes before the crash, and after it."""
REQUEST = {"pages": [1, 2]}


@dataclass
class Worker:
    """Creates, starts and completes one job after the other, and keeps what it was told."""

    jobs: Jobs
    acknowledged: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    errors: list[Exception] = field(default_factory=list[Exception])
    finished: int = 0

    def work(self, stopped: Callable[[Worker], bool]) -> None:
        pause = Signal()
        while not stopped(self):
            try:
                self._one()
            except Exception as error:  # noqa: BLE001  # the test looks at it
                self.errors.append(error)
                pause.wait(0.02)

    def _one(self) -> None:
        job = self.jobs.create("/x", REQUEST)
        self.acknowledged.append((job.id, "created"))
        attempt = self.jobs.start(job.delivery)
        self.acknowledged.append((job.id, "start"))
        attempt.complete({"total": 3})
        self.acknowledged.append((job.id, "complete"))
        self.finished += 1


def kill(server: Any) -> None:
    """All its processes, at once, with a signal that none of them sees coming."""
    leader = psutil.Process(server.get_pid())
    processes = [leader, *leader.children(recursive=True)]
    leader.suspend()  # else it notices the first one's death, and ends the others in good order
    for process in processes:
        os.kill(process.pid, signal.SIGKILL)
    psutil.wait_procs(processes, timeout=30)


def test_a_killed_server_has_every_write_that_was_acknowledged(tmp_path: Path) -> None:
    """Callers saw errors of the port only, their pools recover, and one sweep finds whatever was under way."""
    clock, dispatcher = ManualClock(), MemoryDispatcher()
    policy = Policy()
    with running(durable=True) as (url, server):
        truth = Truth(engine_of(url))
        truth.prepare()
        parties = [driver for driver in POSTGRESQL for _ in range(PARTIES)]
        with ExitStack() as sides:
            repositories = [Called(sides.enter_context(opened(driver, url, tmp_path))) for driver in parties]
            every = [Jobs(cast("Any", one), dispatcher, policy=policy, clock=clock) for one in repositories]
            workers = [Worker(jobs.for_organization("org")) for jobs in every]
            crash(workers, server)
            check(every[0], workers)
            stuck_after_a_sweep(every[0], clock, dispatcher, policy)
        truth.engine.dispose()


def check(jobs: Jobs, workers: list[Worker]) -> None:
    """Nobody was lied to."""
    errors = [error for worker in workers for error in worker.errors]
    assert errors, "nobody has noticed"
    assert [error for error in errors if not isinstance(error, RepositoryError)] == []
    assert lost(jobs, workers) == []


def crash(workers: list[Worker], server: Any) -> None:
    """Let all work, kill the server in the middle of it, and let all work on when it is there again."""
    again = Signal()
    ready = {id(worker): Signal() for worker in workers}

    def is_warm(worker: Worker) -> bool:
        """It has done its part, and works on until the server is there again."""
        if worker.finished >= BEFORE:
            ready[id(worker)].set()
        return again.is_set()

    with ThreadPoolExecutor(len(workers)) as pool:
        working = [pool.submit(worker.work, is_warm) for worker in workers]
        assert all(signalled.wait(60) for signalled in ready.values())
        kill(server)
        server.ensure_postgres_running()
        again.set()
        for worker, future in zip(workers, working, strict=True):
            future.result(60)
            worker.work(_until(worker.finished + AFTER))


def _until(goal: int) -> Callable[[Worker], bool]:
    return lambda worker: worker.finished >= goal


def all_jobs(jobs: Jobs) -> list[Job]:
    found: list[Job] = []
    after: str | None = None
    while True:
        page = jobs.list(limit=1000, after=after, include_request=True)
        found += page.data
        if not page.has_more:
            return found
        after = page.last_id


def lost(jobs: Jobs, workers: list[Worker]) -> list[tuple[str, str]]:
    """What was acknowledged and is not there; and every row is what its history tells."""
    there: set[tuple[str, str]] = set()
    left_out = set(NOT_REPLAYED)
    for job in all_jobs(jobs):
        records = list(jobs.history(job.id))
        there |= {(job.id, str(record.event)) for record in records}
        assert replay(records).model_dump(exclude=left_out) == job.model_dump(exclude=left_out)
        assert job.attempt_count == sum(record.event is Event.START for record in records)
        assert job.request == REQUEST
    return [write for worker in workers for write in worker.acknowledged if write not in there]


def stuck_after_a_sweep(jobs: Jobs, clock: ManualClock, dispatcher: MemoryDispatcher, policy: Policy) -> None:
    """Once leases are over and lost messages are late, one sweep brings all that is left to a worker again."""
    while dispatcher.take() is not None:
        pass  # with the messages of before
    clock.advance(policy.redispatch_after)
    report = jobs.sweep()
    assert (report.rescue.failed, report.relay.failed) == (0, 0)
    clock.advance(policy.backoff_cap)
    jobs.relay()  # what was rescued waits for its pause before
    while (delivery := dispatcher.take()) is not None:
        run_job(jobs, delivery, lambda request, context: {"total": 3})
    assert {job.status for job in all_jobs(jobs)} == {JobStatus.COMPLETED}
