"""From a delivery to its end: early, late, repeated and lost ones, what a handler may do, and what the engine is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from jobstate import (
    Attempt,
    Delivery,
    Endpoint,
    Job,
    JobFailed,
    JobResponse,
    Jobs,
    LeaseLostError,
    Policy,
    async_run_job,
    run_job,
)
from jobstate.worker import RunFate, RunResult, async_give_back, give_back
from tests.commands import cancel, retry, somebody, start, the_job
from tests.support import NOW, REQUEST, Synced, World, make_world

Handler = Callable[[Any, Any], Any]

DOWN = ConnectionError("the network is down")


@pytest.fixture
def sync_world(tmp_path: Path) -> Iterator[World]:
    with make_world("memory", tmp_path) as made:
        yield made


def run(world: World, delivery: Delivery, handler: Handler, **options: Any) -> RunResult:
    """Run a delivery in the world's own colour; a handler may not block."""
    if not isinstance(world.jobs, Synced):
        return run_job(world.jobs, delivery, handler, **options)

    async def handle(request: Any, context: Any) -> Any:
        return handler(request, context)

    return world.jobs._runner.run(async_run_job(world.jobs._inner, delivery, handle, **options))


def done(request: Any, context: Any) -> Any:
    return {"pages": len(request["pages"])}


def never(request: Any, context: Any) -> Any:
    raise AssertionError("this delivery starts nothing")


def raising(error: BaseException) -> Handler:
    def handle(request: Any, context: Any) -> Any:
        raise error

    return handle


# Deliveries that start nothing


def test_a_delivery_before_the_end_of_the_pause_goes_back_until_it_is_due(world: World) -> None:
    job = world.start(world.create()).fail(JobFailed("busy", "later").error, retryable=True)
    assert job.available_at is not None
    result = run(world, job.delivery, never)
    assert result == RunResult(RunFate.RETURNED, "not_available", job.available_at)
    assert world.row(job.id).version == job.version
    world.clock.time = job.available_at
    assert run(world, job.delivery, done).fate is RunFate.COMPLETED


def test_a_worker_whose_clock_is_a_second_behind_returns_the_delivery(world: World) -> None:
    job = world.create(available_at=NOW + 60)
    world.clock.time = NOW + 59
    assert run(world, job.delivery, never) == RunResult(RunFate.RETURNED, "not_available", NOW + 60)
    world.clock.time = NOW + 60
    assert run(world, job.delivery, done).fate is RunFate.COMPLETED


def test_a_worker_whose_clock_is_behind_the_row_starts_and_no_time_runs_backwards(world: World) -> None:
    job = world.create()
    world.clock.time = NOW - 5
    assert run(world, job.delivery, done).fate is RunFate.COMPLETED
    row = world.row(job.id)
    assert (row.started_at, row.completed_at) == (NOW, NOW)


@pytest.mark.parametrize("run_number", [2, 3])
def test_a_delivery_of_a_run_that_cannot_be_seen_yet_goes_back(world: World, run_number: int) -> None:
    job = world.create()
    early = Delivery(job_id=job.id, run=run_number)
    assert run(world, early, never) == RunResult(RunFate.RETURNED, "run_not_reached")


def test_a_delivery_of_a_job_that_is_not_accepted_yet_goes_back(world: World) -> None:
    job = world.create(validating=True)
    assert run(world, Delivery(job_id=job.id, run=1), never).fate is RunFate.RETURNED
    world.ours.accept(job.id)
    assert run(world, world.take(), done).fate is RunFate.COMPLETED


def _finished(world: World, job: Job) -> None:
    run(world, job.delivery, done)


def _retried(world: World, job: Job) -> None:
    cancel(world)
    retry(world)


def _expired(world: World, job: Job) -> None:
    world.clock.advance(timedelta(days=8))


OVER: dict[str, tuple[Callable[[World, Job], object], str]] = {
    "started": (lambda world, job: start(world), "already_started"),
    "finished": (_finished, "illegal_transition"),
    "cancelled": (lambda world, job: cancel(world), "illegal_transition"),
    "retried": (_retried, "run_over"),
    "expired": (_expired, "expired"),
}


@pytest.mark.parametrize("name", OVER)
def test_a_late_or_repeated_delivery_is_dropped_quietly(world: World, name: str, caplog: pytest.LogCaptureFixture) -> None:
    job = world.create()
    bring, reason = OVER[name]
    bring(world, job)
    version = world.row(job.id).version
    assert run(world, job.delivery, never) == RunResult(RunFate.DROPPED, reason)
    assert world.row(job.id).version == version
    assert caplog.records == []


def test_a_delivery_of_an_unknown_job_is_dropped_quietly(world: World, caplog: pytest.LogCaptureFixture) -> None:
    assert run(world, Delivery(job_id="job_" + "A" * 21, run=1), never) == RunResult(RunFate.DROPPED, "job_not_found")
    assert caplog.records == []


START_FAULTS: dict[str, Callable[[World], None]] = {
    "StaleJobError": lambda world: [world.repository.stale("save") for _ in range(10)].clear(),
    "OutcomeUnknownError": lambda world: [world.repository.drop("save") for _ in range(10)].clear(),
    "ConnectionError": lambda world: world.repository.fail("load", DOWN),
}


@pytest.mark.parametrize("name", START_FAULTS)
def test_a_delivery_whose_start_meets_an_error_goes_back_and_runs_later(world: World, name: str) -> None:
    delivery = world.create().delivery
    START_FAULTS[name](world)
    assert run(world, delivery, never) == RunResult(RunFate.RETURNED, name)
    assert run(world, delivery, done).fate is RunFate.COMPLETED
    assert the_job(world).attempt_count == 1


def test_a_delivery_whose_start_nobody_can_find_goes_back(world: World) -> None:
    delivery = world.create().delivery
    world.repository.lose("save", then=lambda: _retried(world, the_job(world)))
    assert run(world, delivery, never) == RunResult(RunFate.RETURNED, "OutcomeUnknownError")
    assert run(world, delivery, never) == RunResult(RunFate.DROPPED, "run_over")


def test_a_job_whose_message_the_broker_lost_runs_after_a_while(world: World) -> None:
    job = world.create()
    assert world.take() == job.delivery
    world.clock.advance(15 * 60)
    world.jobs.sweep()
    assert run(world, world.take(), done).fate is RunFate.COMPLETED
    assert world.row(job.id).attempt_count == 1


# What a handler may do


def test_what_a_handler_returns_is_the_response(world: World) -> None:
    job = world.create()
    assert run(world, world.take(), done) == RunResult(RunFate.COMPLETED)
    row = world.row(job.id)
    assert (row.status, row.response) == ("completed", JobResponse[Any](status_code=200, body={"pages": 2}))


def test_a_handler_is_given_the_request_and_its_job(world: World) -> None:
    seen: list[Any] = []
    job = world.create()
    run(world, world.take(), lambda request, context: seen.extend([request, context.job.id, context.attempt.number]))
    assert seen == [REQUEST, job.id, 1]


def test_a_handler_that_says_so_fails_the_job(world: World) -> None:
    job = world.create()
    failure = JobFailed("unreadable", "page 2 is blank", {"page": 2})
    assert run(world, world.take(), raising(failure)) == RunResult(RunFate.FAILED)
    row = world.row(job.id)
    assert (row.status, row.error) == ("failed", failure.error)
    assert (failure.error.code, failure.error.details) == ("unreadable", {"page": 2})


def test_a_retryable_failure_is_released_until_the_budget_is_spent(world: World) -> None:
    job = world.create(max_attempts=2)
    failure = JobFailed("busy", "the engine is busy", retryable=True)
    assert run(world, world.take(), raising(failure)) == RunResult(RunFate.RELEASED)
    row = world.row(job.id)
    assert (row.status, row.run, row.last_failure_code, row.error) == ("queued", 2, "busy", None)
    world.clock.advance(60)
    assert run(world, row.delivery, raising(failure)) == RunResult(RunFate.FAILED)
    assert world.row(job.id).error == failure.error


@pytest.mark.parametrize("again", [True, False])
def test_any_other_exception_is_a_failure_that_is_retried_if_the_host_wants_it(world: World, again: bool) -> None:
    job = world.create()
    result = run(world, world.take(), raising(ValueError("no such page")), retry_exceptions=again)
    assert result == RunResult(RunFate.RELEASED if again else RunFate.FAILED)
    row = world.row(job.id)
    assert (row.status, row.last_failure_code) == ("queued" if again else "failed", "handler_error")
    assert again or (row.error is not None and row.error.message == "ValueError: no such page")


@pytest.mark.parametrize("result", [object(), {1: "a key"}, float("nan"), b"bytes"], ids=["object", "key", "nan", "bytes"])
def test_a_result_that_is_not_json_fails_the_job_for_good(world: World, result: object) -> None:
    job = world.create()
    assert run(world, world.take(), lambda request, context: result) == RunResult(RunFate.FAILED)
    row = world.row(job.id)
    assert (row.status, row.error and row.error.code) == ("failed", "invalid_result")


class Pages(BaseModel):
    pages: int


def test_a_result_that_is_not_of_the_endpoints_type_fails_the_job(sync_world: World) -> None:
    endpoint = Endpoint("/v1/documents/extract", request=dict[str, Any], response=Pages)
    jobs = Jobs(sync_world.repository, policy=sync_world.policy, clock=sync_world.clock, endpoints=[endpoint])
    job = sync_world.create()
    assert run_job(jobs, job.delivery, lambda request, context: {"pages": "many"}) == RunResult(RunFate.FAILED)
    assert (error := sync_world.row(job.id).error) is not None
    assert (error.code, "pages" in error.message) == ("invalid_result", True)


def test_a_stored_request_that_is_not_of_the_endpoints_type_fails_the_job_for_good(sync_world: World) -> None:
    endpoint = Endpoint("/v1/documents/extract", request=Pages, response=Pages)
    jobs = Jobs(sync_world.repository, policy=sync_world.policy, clock=sync_world.clock, endpoints=[endpoint])
    job = sync_world.create()
    assert run_job(jobs, job.delivery, never) == RunResult(RunFate.FAILED)
    assert (error := sync_world.row(job.id).error) is not None
    assert error.code == "invalid_request"


def test_an_error_of_what_is_called_at_the_start_is_a_failure_of_the_attempt(world: World) -> None:
    job = world.create()

    def refuse(context: object) -> None:
        raise ValueError("no room")

    assert run(world, world.take(), never, on_start=refuse) == RunResult(RunFate.RELEASED)
    assert world.row(job.id).last_failure_code == "handler_error"


def _rescued(world: World) -> None:
    world.clock.advance(5 * 60 + 10)
    assert somebody(world).rescue().moved == 1


def _rescued_and_started(world: World) -> None:
    _rescued(world)
    world.clock.advance(60)
    start(world)


LOSSES: dict[str, tuple[Callable[[World], None], str]] = {
    "cancelled": (cancel, "cancelled"),
    "rescued": (_rescued, "queued"),
    "rescued and started": (_rescued_and_started, "in_progress"),
}


@pytest.mark.parametrize("end", [done, raising(ValueError("late")), raising(JobFailed("late", "too late", retryable=True))])
@pytest.mark.parametrize("name", LOSSES)
def test_an_attempt_that_lost_its_lease_changes_nothing(world: World, name: str, end: Handler) -> None:
    lose, status = LOSSES[name]
    job = world.create()
    versions: list[int] = []

    def handle(request: Any, context: Any) -> Any:
        lose(world)
        versions.append(the_job(world).version)
        return end(request, context)

    assert run(world, world.take(), handle) == RunResult(RunFate.LOST, "lease_lost")
    row = world.row(job.id)
    assert (row.status, row.version, row.response, row.error) == (status, versions[0], None, None)


def lease_lost(job_id: str) -> LeaseLostError:
    return LeaseLostError(job_id, "lease_lost", "heartbeat", "cancelled", "the attempt is over")


def test_a_handler_that_learns_that_its_lease_is_lost_ends_the_run_quietly(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    job = world.create()

    def handle(request: Any, context: Any) -> Any:
        cancel(world)
        raise lease_lost(job.id)

    assert run(world, world.take(), handle) == RunResult(RunFate.LOST, "lease_lost")
    assert the_job(world).status == "cancelled"
    assert caplog.records == []


def test_a_lease_that_another_job_lost_is_a_failure_of_this_one(world: World) -> None:
    world.create()
    assert run(world, world.take(), raising(lease_lost("job_" + "A" * 21))) == RunResult(RunFate.RELEASED)


def test_a_handler_that_ended_the_attempt_itself_is_believed(sync_world: World) -> None:
    job = sync_world.create()
    result = run(sync_world, job.delivery, lambda request, context: context.attempt.complete("first") and "second")
    assert result == RunResult(RunFate.COMPLETED, "already_finished")
    assert (response := sync_world.row(job.id).response) is not None
    assert response.body == "first"


# Stopping


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_worker_that_is_stopped_gives_the_job_back(kind: str, stop: type[BaseException], tmp_path: Path) -> None:
    with make_world(kind, tmp_path) as world:
        job = world.create()
        with pytest.raises(stop):
            run(world, world.take(), raising(stop()))
        row = world.row(job.id)
        assert (row.status, row.run, row.attempts_used, row.give_backs) == ("queued", 2, 0, 1)
        assert (row.attempt_count, row.last_failure_code) == (1, None)
        assert run(world, world.take(), done).fate is RunFate.COMPLETED


def give_back_of(world: World, attempt: Attempt[Any, Any]) -> RunResult:
    if isinstance(attempt, Synced):
        return attempt._runner.run(async_give_back(attempt._inner))
    return give_back(attempt)


@pytest.mark.parametrize("kind", ["memory", "async-memory"])
@pytest.mark.parametrize("max_attempts", [1, 2])
def test_what_was_given_back_too_often_costs_an_attempt(kind: str, max_attempts: int, tmp_path: Path) -> None:
    with make_world(kind, tmp_path, Policy(max_give_backs=1)) as world:
        job = world.create(max_attempts=max_attempts)
        assert give_back_of(world, world.start(job)) == RunResult(RunFate.GIVEN_BACK)
        fate = RunFate.FAILED if max_attempts == 1 else RunFate.RELEASED
        assert give_back_of(world, world.start(job)) == RunResult(fate)
        row = world.row(job.id)
        assert (row.status, row.attempts_used) == ("failed" if max_attempts == 1 else "queued", 1)
        assert (row.last_failure_code, row.give_backs) == ("given_back_too_often", 1)


# What the engine is told when answers are lost


def lose_the_end(world: World, *, saves: int, loads: int) -> None:
    """Behind so many saves and loads, a save is made, its answer is lost, and it cannot be read back."""
    world.repository.lose("save", skip=saves)
    world.repository.fail("load", DOWN, skip=loads)


def test_a_result_whose_answer_is_lost_is_told_again(world: World) -> None:
    job = world.create()
    delivery = world.take()
    lose_the_end(world, saves=1, loads=1)
    assert run(world, delivery, done) == RunResult(RunFate.COMPLETED)
    assert [record.event for record in world.others.history(job.id)] == ["created", "start", "complete"]


def test_a_result_that_nobody_can_confirm_is_unknown(world: World) -> None:
    job = world.create()
    delivery = world.take()
    for index in range(100):
        world.repository.drop("save", skip=0 if index else 1)
    assert run(world, delivery, done) == RunResult(RunFate.UNKNOWN, "outcome_unknown")
    assert world.row(job.id).status == "in_progress"


def test_a_result_that_meets_a_broken_port_is_unknown_and_rescued_later(world: World, caplog: pytest.LogCaptureFixture) -> None:
    job = world.create()
    delivery = world.take()
    world.repository.fail("save", DOWN, skip=1)
    with caplog.at_level(logging.WARNING, "jobstate.worker"):
        assert run(world, delivery, done) == RunResult(RunFate.UNKNOWN, "ConnectionError")
    assert len(caplog.records) == 1
    world.clock.advance(5 * 60 + 10)
    assert world.jobs.sweep().rescue.moved == 1
    assert world.row(job.id).status == "queued"


def test_a_release_whose_answer_is_lost_is_no_lost_lease(world: World) -> None:
    job = world.create()
    delivery = world.take()
    lose_the_end(world, saves=1, loads=1)
    result = run(world, delivery, raising(JobFailed("busy", "later", retryable=True)))
    assert (world.row(job.id).status, world.row(job.id).run) == ("queued", 2)
    assert result.fate in (RunFate.RELEASED, RunFate.UNKNOWN)


def test_a_job_given_back_whose_answer_is_lost_is_no_lost_lease(world: World) -> None:
    job = world.create()
    attempt = world.start(job)
    lose_the_end(world, saves=0, loads=0)
    result = give_back_of(world, attempt)
    assert (world.row(job.id).status, world.row(job.id).run) == ("queued", 2)
    assert result.fate in (RunFate.GIVEN_BACK, RunFate.UNKNOWN)


def test_a_failure_whose_answer_is_lost_behind_a_retry_is_still_a_failure(world: World) -> None:
    world.create()
    delivery = world.take()
    world.repository.lose("save", skip=1, then=lambda: retry(world))
    assert run(world, delivery, raising(JobFailed("unreadable", "page 2 is blank"))).fate is RunFate.FAILED
    assert the_job(world).run == 2
