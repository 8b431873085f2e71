"""A sweep pages past what it cannot move, survives what fails, and moves each row once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from jobstate import (
    Attempt,
    DispatchError,
    Job,
    JobNotFoundError,
    Jobs,
    JobStatus,
    Policy,
    RepositoryError,
    UnreadableJobError,
)
from jobstate.effects import DueJobs, Effect, Moved, Now
from jobstate.flows import sweeps
from jobstate.flows.sweeps import SweepError, SweepReport, Swept
from jobstate.lifecycle import Accepted
from jobstate.query import Cursor, Due, DuePage
from jobstate.testing import ManualClock
from tests.support import ENDPOINT, NOW, ORG, REQUEST, Actor, Faulty, HoldingRepository, World, at_once, make_world, meeting

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
POLICY = Policy(cleanup_after=HOUR, forget_after=HOUR, lease=timedelta(seconds=60))
DOWN = OSError("the database is down")
Sweep = Callable[[Jobs], Swept]

SWEEPS: dict[str, Sweep] = {
    "expire": lambda jobs: jobs.expire(),
    "rescue": lambda jobs: jobs.rescue(),
    "cleanup": lambda jobs: jobs.cleanup(),
    "forget": lambda jobs: jobs.forget(),
    "relay": lambda jobs: jobs.relay(),
}


@pytest.fixture(params=["memory", "sqlite"])
def local(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A sync world in which all comes due within hours."""
    with make_world(request.param, tmp_path, POLICY) as made:
        yield made


def silent(world: World) -> Jobs:
    """Somebody who dispatches nothing."""
    ports = world.others._ports
    return Jobs(ports.repository, policy=world.policy, clock=world.clock, artifacts=ports.artifacts).for_organization(ORG)


def brief(world: World) -> Job:
    """A job that has just expired, after an hour in which the clean-up of those before came due."""
    job = silent(world).create(ENDPOINT, REQUEST, ttl=SECOND)
    world.clock.advance(HOUR + 2 * SECOND)
    world.others.expire()
    return job


def farm(world: World) -> dict[str, Job]:
    """One job for each thing that a sweep does, named by it."""
    jobs = {"forget": brief(world)}
    world.others.cleanup()
    world.clock.advance(70)
    world.others.cleanup()
    jobs["end"] = brief(world)
    world.others.cleanup()
    jobs["begin"] = brief(world)
    jobs["expire"] = silent(world).create(ENDPOINT, REQUEST, ttl=timedelta(seconds=1000))
    jobs["rescue"] = silent(world).create(ENDPOINT, REQUEST)
    world.others.start(jobs["rescue"].delivery)
    jobs["redispatch"] = world.create()
    jobs["dispatch"] = silent(world).create(ENDPOINT, REQUEST)
    world.clock.advance(1000)
    return jobs


def done(world: World, jobs: dict[str, Job]) -> set[str]:
    """What sweeps have done of it."""
    rows: dict[str, Job] = {}
    for name, job in jobs.items():
        try:
            rows[name] = world.row(job.id)
        except JobNotFoundError:
            assert name == "forget"
    facts = {
        "forget": "forget" not in rows,
        "end": rows["end"].cleanup_completed_at is not None,
        "begin": rows["begin"].cleanup_started_at is not None,
        "expire": rows["expire"].status is JobStatus.EXPIRED,
        "rescue": rows["rescue"].run == 2,
        "redispatch": rows["redispatch"].dispatch_count == 2,
        "dispatch": rows["dispatch"].dispatch_count == 1,
    }
    return {name for name, fact in facts.items() if fact}


def test_one_sweep_does_all_that_is_due(local: World) -> None:
    jobs = farm(local)
    assert done(local, jobs) == set()
    assert local.jobs.sweep() == SweepReport(*(Swept(moved=moved) for moved in (1, 1, 2, 1, 2)))
    assert done(local, jobs) == set(jobs)


def test_where_nothing_is_due_each_sweep_asks_for_its_pages_and_makes_nothing(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, POLICY) as world:
        sweeper = Actor(sweeps.sweep(world.others._scope), world.others._ports)
        asked: list[Effect[Any]] = []
        while sweeper.effect is not None:
            asked.append(sweeper.effect)
            sweeper.step()
    pages = "EXPIRING UNLEASED UNCLEANED CLEANING CLEANED PENDING UNSTARTED".split()
    assert [effect.due.name for effect in asked if isinstance(effect, DueJobs)] == pages
    assert {type(effect) for effect in asked} == {Now, DueJobs}


def test_a_job_whose_mark_could_not_be_decided_is_counted_once_and_found_again(local: World) -> None:
    for _ in range(2):
        silent(local).create(ENDPOINT, REQUEST)
    clock: Any = Faulty(local.clock)
    relaying = Jobs(local.repository, local.dispatcher, clock=clock)
    clock.fail("now", DOWN, skip=2)  # the sweep's own time, and the id of the first job's mark
    assert relaying.relay() == Swept(moved=1, failed=1)
    assert relaying.relay() == Swept(moved=1)


@pytest.mark.parametrize("page", range(7))
def test_an_error_of_a_port_stops_its_own_sweep_only(local: World, page: int) -> None:
    jobs = farm(local)
    local.repository.fail("due", DOWN, skip=page)
    with pytest.raises(ExceptionGroup) as errors:
        local.jobs.sweep()
    assert errors.value.exceptions == (DOWN,)
    missing = [{"expire"}, {"rescue"}, {"begin", "end"}, {"end"}, {"forget"}, {"dispatch", "redispatch"}, {"redispatch"}]
    assert done(local, jobs) == set(jobs) - missing[page]
    local.jobs.sweep()
    assert done(local, jobs) == set(jobs)


def test_all_errors_of_ports_are_raised_together(world: World) -> None:
    for _ in SWEEPS:
        world.repository.fail("due", DOWN)
    with pytest.raises(ExceptionGroup, match="4 of 5") as errors:  # nothing is to be forgotten here
        world.jobs.sweep()
    assert errors.value.exceptions == (DOWN,) * 4


def test_a_sweep_killed_at_any_point_is_finished_by_the_next(tmp_path: Path) -> None:
    ended = False
    point = 0
    while not ended:
        with make_world("memory", tmp_path, POLICY) as world:
            jobs = farm(world)
            sweeper = Actor(sweeps.sweep(world.others._scope), world.others._ports)
            for _ in range(point):
                sweeper.step()
            ended = sweeper.effect is None
            sweeper.flow.close()
            world.others.sweep()
            assert done(world, jobs) == set(jobs)
            point += 1
    assert point > 25


# What cannot be moved, or read, or fails


@pytest.mark.parametrize("page", [1, 2, 3, 500])
def test_a_sweep_pages_past_live_leases(local: World, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "PAGE", page)
    attempts = [local.others.start(local.create(ttl=50 * SECOND).delivery) for _ in range(5)]
    local.clock.advance(1)
    late = [local.create(ttl=50 * SECOND) for _ in range(4)]
    local.clock.advance(50)
    for attempt in attempts:
        attempt.heartbeat()
    assert local.jobs.expire() == Swept(moved=4, left=5)
    assert {local.row(job.id).status for job in late} == {JobStatus.EXPIRED}
    assert {attempt.heartbeat().status for attempt in attempts} == {JobStatus.IN_PROGRESS}


class AskedOnce(HoldingRepository):
    """Is asked for each part of a due page once."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[Cursor | None] = []

    def move_due(self, due: Due, *, after: Cursor | None = None, **options: Any) -> Moved:
        assert after not in self.parts
        self.parts.append(after)
        return super().move_due(due, after=after, **options)


@pytest.mark.parametrize("page", [1, 2, 3, 500])
def test_a_sweep_whose_rows_are_held_pages_past_live_leases(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "PAGE", page)
    repository, clock = AskedOnce(), ManualClock(NOW)
    jobs = Jobs(repository, policy=POLICY, clock=clock)
    for name in ["live"] * 5 + ["late"] * 4:
        job = jobs.create(ENDPOINT, REQUEST, organization_id=ORG, ttl=50 * SECOND, metadata={"name": name})
        clock.advance(1)
        if name == "live":
            jobs.start(job.delivery)
    clock.advance(50)
    assert jobs.expire() == Swept(moved=4, left=5)
    assert {job.metadata["name"] for job in jobs.list(status="expired").data} == {"late"}
    assert len(repository.parts) == 9 // page + 1


@pytest.mark.parametrize("page", [1, 2, 500])
def test_the_relay_goes_on_behind_what_the_dispatcher_refuses(local: World, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeps, "PAGE", page)
    jobs: list[Job] = []
    for _ in range(5):
        jobs.append(silent(local).create(ENDPOINT, REQUEST))
        local.clock.advance(1)
    for _ in range(3):
        local.dispatcher.fail("dispatch", DispatchError("the broker is down"))
    assert local.jobs.relay() == Swept(moved=2, failed=3)
    assert [local.row(job.id).dispatch_pending for job in jobs] == [True] * 3 + [False] * 2
    assert local.jobs.relay() == Swept(moved=3)


class OneBad:
    """A repository in which one row cannot be written, deleted, or (in due pages) read."""

    def __init__(self, inner: Any, job_id: str, *, readable: bool) -> None:
        self._inner = inner
        self._bad = job_id
        self._readable = readable
        self.error: Exception = RepositoryError("the row is locked")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        good = iter(self._inner.save_many([one for one in transitions if one.job_id != self._bad]))
        return [cast("RepositoryError", self.error) if one.job_id == self._bad else next(good) for one in transitions]

    def delete(self, job_id: str, version: int) -> None:
        if job_id == self._bad:
            raise self.error
        self._inner.delete(job_id, version)

    def due(self, due: Due, **options: Any) -> DuePage:
        page: DuePage = self._inner.due(due, **options)
        if self._readable or self._bad not in [job.id for job in page.jobs]:
            return page
        jobs = [job for job in page.jobs if job.id != self._bad]
        return page._replace(jobs=jobs, unreadable=[UnreadableJobError(self._bad, "status", "'archived'")])


def herd(world: World, name: str) -> list[Job]:
    """Three jobs that are due for a sweep, the oldest first."""
    jobs: list[Job] = []
    for _ in range(3):
        job = silent(world).create(ENDPOINT, REQUEST, ttl=None if name in ("rescue", "relay") else SECOND)
        if name == "rescue":
            world.others.start(job.delivery)
        jobs.append(job)
        world.clock.advance(1)
    world.clock.advance(100)
    if name in ("cleanup", "forget"):
        world.others.expire()
        world.clock.advance(HOUR)
    if name == "forget":
        for _ in range(2):
            world.others.cleanup()
            world.clock.advance(HOUR)
    return jobs


class OneAnswerShort(OneBad):
    """A repository that saves all rows and forgets the last answer."""

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        return super().save_many(transitions)[:-1]


@pytest.mark.parametrize("page", [1, 2, 500])
@pytest.mark.parametrize("name", SWEEPS)
def test_a_row_that_cannot_be_read_is_named_and_stops_nothing(
    local: World, name: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "PAGE", page)
    jobs = herd(local, name)
    ports = local.others._ports
    repository = OneBad(ports.repository, jobs[0].id, readable=False)
    face = Jobs(cast("Any", repository), ports.dispatcher, policy=POLICY, clock=local.clock, artifacts=ports.artifacts)
    assert SWEEPS[name](face) == Swept(moved=2, unreadable=(jobs[0].id,))
    assert SWEEPS[name](local.others).moved == 1


@pytest.mark.parametrize("page", [1, 2, 500])
@pytest.mark.parametrize("name", ["expire", "rescue", "cleanup", "forget"])
def test_a_row_that_cannot_be_written_stops_nothing(
    local: World, name: str, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeps, "PAGE", page)
    jobs = herd(local, name)
    ports = local.others._ports
    repository = OneBad(ports.repository, jobs[0].id, readable=True)
    face = Jobs(cast("Any", repository), ports.dispatcher, policy=POLICY, clock=local.clock, artifacts=ports.artifacts)
    assert SWEEPS[name](face) == Swept(moved=2, failed=1)
    assert SWEEPS[name](local.others).moved == 1


def test_a_clean_up_does_not_guess_which_row_was_not_answered_for(local: World) -> None:
    jobs = herd(local, "cleanup")
    repository = OneAnswerShort(local.others._ports.repository, jobs[0].id, readable=True)
    face = Jobs(cast("Any", repository), policy=POLICY, clock=local.clock)
    with pytest.raises(ValueError, match="zip"):
        face.cleanup()


def test_a_row_that_its_database_will_not_delete_stops_no_other(local: World) -> None:
    jobs = herd(local, "forget")
    repository = OneBad(local.others._ports.repository, jobs[0].id, readable=True)
    repository.error = RuntimeError("a foreign key of the host's")
    face = Jobs(cast("Any", repository), policy=POLICY, clock=local.clock)
    try:
        face.sweep()
    except ExceptionGroup as errors:
        assert errors.exceptions == (repository.error,)  # noqa: PT017
    assert local.jobs.count() == 1


class TellsTooMuch(OneBad):
    """A repository that tells of rows before they are due, the latest first."""

    def due(self, due: Due, **options: Any) -> DuePage:
        page = super().due(due, **options | {"until": options["until"] + 7200})
        return page._replace(jobs=page.jobs[::-1])


def test_a_row_that_a_repository_tells_of_too_early_is_not_forgotten(local: World) -> None:
    herd(local, "forget")
    early = brief(local)
    for _ in range(2):
        local.others.cleanup()
        local.clock.advance(70)
    repository = TellsTooMuch(local.others._ports.repository, early.id, readable=True)
    repository.error = AssertionError("it is deleted")
    face = Jobs(cast("Any", repository), policy=POLICY, clock=local.clock)
    assert face.forget() == Swept(moved=3, left=1)
    assert local.row(early.id).cleanup_completed_at is not None


def test_a_damaged_row_in_a_database_is_named_and_stops_nothing(tmp_path: Path) -> None:
    from sqlalchemy import create_engine, text

    with make_world("sqlite", tmp_path, POLICY) as world:
        jobs = herd(world, "relay")
        engine = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}")
        with engine.begin() as connection:
            connection.execute(text("UPDATE jobstate_jobs SET error = '{' WHERE id = :id"), {"id": jobs[1].id})
        engine.dispose()
        assert world.jobs.relay() == Swept(moved=2, unreadable=(jobs[1].id,))
        world.clock.advance(timedelta(days=8))
        assert world.jobs.expire() == Swept(moved=2, unreadable=(jobs[1].id,))


@pytest.mark.parametrize("broken", [ValueError("the host's"), RuntimeError("the database's")])
def test_what_the_other_sweeps_did_stays_with_each_part_of_the_error(broken: Exception) -> None:
    error = SweepError("2 of 5", [ValueError("one"), RuntimeError("two")])
    error.made = {"expire": Swept(moved=3)}
    parts: list[Exception] = []
    try:
        try:
            raise error
        except* type(broken) as caught:
            parts.append(caught)
    except SweepError as rest:
        parts.append(rest)
    assert [type(part) for part in parts] == [SweepError, SweepError]
    for part in (*parts, pickle.loads(pickle.dumps(error))):
        assert isinstance(part, SweepError)
        assert (part.made, str(part)[:6]) == (error.made, "2 of 5")


def test_a_sweep_error_of_somebody_else_made_nothing() -> None:
    assert SweepError("1 of 5", [DOWN]).made == {}


# Several at once


@pytest.mark.parametrize("name", ["expire", "rescue", "cleanup", "forget"])
def test_several_sweepers_at_once_move_each_row_once(local: World, name: str) -> None:
    jobs = herd(local, name)
    face = meeting(local, "delete" if name == "forget" else "save_many", 4)
    history = local.others._ports.repository.history
    before = [len(history(job.id)) for job in jobs]
    answers = at_once([lambda: SWEEPS[name](face)] * 4)
    swept = [answer for answer in answers if isinstance(answer, Swept)]
    assert answers == swept
    assert sum(one.moved for one in swept) == 3
    assert sum(one.lost for one in swept) == 9
    assert [one.failed for one in swept] == [0] * 4
    grown = 0 if name == "forget" else 1
    assert [len(history(job.id)) for job in jobs] == [(count + 1) * grown for count in before]


def test_several_relays_at_once_mark_each_row_once_and_it_starts_once(local: World) -> None:
    jobs = herd(local, "relay")
    face = meeting(local, "save_many", 4)
    assert all(isinstance(answer, Swept) for answer in at_once([lambda: SWEEPS["relay"](face)] * 4))
    assert [local.row(job.id).dispatch_count for job in jobs] == [1, 1, 1]
    deliveries = [local.take() for _ in range(len(local.dispatcher))]
    assert {delivery.job_id for delivery in deliveries} == {job.id for job in jobs}
    starts = at_once([partial(local.others.start, delivery) for delivery in deliveries])
    assert [start.number for start in starts if isinstance(start, Attempt)] == [1, 1, 1]


def test_whole_sweeps_at_once_do_the_work_of_one(local: World) -> None:
    jobs = farm(local)
    reports = at_once([local.others.sweep] * 4)
    assert all(isinstance(report, SweepReport) for report in reports)
    assert done(local, jobs) == set(jobs)
    moved = [report[:4] for report in reports if isinstance(report, SweepReport)]
    assert [sum(swept.moved for swept in stage) for stage in zip(*moved, strict=True)] == [1, 1, 2, 1]


# Order and time of the relay


def test_the_relay_keeps_the_order_in_which_jobs_became_ready(world: World) -> None:
    jobs: dict[str, Job] = {}
    start = int(world.clock.time)
    for name, wait in (("third", 30), ("first", 10), ("later", 500), ("second", 15)):
        jobs[name] = silent(world).create(ENDPOINT, REQUEST, available_at=start + wait)
        world.clock.advance(1)
    jobs["oldest"] = silent(world).create(ENDPOINT, REQUEST)
    silent(world).cancel(jobs["oldest"].id)
    world.clock.advance(16)
    jobs["between"] = silent(world).create(ENDPOINT, REQUEST)
    silent(world).retry(jobs["oldest"].id)
    world.clock.time = start + 100
    assert world.jobs.relay().moved == 5
    order = [world.take().job_id for _ in range(5)]
    assert order[:2] == [jobs["first"].id, jobs["second"].id]
    assert sorted(order[2:4]) == sorted([jobs["between"].id, jobs["oldest"].id])
    assert order[4] == jobs["third"].id
    assert len(world.dispatcher) == 0


def test_what_was_dispatched_and_has_not_started_is_dispatched_again(world: World) -> None:
    job = world.create()
    first = world.take()
    name = world.row(job.id).task_name
    world.clock.advance(15 * 60 - 1)
    assert world.jobs.relay() == Swept()
    world.clock.advance(1)
    assert world.jobs.relay() == Swept(moved=1)
    row = world.row(job.id)
    assert (row.dispatch_count, row.task_name != name, world.take()) == (2, True, first)
    assert world.jobs.relay() == Swept()
    world.jobs.start(first)
    world.clock.advance(HOUR)
    assert world.jobs.relay() == Swept()


def test_without_a_dispatcher_the_relay_does_nothing(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, dispatcher=False) as world:
        job = world.create()
        assert world.jobs.relay() == Swept()
        assert world.row(job.id).dispatch_pending
