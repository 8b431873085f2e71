"""The edges of a worker's commands: which event ended the attempt, what is read and what is told on the way."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from jobstate import (
    Attempt,
    Delivery,
    DispatchError,
    Event,
    IllegalTransitionError,
    Job,
    JobError,
    Jobs,
    JobWarning,
    LeaseLostError,
    Policy,
    TransitionError,
    decide,
)
from jobstate.drivers import Ports, run, run_async
from jobstate.effects import Flow, Now
from jobstate.lifecycle import Accepted
from jobstate.memory import MemoryRepository
from jobstate.testing import ManualClock
from tests.support import ENDPOINT, NOW, ORG, REQUEST, World, make_world

ERROR = JobError(code="broken", message="it broke")
EARLIER, WARNING = JobWarning(code="earlier", message="page 1"), JobWarning(code="late", message="page 2")
DOWN = DispatchError("the broker is down")
PARTS = {"out.txt": b"out"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world("memory", tmp_path, Policy(backoff=timedelta(0))) as made:
        yield made


def _twin(attempt: Attempt[Any, Any]) -> Attempt[Any, Any]:
    """The same attempt, of the same token, as it is now: somebody's repetition of it."""
    return copy(attempt)


ENDINGS: list[tuple[Callable[[Attempt[Any, Any]], object], Event]] = [
    (lambda attempt: attempt.complete(1), Event.COMPLETE),
    (lambda attempt: attempt.complete(1, artifacts=PARTS), Event.COMPLETE),
    (lambda attempt: attempt.fail(ERROR), Event.FAIL),
    (lambda attempt: attempt.fail(ERROR, retryable=True), Event.RELEASE),
    (lambda attempt: attempt.give_back(), Event.GIVE_BACK),
]


@pytest.mark.parametrize(("end", "event"), ENDINGS)
def test_an_attempt_knows_the_event_that_ended_it(world: World, end: Callable[[Any], object], event: Event) -> None:
    attempt = world.start(world.create())
    assert attempt.ended is None
    end(attempt)
    assert attempt.ended is event


def test_a_result_with_artifacts_that_was_brought_before_is_known_as_such(world: World) -> None:
    attempt = world.start(world.create())
    twin = _twin(attempt)
    attempt.complete(1, artifacts=PARTS)
    puts = world.artifacts.calls.count("put")
    assert twin.complete(1, artifacts=PARTS).status == "completed"
    assert twin.ended is Event.COMPLETE
    assert world.artifacts.calls.count("put") == puts, "what is shown already is not put again"


def test_a_result_with_other_artifacts_is_another_result(world: World) -> None:
    attempt = world.start(world.create())
    twin = _twin(attempt)
    attempt.complete(1, artifacts=PARTS)
    before = world.row(attempt.job_id)
    with pytest.raises(TransitionError) as caught:
        twin.complete(1, artifacts={name: b"other" + data for name, data in PARTS.items()})
    assert caught.value.code == "already_finished"
    assert world.row(attempt.job_id) == before


@pytest.mark.parametrize("retryable", [True, False])
def test_a_failure_that_is_possible_on_what_is_held_is_saved_without_reading(world: World, retryable: bool) -> None:
    attempt = world.start(world.create())
    world.repository.calls.clear()
    attempt.fail(ERROR, retryable=retryable)
    assert "load" not in world.repository.calls


def test_a_failure_that_spends_the_budget_is_saved_without_reading(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, Policy(max_attempts=1)) as world:
        attempt = world.start(world.create())
        world.repository.calls.clear()
        attempt.fail(ERROR, retryable=True)
        assert (attempt.ended, world.repository.calls) == (Event.FAIL, ["save"])


REQUEUING: list[Callable[[Attempt[Any, Any]], Job]] = [
    lambda attempt: attempt.fail(ERROR, retryable=True),
    lambda attempt: attempt.give_back(),
]


@pytest.mark.parametrize("end", REQUEUING)
def test_no_caller_waits_for_the_dispatch_of_the_next_attempt_so_none_is_told_of_its_delay(
    world: World, end: Callable[[Any], Any]
) -> None:
    attempt = world.start(world.create())
    world.dispatcher.fail("dispatch", DOWN)
    job = end(attempt)
    assert (job.status, job.dispatch_pending, job.warnings, job.dispatch_delayed_at) == ("queued", True, None, None)
    assert "delayed" not in [record.event for record in world.others.history(job.id)]


def test_a_retryable_failure_after_the_end_is_refused_as_a_failure_for_good(world: World) -> None:
    attempt = world.start(world.create())
    twin = _twin(attempt)
    twin.complete(1)
    with pytest.raises(IllegalTransitionError) as caught:
        attempt.fail(ERROR, retryable=True)
    assert (caught.value.code, caught.value.event) == ("already_finished", "fail")


@pytest.mark.parametrize("end", [end for end, _ in ENDINGS])
def test_a_refusal_is_of_the_job_as_it_is_and_not_as_it_was_held(world: World, end: Callable[[Any], object]) -> None:
    attempt = world.start(world.create())
    attempt.give_back()
    assert attempt.job.status == "queued"
    world.start(attempt.job)
    with pytest.raises(LeaseLostError) as refused:
        end(attempt)
    assert refused.value.status == "in_progress"


def test_a_retryable_failure_of_a_fenced_attempt_is_refused_as_what_it_is(world: World) -> None:
    attempt = world.start(world.create())
    world.others.cancel(attempt.job_id)
    with pytest.raises(LeaseLostError) as caught:
        attempt.fail(ERROR, retryable=True)
    assert (caught.value.code, caught.value.event) == ("lease_lost", "release")


WARNING_AT_THE_END: list[Callable[[Attempt[Any, Any]], Job]] = [
    lambda attempt: attempt.complete(1, warnings=[WARNING]),
    lambda attempt: attempt.complete(1, artifacts=PARTS, warnings=[WARNING]),
    lambda attempt: attempt.fail(ERROR, warnings=[WARNING]),
    lambda attempt: attempt.fail(ERROR, retryable=True, warnings=[WARNING]),
]


@pytest.mark.parametrize("end", WARNING_AT_THE_END)
def test_an_ending_keeps_the_warnings_of_the_attempt_and_adds_its_own(world: World, end: Callable[[Any], object]) -> None:
    attempt = world.start(world.create())
    attempt.heartbeat(warnings=[EARLIER])
    end(attempt)
    assert world.row(attempt.job_id).warnings == (EARLIER, WARNING)


def test_a_result_that_is_brought_again_after_clean_up_shows_no_request(world: World) -> None:
    attempt = world.start(world.create())
    assert _twin(attempt).complete(1).request == REQUEST
    world.clock.advance(timedelta(days=7))
    world.others.expire()
    assert attempt.complete(1).request == REQUEST
    world.clock.advance(timedelta(days=1))
    world.others.cleanup()
    assert attempt.complete(1).request is None


# A create with artifacts


def test_the_acceptance_of_a_create_with_artifacts_is_its_actors(world: World) -> None:
    job = world.create(artifacts=PARTS, actor="someone")
    assert [(record.event, record.actor) for record in world.others.history(job.id)][:2] == [
        ("created", "someone"),
        ("accept", "someone"),
    ]


def test_a_create_that_another_accepted_first_answers_with_its_request(world: World) -> None:
    def accept() -> None:
        [job] = world.others.list().data
        world.others.accept(job.id)

    world.repository.stale("save", then=accept)
    job = world.create(artifacts=PARTS)
    assert (job.status, job.request) == ("queued", REQUEST)


# From the queue to the dispatcher


class _Renaming:
    """An engine that has names of its own, or none."""

    transactional = False

    def __init__(self, name: object) -> None:
        self.name = name

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> Any:
        return self.name

    def revoke(self, task_name: str) -> None:
        raise AssertionError("nothing is cancelled here")


@pytest.mark.parametrize(("name", "stored"), [("engine-7", "engine-7"), (None, "{}-1-1"), (7, "{}-1-1")])
def test_a_task_goes_by_the_engines_name_for_it_or_by_ours(name: object, stored: str) -> None:
    jobs = Jobs(MemoryRepository(), cast("Any", _Renaming(name)), clock=ManualClock(NOW))
    job = jobs.for_organization(ORG).create(ENDPOINT, REQUEST)
    assert job.task_name == stored.format(job.id)


def test_the_warning_of_a_delay_comes_after_those_that_the_job_has(world: World) -> None:
    attempt = world.start(world.create())
    world.dispatcher.fail("dispatch", DOWN)
    attempt.fail(ERROR, retryable=True, warnings=[WARNING])
    world.clock.advance(1)
    world.dispatcher.fail("dispatch", DOWN)
    world.others._ports.repository.save(_marked(world, attempt.job_id))
    assert [warning.code for warning in world.ours.retry(attempt.job_id).warnings or ()] == ["late", "dispatch_delayed"]


def _marked(world: World, job_id: str) -> Accepted:
    """A released job that is taken for one of a retry: the write that says so."""
    job = world.row(job_id)
    decision = decide(job, Event.DELAYED, NOW + 1, run=job.run)
    assert isinstance(decision, Accepted)
    return decision._replace(changes={**decision.changes, "retried_at": NOW})


# The drivers


class _Stopped:
    """A clock at which somebody pulls the plug."""

    def now(self) -> float:
        raise KeyboardInterrupt


def _asks_the_time() -> Flow[int]:
    return (yield from Now())


def test_a_flow_that_is_interrupted_is_closed_where_it_stands() -> None:
    flow = _asks_the_time()
    with pytest.raises(KeyboardInterrupt):
        run(flow, Ports(None, None, None, _Stopped()))
    assert inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED


def test_an_async_flow_that_is_cancelled_is_closed_where_it_stands() -> None:
    class Cancelled:
        async def now(self) -> float:
            raise asyncio.CancelledError

    flow = _asks_the_time()
    with asyncio.Runner() as runner, pytest.raises(asyncio.CancelledError):
        runner.run(run_async(flow, Ports(None, None, None, Cancelled())))
    assert inspect.getgeneratorstate(flow) == inspect.GEN_CLOSED
