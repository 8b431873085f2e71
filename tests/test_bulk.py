"""A bulk command is the single command n times: decided, compared and answered for each job."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobstate import (
    DispatchError,
    Event,
    GuardRefusedError,
    IllegalTransitionError,
    InvalidInputError,
    Job,
    JobError,
    JobNotFoundError,
    JobStatus,
    OutcomeUnknownError,
    TransitionError,
)
from jobstate.flows import many
from jobstate.flows.many import BulkOutcome, Fate
from tests.support import World, make_world

DAY = timedelta(days=1)
BAD = JobError(code="bad_page", message="page 2 cannot be read")


def cancel_many(world: World, **conditions: Any) -> Sequence[BulkOutcome]:
    return world.jobs.cancel_many(**conditions)


def retry_many(world: World, **conditions: Any) -> Sequence[BulkOutcome]:
    return world.jobs.retry_many(**conditions)


BULK: dict[Event, Callable[..., Sequence[BulkOutcome]]] = {Event.CANCEL: cancel_many, Event.RETRY: retry_many}
SINGLE: dict[Event, Callable[[World, str], Job]] = {
    Event.CANCEL: lambda world, job_id: world.jobs.cancel(job_id),
    Event.RETRY: lambda world, job_id: world.jobs.retry(job_id),
}


def cleaned(world: World, job: Job) -> None:
    world.clock.advance(DAY + timedelta(seconds=5))
    world.others.sweep()


def expired(world: World, job: Job) -> None:
    world.clock.advance(5)
    world.others.expire()


def started(world: World, job: Job) -> None:
    world.others.start(world.row(job.id).delivery)


def completed(world: World, job: Job) -> None:
    world.others.start(world.row(job.id).delivery).complete({"total": 1})


def failed(world: World, job: Job) -> None:
    world.others.start(world.row(job.id).delivery).fail(BAD)


def retried(world: World, job: Job) -> None:
    world.others.cancel(job.id)
    world.others.retry(job.id)


def retried_and_started(world: World, job: Job) -> None:
    retried(world, job)
    started(world, job)


def told_of_a_delay(world: World, job: Job) -> None:
    world.others.cancel(job.id)
    world.dispatcher.fail("dispatch", DispatchError("the broker is down"))
    assert world.jobs.retry(job.id).dispatch_pending


def told_and_completed(world: World, job: Job) -> None:
    told_of_a_delay(world, job)
    completed(world, job)


ZOO: list[tuple[dict[str, Any], Callable[[World, Job], object]]] = [
    ({"ttl": timedelta(seconds=1)}, cleaned),
    ({"ttl": timedelta(seconds=1)}, expired),
    ({}, lambda world, job: None),
    ({"available_at": 1_800_000_000}, lambda world, job: None),
    ({"validating": True}, lambda world, job: None),
    ({"validating": True}, lambda world, job: world.others.reject(job.id, BAD)),
    ({}, started),
    ({}, completed),
    ({}, failed),
    ({}, lambda world, job: world.others.cancel(job.id)),
    ({}, retried),
    ({}, retried_and_started),
    ({}, told_and_completed),
]


def zoo(world: World) -> list[str]:
    """Ids of jobs in all situations, newest first."""
    ids: list[str] = []
    for options, become in ZOO:
        job = world.create(artifacts={"scan.pdf": b"scan"}, **options)
        become(world, job)
        ids.insert(0, job.id)
        world.clock.advance(1)
    return ids


def told(job: Job | None) -> object:
    """A job without what differs between two worlds."""
    return job and job.model_dump(exclude={"id", "operation", "lease", "task_name", "request_artifacts"})


def answer(job: Job | None, error: Exception | None) -> object:
    if isinstance(error, TransitionError):
        return type(error), error.code, error.event, error.status, error.legal, error.wait_until
    return told(job)


def one_by_one(world: World, event: Event, ids: list[str]) -> list[object]:
    answers: list[object] = []
    for job_id in ids:
        records = len(world.others.history(job_id))
        try:
            job = SINGLE[event](world, job_id)
        except TransitionError as error:
            answers.append((Fate.REFUSED, answer(None, error)))
        else:
            moved = len(world.others.history(job_id)) > records
            answers.append((Fate.MOVED if moved else Fate.ALREADY, answer(job, None)))
    return answers


def events(world: World, job_id: str) -> list[str]:
    return [str(record.event) for record in world.others.history(job_id)]


def state(world: World, ids: list[str]) -> object:
    return [(told(world.row(job_id)), events(world, job_id)) for job_id in ids], len(world.dispatcher)


def some(world: World, count: int) -> list[str]:
    """Ids of new jobs, newest first."""
    ids: list[str] = []
    for _ in range(count):
        ids.insert(0, world.create().id)
        world.clock.advance(1)
    return ids


def fates(outcomes: Sequence[BulkOutcome]) -> dict[str, Fate]:
    return {outcome.job_id: outcome.fate for outcome in outcomes}


@pytest.mark.parametrize("page", [200, 4])
@pytest.mark.parametrize("event", BULK)
@pytest.mark.parametrize("kind", ["memory", "async-memory", "sqlite"])
def test_a_bulk_command_is_the_single_command_for_each(
    kind: str, event: Event, page: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "PAGE", page)
    (tmp_path / "bulk").mkdir()
    with make_world(kind, tmp_path) as world, make_world(kind, tmp_path / "bulk") as bulk:
        singles, bulks = zoo(world), zoo(bulk)
        expected = one_by_one(world, event, singles)
        outcomes = BULK[event](bulk, ids=bulks)
        assert [outcome.job_id for outcome in outcomes] == bulks
        assert [(outcome.fate, answer(outcome.job, outcome.error)) for outcome in outcomes] == expected
        assert state(bulk, bulks) == state(world, singles)
        wanted = {Fate.MOVED, Fate.REFUSED} if event is Event.CANCEL else {Fate.MOVED, Fate.REFUSED, Fate.ALREADY}
        assert set(fates(outcomes).values()) == wanted


def test_a_repeated_bulk_retry_dispatches_what_is_still_pending(world: World) -> None:
    jobs = [world.create(), world.create()]
    for job in jobs:
        told_of_a_delay(world, job)
    before = len(world.dispatcher)
    assert world.jobs.retry(jobs[0].id).dispatch_pending is False
    (outcome,) = world.jobs.retry_many(ids=[jobs[1].id])
    assert outcome.fate is Fate.ALREADY
    assert not world.row(jobs[1].id).dispatch_pending
    assert len(world.dispatcher) == before + 2


@pytest.mark.parametrize("event", BULK)
def test_a_dry_run_tells_what_would_be_and_changes_nothing(world: World, event: Event) -> None:
    ids = zoo(world)
    before, calls = state(world, ids), len(world.repository.calls)
    dry = BULK[event](world, ids=ids, dry_run=True)
    assert state(world, ids) == before
    assert not {"save", "save_many"} & set(world.repository.calls[calls:])
    real = BULK[event](world, ids=ids)
    assert fates(dry) == fates(real)
    for would, did in zip(dry, real, strict=True):
        assert answer(None, would.error) == answer(None, did.error)
        assert (would.job and would.job.status) == (did.job and did.job.status)


@pytest.mark.parametrize("event", BULK)
@pytest.mark.parametrize("conditions", [{}, {"status": None, "ids": None, "endpoint": None}, {"metadata": {}}])
def test_a_bulk_command_without_a_filter_is_an_error(world: World, event: Event, conditions: dict[str, Any]) -> None:
    ids = zoo(world)
    before = state(world, ids)
    for dry_run in (True, False):
        with pytest.raises(InvalidInputError) as refused:
            BULK[event](world, dry_run=dry_run, **conditions)
        assert refused.value.field == "filter"
    assert state(world, ids) == before


@pytest.mark.parametrize("event", BULK)
@pytest.mark.parametrize("conditions", [{"ids": []}, {"status": []}, {"created_to": 0}, {"ids": ["job_" + "x" * 21]}])
def test_a_filter_that_finds_nothing_moves_nothing(world: World, event: Event, conditions: dict[str, Any]) -> None:
    ids = zoo(world)
    before = state(world, ids)
    assert len(world.jobs.list().data) == len(ids)  # the same page without a condition
    assert list(BULK[event](world, **conditions)) == []
    assert state(world, ids) == before


@pytest.mark.parametrize("count", [6, 7])
def test_many_pages_meet_each_job_once_and_none_that_appears(world: World, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PAGE", 3)
    ids = some(world, count)
    world.repository.then("list", lambda: world.others.for_organization("org_a").create("/v1/late", {}))
    outcomes = world.jobs.cancel_many(status="queued", actor="ann", reason="no need")
    assert [outcome.job_id for outcome in outcomes] == ids
    assert set(fates(outcomes).values()) == {Fate.MOVED}
    assert world.jobs.count(status="queued", endpoint="/v1/late") == world.jobs.count(status="queued") == 1
    assert world.repository.calls.count("save_many") == 3 - (count == 6)
    last = [world.others.history(job_id)[-1] for job_id in ids]
    assert {(record.event, record.actor, record.reason) for record in last} == {(Event.CANCEL, "ann", "no need")}


def test_each_conflict_is_settled_on_its_own(world: World) -> None:
    untouched, finished, begun, gone, dropped = ids = some(world, 5)

    def meanwhile() -> None:
        completed(world, world.row(finished))
        started(world, world.row(begun))
        world.others._ports.repository.delete(gone, world.row(gone).version)
        world.others.cancel(dropped)

    world.repository.then("list", meanwhile)
    outcomes = {outcome.job_id: outcome for outcome in world.jobs.cancel_many(ids=ids)}
    refused, moved = Fate.REFUSED, Fate.MOVED
    assert fates(list(outcomes.values())) == dict(zip(ids, [moved, refused, moved, refused, refused], strict=True))
    for job_id in (untouched, begun):
        assert outcomes[job_id].job == world.ours.retrieve(job_id)
        assert events(world, job_id)[-1] == "cancel"
    assert isinstance(outcomes[finished].error, IllegalTransitionError)
    assert isinstance(outcomes[gone].error, JobNotFoundError)
    error = outcomes[dropped].error
    assert isinstance(error, IllegalTransitionError)
    assert error.code == "already_cancelled"
    assert world.row(finished).status is JobStatus.COMPLETED


def test_a_job_cleaned_meanwhile_is_not_retried(world: World) -> None:
    job = world.create(ttl=timedelta(seconds=1))
    expired(world, job)
    world.repository.then("list", lambda: cleaned(world, job))
    (outcome,) = world.jobs.retry_many(status="expired")
    assert isinstance(outcome.error, GuardRefusedError)
    assert outcome.error.code == "cleaned_up"
    assert world.row(job.id).request is None


@pytest.mark.parametrize("event", BULK)
@pytest.mark.parametrize("fault", ["lose", "drop"])
def test_after_a_lost_answer_each_job_is_moved_once(world: World, event: Event, fault: str) -> None:
    ids = some(world, 3)
    if event is Event.RETRY:
        world.others.cancel_many(ids=ids)
    before = [events(world, job_id) for job_id in ids]
    world.repository.by_row = True
    getattr(world.repository, fault)("save_many")
    outcomes = BULK[event](world, ids=ids)
    assert fates(outcomes) == dict.fromkeys(ids, Fate.MOVED)
    assert [events(world, job_id) for job_id in ids] == [[*known, event] for known in before]
    assert [outcome.job for outcome in outcomes] == [world.ours.retrieve(job_id) for job_id in ids]


def test_a_lost_cancel_that_somebody_undid_is_not_done_again(world: World) -> None:
    first, second = ids = some(world, 2)
    world.repository.by_row = True
    world.repository.lose("save_many", then=lambda: world.others.retry(second))
    outcomes = world.jobs.cancel_many(ids=ids)
    assert fates(outcomes) == dict.fromkeys(ids, Fate.MOVED)
    assert world.row(first).status is JobStatus.CANCELLED
    assert world.row(second).status is JobStatus.QUEUED
    assert events(world, second) == ["created", "cancel", "retry"]


def test_a_job_of_which_nobody_can_say_is_told_as_unknown(world: World) -> None:
    ids = some(world, 3)
    world.repository.by_row = True
    world.repository.lose("save_many")
    world.repository.fail("load", OSError("the database is down"), skip=1)
    outcomes = world.jobs.cancel_many(ids=ids)
    assert [outcome.fate for outcome in outcomes] == [Fate.MOVED, Fate.UNKNOWN, Fate.MOVED]
    assert isinstance(outcomes[1].error, OutcomeUnknownError)
    assert outcomes[1].error.job_id == ids[1]


def test_a_bulk_cancel_takes_the_tasks_back(world: World) -> None:
    ids = some(world, 3)
    assert len(world.dispatcher) == 3
    world.dispatcher.fail("revoke", DispatchError("the broker is down"))
    assert fates(world.jobs.cancel_many(ids=ids)) == dict.fromkeys(ids, Fate.MOVED)
    assert len(world.dispatcher) == 1


def test_a_bulk_retry_tells_of_each_delay(world: World) -> None:
    ids = some(world, 3)
    world.others.cancel_many(ids=ids)
    world.dispatcher.fail("dispatch", DispatchError("the broker is down"), skip=1)
    outcomes = world.jobs.retry_many(ids=ids)
    warned = [[warning.code for warning in (outcome.job and outcome.job.warnings) or ()] for outcome in outcomes]
    assert warned == [[], ["dispatch_delayed"], []]
    assert [world.row(job_id).dispatch_pending for job_id in ids] == [False, True, False]
    assert fates(outcomes) == dict.fromkeys(ids, Fate.MOVED)
