"""Workers take pending jobs from the repository: each to one of them, started, and nothing is lost on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from threading import Barrier
from typing import Any, cast

import pytest

from jobstate import InvalidInputError, Job, Jobs, OutcomeUnknownError, Policy, RepositoryError
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.effects import Moved
from jobstate.lifecycle import Accepted
from jobstate.memory import MemoryArtifactStore, MemoryDispatcher, MemoryRepository
from jobstate.testing import ManualClock
from tests.postgresql import emptied, engine_of
from tests.sql import sqlite_engine
from tests.support import ENDPOINT, NOW, ORG, Faulty, HoldingRepository

MEMORIES = {"memory": MemoryRepository, "holding": HoldingRepository}
POLICY = Policy(inline_limit=100, lease=timedelta(seconds=120))


class Place:
    """Jobs without a dispatcher, on one kind of repository."""

    def __init__(self, repository: Any) -> None:
        self.clock = ManualClock(NOW)
        self.repository = repository
        self.artifacts = MemoryArtifactStore()
        self.jobs = Jobs(repository, policy=POLICY, clock=self.clock, artifacts=self.artifacts)

    def create(self, **options: Any) -> Job:
        request = options.pop("request", {"a": 1})
        return self.jobs.create(ENDPOINT, request, organization_id=ORG, **options)


@pytest.fixture(params=["memory", "holding", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param in MEMORIES:
        yield Place(MEMORIES[request.param]())
        return
    engine = sqlite_engine(tmp_path) if request.param == "sqlite" else engine_of(request.getfixturevalue("server"))
    if request.param == "postgresql":
        emptied(engine)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    yield Place(repository)
    engine.dispose()


def test_what_is_taken_has_started_with_its_request_the_longest_due_first(place: Place) -> None:
    jobs: list[Job] = []
    for number in range(5):
        jobs.append(place.create(request={"number": number}))
        place.clock.advance(1)
    taken = place.jobs.take(3)
    assert [attempt.job_id for attempt in taken] == [job.id for job in jobs[:3]]
    assert [attempt.job.request for attempt in taken] == [{"number": number} for number in range(3)]
    assert {(attempt.number, attempt.job.status, attempt.job.attempt_count) for attempt in taken} == {(1, "in_progress", 1)}
    assert len({attempt.token for attempt in taken}) == 3
    for attempt, job in zip(taken, jobs, strict=False):
        assert attempt.complete({"done": True}).status == "completed"
        assert [record.event for record in place.jobs.history(job.id)] == ["created", "start", "complete"]
    assert [attempt.job_id for attempt in place.jobs.take(9)] == [job.id for job in jobs[3:]]
    assert place.jobs.take(9) == []


def test_what_may_not_start_is_passed_by(place: Place) -> None:
    """More of them than a look finds at once: expired ones, and those that are available later only."""
    for _ in range(7):
        place.create(ttl=timedelta(seconds=5))
    place.clock.advance(5)
    place.create(available_at=NOW + 100)
    good = place.create()
    assert [attempt.job_id for attempt in place.jobs.take(2)] == [good.id]
    assert place.jobs.count(status="queued") == 8


def test_no_more_is_taken_than_was_asked_for_where_some_of_a_look_cannot_start(place: Place) -> None:
    place.create(ttl=timedelta(seconds=5))
    place.clock.advance(5)
    good: list[Job] = []
    for _ in range(5):
        good.append(place.create())
        place.clock.advance(1)
    assert [attempt.job_id for attempt in place.jobs.take(3)] == [job.id for job in good[:3]]
    assert place.jobs.count(status="in_progress") == 3


def test_what_is_taken_is_held_for_the_lease_of_the_policy_under_an_operation(place: Place) -> None:
    place.create()
    (attempt,) = place.jobs.take(1)
    assert attempt.job.lease is not None
    assert attempt.job.lease.expires_at == NOW + 120
    created, started = place.jobs.history(attempt.job_id)
    assert started.operation.startswith("op_")
    assert started.operation != created.operation


def test_a_request_whose_parts_are_elsewhere_is_whole(place: Place) -> None:
    whole = {"image": "data:text/plain;base64," + "QUJD" * 100}
    place.create(request=whole)
    plain = place.create()
    taken = place.jobs.take(5)
    assert sorted(str(attempt.job.request) for attempt in taken) == sorted([str(whole), str({"a": 1})])
    assert place.jobs.take(5) == []
    assert plain.id in {attempt.job_id for attempt in taken}


def test_a_part_that_is_gone_uses_no_attempt_and_stops_no_other(place: Place) -> None:
    broken = place.create(request={"image": "data:text/plain;base64," + "QUJD" * 100})
    place.artifacts.delete(f"{broken.id}/")
    good = place.create()
    assert [attempt.job_id for attempt in place.jobs.take(5)] == [good.id]
    assert (place.jobs.retrieve(broken.id).status, place.jobs.retrieve(broken.id).attempt_count) == ("queued", 0)


def test_of_several_workers_at_once_each_gets_others(place: Place) -> None:
    jobs = [place.create() for _ in range(40)]
    barrier = Barrier(4)

    def worker() -> list[str]:
        barrier.wait(60)
        mine: list[str] = []
        while place.jobs.count(status="queued"):
            mine += [attempt.job_id for attempt in place.jobs.take(3)]
        return mine

    with ThreadPoolExecutor(4) as pool:
        taken = [job_id for each in [pool.submit(worker) for _ in range(4)] for job_id in each.result()]
    assert sorted(taken) == sorted(job.id for job in jobs)
    assert {job.attempt_count for job in place.jobs.list(limit=100).data} == {1}


Save = Callable[[Sequence[Accepted]], list[RepositoryError | None]]


class Answering(HoldingRepository):
    """Saves and answers the starts of a take as it is told."""

    def __init__(self, answers: Callable[[Save, Sequence[Accepted]], list[RepositoryError | None]]) -> None:
        super().__init__()
        self._answers = answers

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        return self._answers(super().save_many, transitions)


def unknown(starts: Sequence[Accepted]) -> list[RepositoryError | None]:
    return [OutcomeUnknownError(one.job_id, "lost") for one in starts]


def test_a_start_that_was_not_made_is_made_again_under_the_same_operation() -> None:
    operations: set[str] = set()

    def nothing(save: Save, starts: Sequence[Accepted]) -> list[RepositoryError | None]:
        operations.update(one.operation for one in starts)
        return unknown(starts)

    place = Place(Answering(nothing))
    jobs = [place.create() for _ in range(2)]
    taken = place.jobs.take(5)
    assert sorted(attempt.job_id for attempt in taken) == sorted(job.id for job in jobs)
    assert {(attempt.number, attempt.complete({}).status) for attempt in taken} == {(1, "completed")}
    assert {place.jobs.history(job.id)[1].operation for job in jobs} == operations


def test_a_start_whose_answer_was_lost_is_found_when_it_could_not_be_made_any_more() -> None:
    def late(save: Save, starts: Sequence[Accepted]) -> list[RepositoryError | None]:
        save(starts)
        here.clock.advance(60)
        return unknown(starts)

    here = Place(Answering(late))
    here.create(ttl=timedelta(seconds=5))
    (attempt,) = here.jobs.take(1)
    done = attempt.complete({})
    assert (attempt.number, done.attempt_count, done.status) == (1, 1, "completed")


def test_what_the_repository_says_was_not_started_is_left_to_the_next_look() -> None:
    def locked(save: Save, starts: Sequence[Accepted]) -> list[RepositoryError | None]:
        return [RepositoryError("the row is locked") if one.job_id == first.id else save([one])[0] for one in starts]

    place = Place(Answering(locked))
    first = place.create()
    place.clock.advance(1)
    second = place.create()
    assert [attempt.job_id for attempt in place.jobs.take(2)] == [second.id]
    assert [record.event for record in place.jobs.history(first.id)] == ["created"]


def test_a_take_does_not_guess_which_start_was_not_answered_for() -> None:
    place = Place(Answering(lambda save, starts: save(starts)[:-1]))
    for _ in range(2):
        place.create()
    with pytest.raises(ValueError, match="zip"):
        place.jobs.take(2)


class FailsLater(HoldingRepository):
    """The first part of the due page is moved, and then the database is gone."""

    parts = 0

    def move_due(self, *args: Any, **options: Any) -> Moved:
        self.parts += 1
        if self.parts > 1:
            raise RepositoryError("gone")
        return super().move_due(*args, **options)


def test_what_was_started_is_not_lost_to_a_later_error() -> None:
    place = Place(FailsLater())
    place.create(ttl=timedelta(seconds=5))
    place.clock.advance(5)
    good = [place.create() for _ in range(2)]
    started = [attempt.job_id for attempt in place.jobs.take(2)]
    assert len(started) == 1, "one of the first two was expired"
    assert started[0] in {job.id for job in good}
    with pytest.raises(RepositoryError, match="gone"):
        place.jobs.take(2)


def test_in_the_weaker_form_one_that_another_was_quicker_with_is_left_to_him() -> None:
    repository = MemoryRepository()
    place = Place(Faulty(repository))
    others = Jobs(repository, clock=place.clock)
    first, second = place.create(), place.create()
    faulty = cast("Faulty", place.repository)
    faulty.then("due", lambda: others.start(first.delivery))
    assert [attempt.job_id for attempt in place.jobs.take(2)] == [second.id]


@pytest.mark.parametrize("limit", [0, 1001, True, 1.0, "3"])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(InvalidInputError, match=r"limit: a whole number from 1 to 1000"):
        Place(MemoryRepository()).jobs.take(limit)


def test_what_a_dispatcher_carries_is_not_taken() -> None:
    with pytest.raises(InvalidInputError, match="dispatcher: it carries the jobs"):
        Jobs(MemoryRepository(), MemoryDispatcher()).take(1)


def test_one_tenant_takes_nothing() -> None:
    with pytest.raises(InvalidInputError, match="organization_id"):
        Place(MemoryRepository()).jobs.for_organization(ORG).take(1)
