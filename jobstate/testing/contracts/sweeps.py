"""The contract of a repository that holds the rows of a sweep: a case for each clause of `SharedSweeps`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Lock
from typing import Any

from jobstate.effects import Decide, DueJobs, Flow, MoveDue
from jobstate.errors import JobstateError, StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, Event, JobStatus, evolve
from jobstate.query import Cursor, Due
from jobstate.testing.contracts.clauses import Contract, clause
from jobstate.testing.contracts.repository import AsyncRepositoryPorts, RepositoryPorts
from jobstate.testing.contracts.samples import IDS, LATE, bare, example, insert, refused, same, stored, transition, unchanged
from jobstate.testing.examples import T

PARTIES = 4


def _expiry(job: AnyJob) -> Accepted:
    return transition(job, Event.EXPIRE, status=JobStatus.EXPIRED)


class _OwnError(JobstateError):
    """What a decision raises."""


class SharedSweepsCases(Contract):
    """A case for each clause that needs one sweep only."""

    @clause("S01")
    def test_S01_what_is_decided_of_a_due_page_is_saved(self) -> Flow[None]:
        """Page by page, as `due` has them; what was decided on another version is stale, and what was not stays."""
        jobs = [example(number, expires_at=T + number // 2) for number in range(6)]
        yield from stored(jobs)
        given: list[AnyJob] = []

        def decide(page: Sequence[AnyJob]) -> list[Accepted]:
            given.extend(page)
            asked = [job for job in page if job.id != IDS[4]]
            return [_expiry(evolve(job, {"version": 7}) if job.id == IDS[1] else job) for job in asked]

        after: Cursor | None = None
        for page in (jobs[:2], jobs[2:4], jobs[4:], []):
            expected = yield from DueJobs(Due.EXPIRING, LATE, 2, after)
            moved = yield from MoveDue(Due.EXPIRING, LATE, 2, after, decide)
            assert [job.id for job in moved.page.jobs] == [job.id for job in page]
            assert (moved.page.after, moved.page.unreadable) == (expected.after, [])
            told = {one.job_id: answer for one, answer in zip(moved.transitions, moved.answers, strict=True)}
            assert told.keys() == {job.id for job in page} - {IDS[4]}
            assert all(isinstance(answer, StaleJobError) == (job_id == IDS[1]) for job_id, answer in told.items()), told
            after = moved.page.after
        for job, there in zip(jobs, given, strict=True):
            same(there, bare(job))
            still = job.id in (IDS[1], IDS[4])
            yield from unchanged(job if still else evolve(job, _expiry(job).changes), 1 if still else 2)

    @clause("S02")
    def test_S02_what_a_decision_raises_is_passed_on_and_nothing_is_saved(self) -> Flow[None]:
        jobs = [example(number) for number in range(3)]
        yield from stored(jobs)

        def decide(page: Sequence[AnyJob]) -> list[Accepted]:
            raise _OwnError("no")

        yield from refused(MoveDue(Due.EXPIRING, LATE, 9, None, decide), _OwnError)
        for job in jobs:
            yield from unchanged(job)
        moved = yield from MoveDue(Due.EXPIRING, LATE, 9, None, lambda page: [_expiry(job) for job in page])
        assert moved.answers == [None] * 3, "rows are held after an error"


class SharedSweepsContract(RepositoryPorts, SharedSweepsCases):
    """The contract of `SharedSweeps`; it is given what `RepositoryContract` is given."""

    def test_S03_several_at_once_share_the_rows(self, tmp_path: Path) -> None:
        """Each row is given to one of them, and saved once."""
        repository: Any = self.open_repository(tmp_path)
        try:
            for number in range(len(IDS)):
                effect = insert(example(number))
                assert repository.insert(effect.job, effect.record) is None
            given: list[str] = []
            lock, barrier = Lock(), Barrier(PARTIES)

            def decide(page: Sequence[AnyJob]) -> list[Accepted]:
                with lock:
                    given.extend(job.id for job in page)
                return [_expiry(job) for job in page]

            with ThreadPoolExecutor(PARTIES) as pool:
                sweeps = [pool.submit(_sweep, repository, decide, barrier) for _ in range(PARTIES)]
                saved = sum(sweep.result() for sweep in sweeps)
            assert sorted(given) == sorted(IDS), given
            assert saved == len(IDS)
        finally:
            self.close_repository(repository)


def _sweep(repository: Any, decide: Decide, barrier: Barrier) -> int:
    """Move rows, two at a time, until there are none: how many."""
    barrier.wait(60)
    saved = 0
    ask: Callable[[], Any] = lambda: repository.move_due(Due.EXPIRING, until=LATE, limit=2, decide=decide)  # noqa: E731
    while answers := ask().answers:
        assert all(answer is None for answer in answers), answers
        saved += len(answers)
    return saved


class AsyncSharedSweepsContract(AsyncRepositoryPorts, SharedSweepsCases):
    """The contract of `AsyncSharedSweeps`: the same, awaited."""
