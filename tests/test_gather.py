"""Group commit: saves that are made at once go out together, and each caller is told of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import create_engine

from jobstate import (
    Accepted,
    AsyncJobs,
    Event,
    Job,
    Jobs,
    JobstateError,
    OutcomeUnknownError,
    RepositoryError,
    StaleJobError,
    decide,
)
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.drivers import Ports
from jobstate.gather import AsyncGatherer, Gatherer
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.testing.contracts import AsyncRepositoryContract, RepositoryContract
from tests.sql import OnAsyncpg, OnPostgreSQL
from tests.support import ENDPOINT, ORG, SOON, until


class Slow(MemoryRepository):
    """The first save stands still until it is let go; notes what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[list[str]] = []
        self.entered, self.go = Flag(), Flag()
        self.error: BaseException | None = None

    def _note(self, transitions: Sequence[Accepted]) -> None:
        self.sent.append([transition.job_id for transition in transitions])
        if len(self.sent) == 1:
            self.entered.set()
            assert self.go.wait(SOON)
        elif self.error is not None:
            raise self.error

    def save(self, transition: Accepted, **options: Any) -> None:
        self._note([transition])
        super().save(transition, **options)

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        self._note(transitions)
        return [self._saved(transition) for transition in transitions]

    def _saved(self, transition: Accepted) -> RepositoryError | None:
        try:
            super().save(transition)
        except RepositoryError as error:
            return error
        return None


def made(repository: Any, count: int) -> list[Job]:
    jobs = Jobs(repository)
    return [jobs.create(ENDPOINT, {}, organization_id=ORG) for _ in range(count)]


def cancelled(job: Job) -> Accepted:
    decision = decide(job, Event.CANCEL, job.updated_at, operation="op")
    assert isinstance(decision, Accepted)
    return decision


def answer(gatherer: Gatherer, transition: Accepted) -> Exception | None:
    try:
        gatherer.save(transition)
    except JobstateError as error:
        return error
    return None


def gathered(repository: Slow, first: Accepted, others: Sequence[Accepted]) -> list[Exception | None]:
    """The answers of saves that come while the first one is on its way."""
    gatherer = Gatherer(repository)
    with ThreadPoolExecutor(len(others) + 1) as pool:
        leader = pool.submit(answer, gatherer, first)
        assert repository.entered.wait(SOON)
        rest = [pool.submit(answer, gatherer, other) for other in others]
        until(lambda: len(gatherer._waiting) == len(others))
        repository.go.set()
        return [leader.result(), *(each.result() for each in rest)]


def test_what_comes_while_one_is_on_its_way_goes_out_as_one() -> None:
    repository = Slow()
    jobs = made(repository, 6)
    assert gathered(repository, cancelled(jobs[0]), [cancelled(job) for job in jobs[1:]]) == [None] * 6
    assert [len(batch) for batch in repository.sent] == [1, 5]
    assert {repository.load(job.id).status for job in jobs} == {"cancelled"}


def test_each_is_told_of_its_own() -> None:
    """The stale one is stale, and no other."""
    repository = Slow()
    jobs = made(repository, 4)
    stale = cancelled(jobs[2])._replace(version=9)
    answers = gathered(repository, cancelled(jobs[0]), [cancelled(jobs[1]), stale, cancelled(jobs[3])])
    assert [type(one) for one in answers] == [type(None), type(None), StaleJobError, type(None)]
    assert isinstance(answers[2], StaleJobError)
    assert answers[2].job_id == jobs[2].id
    assert [repository.load(job.id).status for job in jobs] == ["cancelled", "cancelled", "queued", "cancelled"]


def test_two_saves_of_one_job_follow_one_another() -> None:
    """`save_many` is asked of different jobs only: one is done, and the other is stale."""
    repository = Slow()
    first, twice = made(repository, 2)
    answers = gathered(repository, cancelled(first), [cancelled(twice), cancelled(twice)])
    assert repository.sent == [[first.id], [twice.id], [twice.id]]
    assert sorted(type(one).__name__ for one in answers[1:]) == ["NoneType", "StaleJobError"]


def test_an_error_of_the_batch_is_told_to_each_of_it() -> None:
    repository = Slow()
    jobs = made(repository, 3)
    repository.error = RepositoryError("the database is gone")
    answers = gathered(repository, cancelled(jobs[0]), [cancelled(job) for job in jobs[1:]])
    assert [str(one) for one in answers] == ["None", "the database is gone", "the database is gone"]
    repository.error = None
    assert answer(Gatherer(repository), cancelled(jobs[1])) is None


def test_who_is_interrupted_while_sending_leaves_the_others_an_unknown_outcome() -> None:
    """And somebody who can send."""
    repository = Slow()
    jobs = made(repository, 3)
    repository.error = KeyboardInterrupt()
    gatherer = Gatherer(repository)
    told: list[BaseException | None] = []

    def save(job: Job) -> None:
        try:
            gatherer.save(cancelled(job))
        except (OutcomeUnknownError, KeyboardInterrupt) as error:
            told.append(error)

    threads = [Thread(target=save, args=(job,)) for job in jobs]
    threads[0].start()
    assert repository.entered.wait(SOON)
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(gatherer._waiting) == 2)
    repository.go.set()
    for thread in threads:
        thread.join(SOON)
    assert sorted(type(error).__name__ for error in told) == ["KeyboardInterrupt", "OutcomeUnknownError"]
    repository.error = None
    assert answer(gatherer, cancelled(jobs[2])) is None


def test_who_is_interrupted_before_sending_leaves_the_turn_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """His own save was not made, and nobody waits for him."""
    repository = MemoryRepository()
    first, second = made(repository, 2)
    gatherer = Gatherer(repository, linger=0.001)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("jobstate.gather.time.sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gatherer.save(cancelled(first))
    saving = Thread(target=answer, args=(gatherer, cancelled(second)), daemon=True)
    saving.start()
    saving.join(SOON)
    assert [repository.load(job.id).status for job in (first, second)] == ["queued", "cancelled"]


def test_many_threads_lose_nothing() -> None:
    repository = MemoryRepository()
    jobs = made(repository, 300)
    gatherer = Gatherer(repository)
    with ThreadPoolExecutor(30) as pool:
        saves = [pool.submit(answer, gatherer, cancelled(job)) for job in [*jobs, *jobs]]
        answers = [save.result() for save in saves]
    assert answers.count(None) == 300
    assert {repository.load(job.id).version for job in jobs} == {2}


def test_a_bound_face_gathers_nothing(tmp_path: Path) -> None:
    """What is the host's transaction is no other's."""

    engine = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
    gathering = Jobs(SQLAlchemyRepository(engine)).gathering()
    assert gathering._ports.gatherer is not None
    with engine.connect() as connection:
        assert gathering.bind(connection)._ports.gatherer is None
    engine.dispose()


# Awaited


class AsyncNoted(AsyncMemoryRepository):
    """Notes what is sent, after a turn of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[int] = []

    async def save(self, transition: Accepted, **options: Any) -> None:
        await asyncio.sleep(0)
        self.sent.append(1)
        await super().save(transition, **options)

    async def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        await asyncio.sleep(0)
        self.sent.append(len(transitions))
        return await super().save_many(transitions)


def test_tasks_are_gathered_too() -> None:
    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        made = [await jobs.create(ENDPOINT, {}, organization_id=ORG) for _ in range(50)]
        gatherer = AsyncGatherer(repository)
        saves = [cancelled(job) for job in made] + [cancelled(made[0])]
        answers = await asyncio.gather(*(gatherer.save(save) for save in saves), return_exceptions=True)
        assert [type(one) for one in answers[:-1]] == [type(None)] * 50
        assert isinstance(answers[-1], StaleJobError)
        assert sum(repository.sent) == 51
        assert len(repository.sent) <= 3

    asyncio.run(main())


def test_a_cancelled_caller_takes_nobody_along() -> None:
    async def main() -> None:
        repository = AsyncNoted()
        jobs = AsyncJobs(repository)
        made = [await jobs.create(ENDPOINT, {}, organization_id=ORG) for _ in range(3)]
        gatherer = AsyncGatherer(repository)
        tasks = [asyncio.create_task(gatherer.save(cancelled(job))) for job in made]
        await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in answers] == [asyncio.CancelledError, type(None), type(None)]
        assert {(await jobs.retrieve(job.id)).status for job in made[1:]} == {"cancelled"}

    asyncio.run(main())


# What is true of a repository is true of one behind a gatherer


class TestGathered(OnPostgreSQL, RepositoryContract):
    def open_ports(self, folder: Any) -> Ports:
        ports = super().open_ports(folder)
        return Ports(ports.repository, ports.dispatcher, ports.artifacts, ports.clock, gatherer=Gatherer(ports.repository))


class TestAsyncGathered(OnAsyncpg, AsyncRepositoryContract):
    async def open_ports(self, folder: Any) -> Ports:
        ports = await super().open_ports(folder)
        return Ports(ports.repository, ports.dispatcher, ports.artifacts, ports.clock, gatherer=AsyncGatherer(ports.repository))
