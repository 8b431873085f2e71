"""Observers are told what was certainly done, once, and can break nothing."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import pytest

from jobstate import AsyncJobs, IllegalTransitionError, Job, JobFailed, Jobs, OutcomeUnknownError, async_run_job, run_job
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.flows.sweeps import SweepError, Swept
from jobstate.lifecycle import Accepted
from jobstate.model import Delivery
from jobstate.observe import Counts, LogObserver, Observer, listening
from jobstate.policy import Policy
from tests.sql import sqlite_engine
from tests.support import ORG, Synced, World, make_world

ERROR = JobFailed("busy", "later", retryable=True)


class Notes(Observer):
    """All that it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def created(self, job: Job) -> None:
        self.told.append(("created", job.id))

    def transition(self, transition: Accepted) -> None:
        self.told.append((str(transition.event), transition.job_id))

    def refused(self, error: Any) -> None:
        self.told.append(("refused", error.code))

    def delivery(self, delivery: Delivery, fate: str, reason: str | None) -> None:
        self.told.append(("delivery", str(fate), reason))

    def swept(self, kind: str, swept: Swept) -> None:
        self.told.append(("swept", kind, swept.moved))

    @property
    def words(self) -> list[str]:
        return [str(told[0]) for told in self.told]

    def transitions(self) -> list[str]:
        return [word for word in self.words if word not in ("delivery", "swept", "refused", "dispatched")]


def listened(world: World, *observers: Observer) -> Jobs:
    """A face on this world's ports, faults included, that these listen to."""
    options: dict[str, Any] = {
        "policy": world.policy,
        "clock": world.clock,
        "artifacts": world.artifacts,
        "observers": observers,
    }
    if isinstance(world.jobs, Synced):
        jobs: Any = Synced(AsyncJobs(world.repository, world.dispatcher, **options), world.jobs._runner)
        return cast("Jobs", jobs)
    return Jobs(world.repository, world.dispatcher, **options)


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def jobs(world: World, notes: Notes) -> Jobs:
    return listened(world, notes)


def create(jobs: Jobs, **options: Any) -> Job:
    return jobs.create("/x", {}, organization_id=ORG, **options)


def told_is_history(world: World, notes: Notes, job: Job) -> None:
    """What was told is what was written: all of it, and nothing else."""
    assert notes.transitions() == [str(record.event) for record in world.others.history(job.id)]


def test_each_write_of_a_life_is_told_once_in_its_order(world: World, jobs: Jobs, notes: Notes) -> None:
    job = create(jobs)
    attempt = jobs.start(world.take())
    attempt.fail(ERROR.error)
    jobs.retry(job.id)
    jobs.cancel(job.id)
    world.clock.advance(8 * 86_400)
    jobs.sweep()
    world.clock.advance(2 * 86_400)
    jobs.sweep()
    told_is_history(world, notes, job)
    assert {"start", "fail", "retry", "cancel", "expire", "begin_cleanup"} <= {*notes.words}
    assert {told[1] for told in notes.told if told[0] in notes.transitions()} == {job.id}


def test_bulk_commands_and_sweeps_are_told_for_each_job(world: World, jobs: Jobs, notes: Notes) -> None:
    made = [create(jobs) for _ in range(3)]
    notes.told.clear()
    jobs.cancel_many(ids=[job.id for job in made])
    assert sorted(notes.told) == sorted(("cancel", job.id) for job in made)
    notes.told.clear()
    world.clock.advance(8 * 86_400)
    jobs.expire()
    assert sorted(notes.told[:3]) == sorted(("expire", job.id) for job in made)
    assert notes.told[3:] == [("swept", "expire", 3)]


def test_a_sweep_that_holds_its_rows_tells_them_too(tmp_path: Path, notes: Notes) -> None:
    engine = sqlite_engine(tmp_path)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    with make_world("memory", tmp_path) as world:
        jobs = Jobs(repository, clock=world.clock, observers=[notes])
        job = create(jobs)
        world.clock.advance(7 * 86_400)
        jobs.sweep()
    engine.dispose()
    assert notes.told[:3] == [("created", job.id), ("expire", job.id), ("swept", "expire", 1)]
    assert [told[1] for told in notes.told if told[0] == "swept"] == ["expire", "rescue", "cleanup", "forget", "relay"]


def test_the_sweeps_that_were_made_are_told_when_another_met_an_error(world: World, jobs: Jobs, notes: Notes) -> None:
    create(jobs)
    notes.told.clear()
    world.clock.advance(8 * 86_400)
    world.repository.fail("due", ConnectionError("down"), skip=2)  # expire, rescue, and then the clean-up's first page
    with pytest.raises(SweepError) as error:
        jobs.sweep()
    assert [told for told in notes.told if told[0] == "swept"] == [
        ("swept", "expire", 1),
        ("swept", "rescue", 0),
        ("swept", "forget", 0),
        ("swept", "relay", 0),
    ]
    assert pickle.loads(pickle.dumps(error.value)).made == error.value.made


def test_a_refusal_and_what_was_done_before_are_no_transitions(jobs: Jobs, notes: Notes) -> None:
    job = create(jobs, idempotency_key="key")
    create(jobs, idempotency_key="key")
    jobs.cancel(job.id)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    assert notes.told[-1] == ("refused", "already_cancelled")
    assert notes.transitions() == ["created", "cancel"]


# Lost answers


def test_a_save_whose_answer_was_lost_is_told_once_when_it_is_found(world: World, jobs: Jobs, notes: Notes) -> None:
    job = create(jobs)
    world.repository.lose("save")
    jobs.cancel(job.id)
    told_is_history(world, notes, job)


def test_a_create_whose_answer_was_lost_is_told_once(world: World, jobs: Jobs, notes: Notes) -> None:
    world.repository.lose("insert")
    job = create(jobs)
    told_is_history(world, notes, job)


def test_a_bulk_command_whose_answer_was_lost_is_told_once_for_each(world: World, jobs: Jobs, notes: Notes) -> None:
    made = [create(jobs) for _ in range(2)]
    world.repository.lose("save_many")
    jobs.cancel_many(ids=[job.id for job in made])
    assert sorted(told for told in notes.told if told[0] == "cancel") == sorted(("cancel", job.id) for job in made)


def test_a_save_that_is_found_in_the_history_only_is_told_once(world: World, jobs: Jobs, notes: Notes) -> None:
    job = create(jobs)

    def others() -> None:
        world.others.retry(job.id)
        world.others.cancel(job.id)
        world.others.retry(job.id)

    world.repository.lose("save", then=others)
    jobs.cancel(job.id)
    assert notes.transitions() == ["created", "cancel"]


def test_what_was_not_done_is_not_told(world: World, jobs: Jobs, notes: Notes) -> None:
    job = create(jobs)
    for _ in range(20):
        world.repository.drop("save")
    with pytest.raises(OutcomeUnknownError):
        jobs.cancel(job.id)
    world.repository._faults.clear()
    world.repository.stale("save")
    jobs.cancel(job.id)
    told_is_history(world, notes, job)


# Deliveries


def run(world: World, jobs: Jobs, delivery: Delivery, handler: Callable[..., Any]) -> None:
    if not isinstance(jobs, Synced):
        run_job(jobs, delivery, handler)
        return

    async def awaited(request: Any, context: Any) -> Any:
        return handler(request, context)

    jobs._runner.run(async_run_job(jobs._inner, delivery, awaited))


def done(request: Any, context: Any) -> str:
    return "done"


def busy(request: Any, context: Any) -> str:
    raise ERROR


def test_the_end_of_each_delivery_is_told_late_and_repeated_ones_too(world: World, jobs: Jobs, notes: Notes) -> None:
    job = create(jobs)
    first = world.take()
    run(world, jobs, first, busy)
    run(world, jobs, first, done)
    second = world.row(job.id).delivery
    run(world, jobs, second, done)
    world.clock.advance(60)
    run(world, jobs, second, done)
    run(world, jobs, Delivery(job_id="job_" + "0" * 21, run=1), done)
    assert [told[1:] for told in notes.told if told[0] == "delivery"] == [
        ("released", None),
        ("dropped", "run_over"),
        ("returned", "not_available"),
        ("completed", None),
        ("dropped", "job_not_found"),
    ]


# It breaks nothing


class Broken(Observer):
    """Raises, whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("created", "transition", "refused", "delivery", "swept", "operation", "attempt"):
            raise KeyError(name)
        return super().__getattribute__(name)


class BrokenSpans(Observer):
    @contextmanager
    def operation(self, name: str) -> Generator[None]:
        yield
        raise KeyError(name)

    @contextmanager
    def attempt(self, job: Job, number: int) -> Generator[None]:
        try:
            yield
        finally:
            raise KeyError(number)


@pytest.mark.parametrize("broken", [Broken, BrokenSpans])
def test_an_observer_that_raises_breaks_nothing_and_is_logged_once(
    world: World, notes: Notes, broken: type[Observer], caplog: pytest.LogCaptureFixture
) -> None:
    jobs = listened(world, broken(), notes)
    job = create(jobs)
    run(world, jobs, world.take(), done)
    jobs.sweep()
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    told_is_history(world, notes, job)
    methods = [cast(Any, record).jobstate["method"] for record in caplog.records if record.name == "jobstate.observe"]
    assert len(methods) == len(set(methods)) == (7 if broken is Broken else 2)


def test_a_span_swallows_no_exception(world: World) -> None:
    class Swallows(Observer):
        @contextmanager
        def operation(self, name: str) -> Generator[None]:
            with suppress(Exception):  # what it must not do
                yield

    jobs = listened(world, Swallows())
    job = create(jobs)
    jobs.cancel(job.id)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)


def test_spans_stand_around_operations_and_attempts(world: World) -> None:
    class Spans(Observer):
        def __init__(self) -> None:
            self.open: list[str] = []
            self.seen: list[str] = []

        @contextmanager
        def operation(self, name: str) -> Generator[None]:
            yield from self.span(name)

        @contextmanager
        def attempt(self, job: Job, number: int) -> Generator[None]:
            yield from self.span(f"attempt {number} of {job.metadata['name']}")

        def span(self, name: str) -> Generator[None]:
            self.open.append(name)
            self.seen.append("/".join(self.open))
            try:
                yield
            finally:
                assert self.open.pop() == name

    spans = Spans()
    jobs = listened(world, spans)
    create(jobs, metadata={"name": "inv"})
    run(world, jobs, world.take(), done)
    assert spans.seen == ["create", "start", "attempt 1 of inv", "attempt 1 of inv/complete"]


def test_what_is_no_observer_is_refused() -> None:
    with pytest.raises(TypeError, match="int is no"):
        listening(cast(Any, [1]))
    assert listening([]) is None


def test_a_bound_face_tells_nothing_that_may_be_rolled_back(tmp_path: Path, notes: Notes) -> None:
    engine = sqlite_engine(tmp_path)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository, policy=Policy(), observers=[notes])
    with engine.connect() as connection:
        create(jobs.bind(connection))
        connection.rollback()
    assert notes.told == []
    create(jobs.for_organization(ORG))
    assert notes.words == ["created"]
    engine.dispose()


# What comes with it


def test_counts_are_of_transitions_refusals_and_deliveries(world: World) -> None:
    counts = Counts()
    jobs = listened(world, counts)
    job = create(jobs)
    delivery = world.take()
    for _ in range(3):
        run(world, jobs, delivery, done)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    assert counts.transitions == {"created": 1, "dispatched": 1, "start": 1, "complete": 1}
    assert counts.deliveries == {("completed", None): 1, ("dropped", "illegal_transition"): 2}
    assert counts.refusals == {"illegal_transition": 3}


def test_a_log_has_the_fields_of_what_was_told(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "jobstate")
    jobs = listened(world, LogObserver())
    job = create(jobs)
    run(world, jobs, world.take(), done)
    with pytest.raises(IllegalTransitionError):
        jobs.cancel(job.id)
    world.clock.advance(7 * 86_400)
    jobs.sweep()
    fields = [cast(Any, record).jobstate for record in caplog.records if record.name == "jobstate"]
    assert [field["what"] for field in fields] == [
        *("created", "dispatched", "start", "complete", "delivery", "refused", "expire", "swept"),
    ]
    assert fields[3] == {
        "what": "complete",
        "job_id": job.id,
        "source": "in_progress",
        "target": "completed",
        "version": fields[2]["version"] + 1,
    }
    assert f"complete job_id={job.id} source=in_progress target=completed" in caplog.text
