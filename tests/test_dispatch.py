"""From the queue to the dispatcher: what was saved is dispatched, what fails is delayed, and nothing is run twice for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobstate import DispatchError, Event, IllegalTransitionError, Job, JobError, JobNotFoundError, Jobs, run_job
from jobstate.drivers import run
from jobstate.flows.commands import change
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.flows.settle import Dispatching
from jobstate.memory import AsyncMemoryDispatcher, MemoryDispatcher
from jobstate.worker import RunFate
from tests.commands import (
    INTERRUPTED,
    CrashError,
    crash_after,
    creating,
    failed,
    held,
    in_bulk,
    retrying,
    somebody,
    start,
    the_job,
    working,
)
from tests.support import NOW, ORG, WORLDS, Faulty, World, make_world

ERROR = JobError(code="broken", message="it broke")
DOWN = DispatchError("the broker is down")

Prepare = Callable[[World], Callable[[], Any]]

QUEUEING: dict[str, Prepare] = {
    "create": creating(),
    "accept": held("accept"),
    "retry": retrying(),
    "retry_many": in_bulk("retry_many", failed),
}
"""Commands that queue a job for a caller who waits for the answer."""

queueing = pytest.mark.parametrize("prepare", QUEUEING.values(), ids=QUEUEING)


def drain(world: World) -> list[Any]:
    """All deliveries that wait, taken out."""
    return [world.take() for _ in range(len(world.dispatcher))]


def codes(job: Job) -> list[str]:
    return [warning.code for warning in job.warnings or ()]


def events(world: World, job: Job) -> list[str]:
    return [str(record.event) for record in world.others.history(job.id)]


def test_an_empty_dispatcher_can_be_shared_by_both_colours() -> None:
    shared = MemoryDispatcher()
    asyncio.run(AsyncMemoryDispatcher(shared).dispatch(Job.model_construct(id="job", run=1).delivery, "name"))
    assert len(shared) == 1


# First the save, then the dispatch


@queueing
def test_a_dispatcher_is_called_once_and_only_when_the_job_is_stored(world: World, prepare: Prepare) -> None:
    act = prepare(world)
    drain(world)
    seen: list[tuple[str, int]] = []
    world.dispatcher.then("dispatch", lambda: seen.append((the_job(world).status, the_job(world).run)))
    told = act()
    assert seen == [("queued", told.run)]
    assert drain(world) == [told.delivery]
    assert (told.dispatch_pending, codes(told)) == (False, [])


@queueing
def test_what_was_not_saved_is_not_dispatched(world: World, prepare: Prepare) -> None:
    act = prepare(world)
    drain(world)
    world.dispatcher.calls.clear()
    for method in ("insert", "save", "save_many"):
        world.repository.by_row = False
        world.repository.fail(method, ConnectionError("the network is down"))
    with pytest.raises(ConnectionError):
        act()
    assert world.dispatcher.calls == []


def test_a_job_that_is_not_due_waits_for_the_sweep_without_a_warning(world: World) -> None:
    job = world.create(available_at=NOW + 60)
    assert (codes(job), job.dispatch_pending) == ([], True)
    assert world.jobs.sweep().relay.moved == 0
    world.clock.advance(60)
    assert world.jobs.sweep().relay.moved == 1
    assert drain(world) == [job.delivery]


def test_a_job_is_dispatched_on_demand_by_its_own_organization_only(world: World) -> None:
    bare = Jobs(world.others._ports.repository, clock=world.clock).for_organization(ORG)
    job = bare.create("/x", {})
    with pytest.raises(JobNotFoundError):
        world.jobs.for_organization("org_b").dispatch(job.id)
    assert drain(world) == []
    assert world.ours.dispatch(job.id).dispatch_count == 1
    assert drain(world) == [job.delivery]


def test_a_dispatch_on_demand_that_fails_leaves_the_job_as_it_was(world: World) -> None:
    bare = Jobs(world.others._ports.repository, clock=world.clock).for_organization(ORG)
    job = bare.create("/x", {})
    world.dispatcher.fail("dispatch", DOWN)
    told = world.jobs.dispatch(job.id)
    assert (told.dispatch_pending, codes(told), told.version) == (True, [], job.version)
    assert events(world, job) == ["created"]


# Delayed


@pytest.mark.parametrize(
    "error", [DOWN, ConnectionError("no route"), KeyError("a bug")], ids=lambda error: type(error).__name__
)
@queueing
def test_a_dispatcher_that_raises_leaves_a_pending_job_and_a_caller_who_is_told(
    world: World, prepare: Prepare, error: Exception
) -> None:
    act = prepare(world)
    drain(world)
    world.dispatcher.fail("dispatch", error)
    told = act()
    assert (told.status, told.dispatch_pending, codes(told)) == ("queued", True, [DISPATCH_DELAYED])
    row = world.row(told.id)
    assert (row.dispatch_pending, row.dispatch_delayed_at, row.warnings) == (True, NOW, None)
    assert world.jobs.sweep().relay.moved == 1
    assert world.jobs.sweep().relay.moved == 0
    assert drain(world) == [told.delivery]


def test_a_worker_that_gives_back_is_told_nothing_of_a_delay(world: World) -> None:
    give_back = working("give_back")(world)
    drain(world)
    world.dispatcher.fail("dispatch", DOWN)
    job = give_back()
    assert (job.status, codes(job), job.dispatch_pending) == ("queued", [], True)
    assert "delayed" not in events(world, job)
    assert world.jobs.sweep().relay.moved == 1
    assert drain(world) == [job.delivery]


def test_a_delivery_that_fails_stops_no_other(world: World) -> None:
    for _ in range(3):
        world.dispatcher.fail("dispatch", DOWN)
    jobs = [world.create() for _ in range(3)]
    world.dispatcher.fail("dispatch", DOWN)
    relay = world.jobs.sweep().relay
    assert (relay.moved, relay.failed) == (2, 1)
    assert world.jobs.sweep().relay.moved == 1
    assert {delivery.job_id for delivery in drain(world)} == {job.id for job in jobs}


@pytest.mark.parametrize("kind", WORLDS)
def test_without_a_dispatcher_a_job_stays_pending_without_a_warning(kind: str, tmp_path: Path) -> None:
    with make_world(kind, tmp_path, dispatcher=False) as world:
        job = world.create()
        assert (job.dispatch_pending, codes(job), events(world, job)) == (True, [], ["created"])
        assert world.jobs.sweep().relay.moved == 0
        assert world.start(job).complete("done").status == "completed"


def survives_a_crash(name: str, steps: int, folder: Path) -> bool:
    """Kill a command after so many effects, and see that nothing is lost; whether it was over before."""
    bring, act = INTERRUPTED[name]
    with make_world("memory", folder) as world:
        job = bring(world)
        drain(world)
        try:
            act(crash_after(steps, world.others.for_organization(ORG)), job)
            over = True
        except CrashError:
            over = False
        queued = [row for row in world.others.list().data if row.status == "queued"]
        world.jobs.sweep()
        fates = [run_job(world.jobs, delivery, lambda request, context: "done").fate for delivery in drain(world)]
        assert [fate for fate in fates if fate is not RunFate.DROPPED] == [RunFate.COMPLETED] * len(queued)
        return over


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_crash_at_any_step_loses_nothing(name: str, tmp_path: Path) -> None:
    assert next(steps for steps in count(1) if survives_a_crash(name, steps, tmp_path)) > 4


# No outcome of a mark is an error


FAULTS: dict[str, Callable[[Faulty, str, int], None]] = {
    "lost": lambda port, method, skip: port.lose(method, skip=skip),
    "not made": lambda port, method, skip: port.drop(method, skip=skip),
    "stale": lambda port, method, skip: port.stale(method, skip=skip),
    "port down": lambda port, method, skip: port.fail(method, ConnectionError("the network is down"), skip=skip),
}

OWN_CALLS = {"create": (0, 0), "accept": (1, 1), "retry": (1, 1), "retry_many": (0, 0)}
"""Loads and saves of each command until it is accepted."""


@pytest.mark.parametrize("delayed", [False, True], ids=["dispatched", "delayed"])
@pytest.mark.parametrize("reading", [False, True], ids=["save", "save and load"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", QUEUEING)
def test_no_fault_behind_an_accepted_command_makes_it_an_error(
    world: World, name: str, fault: str, reading: bool, delayed: bool
) -> None:
    act = QUEUEING[name](world)
    drain(world)
    loads, saves = OWN_CALLS[name]
    for index in range(30):
        FAULTS[fault](world.repository, "save", 0 if index else saves)
        if reading:
            FAULTS[fault](world.repository, "load", 0 if index else loads)
    if delayed:
        world.dispatcher.fail("dispatch", DOWN)
    told = act()
    row = the_job(world)
    assert (told.status, told.run) == (row.status, row.run) == ("queued", row.run)
    assert codes(told) in ([], [DISPATCH_DELAYED] if delayed and row.dispatch_delayed_at == NOW else [])
    assert reading or (told.version, told.dispatched_at) == (row.version, row.dispatched_at)


def test_a_delay_that_was_not_saved_is_not_told(world: World) -> None:
    world.dispatcher.fail("dispatch", DOWN)
    for _ in range(30):
        world.repository.drop("save")
    job = world.create()
    assert (codes(job), job.dispatch_delayed_at, job.dispatch_pending) == ([], None, True)


def test_a_delay_is_not_told_when_the_relay_was_quicker(world: World) -> None:
    world.dispatcher.drop("dispatch", then=lambda: world.others.relay())
    job = world.create()
    assert (codes(job), job.dispatch_pending) == ([], False)
    assert job.dispatch_count == 1


# A retry that is sent again


def retried_with_a_delay(world: World) -> Job:
    job = failed(world)
    drain(world)
    world.dispatcher.fail("dispatch", DOWN)
    told = world.ours.retry(job.id)
    assert codes(told) == [DISPATCH_DELAYED]
    return told


REACHED: dict[str, Callable[[World, Job], object]] = {
    "queued": lambda world, job: job,
    "in_progress": lambda world, job: world.start(job),
    "completed": lambda world, job: world.start(job).complete("done"),
    "failed": lambda world, job: world.start(job).fail(ERROR),
    "cancelled": lambda world, job: world.ours.cancel(job.id),
}


@pytest.mark.parametrize("seconds", [0, 60])
@pytest.mark.parametrize("status", REACHED)
def test_a_retry_resent_after_a_delay_finds_its_retry(world: World, status: str, seconds: int) -> None:
    job = retried_with_a_delay(world)
    REACHED[status](world, job)
    world.clock.advance(seconds)
    found = world.ours.retry(job.id)
    assert (found.status, found.run) == (status, job.run)
    assert events(world, job).count("retry") == 1
    assert not found.dispatch_pending
    assert drain(world) == ([job.delivery] if status == "queued" else [])


@pytest.mark.parametrize("status", REACHED)
def test_a_retry_sent_after_the_window_is_another_one(world: World, status: str) -> None:
    job = retried_with_a_delay(world)
    REACHED[status](world, job)
    world.clock.advance(61)
    if status == "completed":
        with pytest.raises(IllegalTransitionError):
            world.ours.retry(job.id)
    else:
        assert world.ours.retry(job.id).run == job.run + (status in ("failed", "cancelled"))


def test_a_retry_that_was_dispatched_and_failed_may_be_retried_at_once(world: World) -> None:
    job = world.ours.retry(failed(world).id)
    world.start(job).fail(ERROR)
    assert world.ours.retry(job.id).run == job.run + 1


def test_a_retry_resent_while_the_dispatcher_is_still_down_is_told_so_again(world: World) -> None:
    job = retried_with_a_delay(world)
    world.clock.advance(30)
    world.dispatcher.fail("dispatch", DOWN)
    told = world.ours.retry(job.id)
    assert (codes(told), told.run, told.dispatch_delayed_at) == ([DISPATCH_DELAYED], job.run, NOW + 30)


def test_a_bulk_retry_that_is_resent_dispatches_what_is_pending_before_it_answers(world: World) -> None:
    job = retried_with_a_delay(world)
    [outcome] = world.ours.retry_many(ids=[job.id])
    assert (outcome.fate, outcome.job and outcome.job.run) == ("already", job.run)
    assert drain(world) == [job.delivery]


def test_a_released_retry_is_found_by_a_resent_one(world: World) -> None:
    job = retried_with_a_delay(world)
    world.start(job).fail(ERROR, retryable=True)
    found = world.ours.retry(job.id)
    assert (found.status, found.run, found.available_at is None) == ("queued", job.run + 1, False)


# Tasks, their names, and their repeats


def test_a_cancel_takes_the_task_back(world: World) -> None:
    job = world.create()
    world.ours.cancel(job.id)
    assert drain(world) == []


def test_a_cancel_counts_though_the_task_cannot_be_taken_back(world: World) -> None:
    job = world.create()
    world.dispatcher.fail("revoke", DOWN)
    assert world.ours.cancel(job.id).status == "cancelled"
    assert world.row(job.id).status == "cancelled"


def test_a_task_has_another_name_for_each_run_and_each_dispatch(world: World) -> None:
    job = world.create()
    names = [job.task_name]
    world.clock.advance(15 * 60)
    world.jobs.sweep()
    names.append(world.row(job.id).task_name)
    world.start(job).give_back()
    names.append(world.row(job.id).task_name)
    world.ours.cancel(job.id)
    names.append(world.ours.retry(job.id).task_name)
    names.append(world.create().task_name)
    assert None not in names
    assert len(set(names)) == 5


def test_a_delivery_that_the_broker_lost_is_made_again_after_a_while(world: World) -> None:
    job = world.create()
    drain(world)
    world.clock.advance(15 * 60 - 1)
    assert world.jobs.sweep().relay.moved == 0
    world.clock.advance(1)
    assert world.jobs.sweep().relay.moved == 1
    assert drain(world) == [job.delivery]
    assert world.row(job.id).dispatch_count == 2
    assert world.jobs.sweep().relay.moved == 0


def test_a_job_that_has_started_is_not_dispatched_again(world: World) -> None:
    start_time = world.clock.time
    world.create()
    drain(world)
    start(world)
    world.clock.time = start_time + 15 * 60
    assert world.jobs.relay().moved == 0
    assert drain(world) == []


def test_a_worker_may_start_before_the_mark_is_saved(world: World) -> None:
    world.dispatcher.then("dispatch", lambda: start(world))
    job = world.create()
    assert (job.status, job.dispatch_count) == ("in_progress", 1)


def test_a_mark_of_a_former_run_is_not_put_on_the_next_one(world: World) -> None:
    def others_go_on() -> None:
        somebody(world).cancel(the_job(world).id)
        somebody(world).retry(the_job(world).id)

    world.dispatcher.then("dispatch", others_go_on)
    job = world.create()
    assert (job.run, job.dispatched_at, job.dispatch_count) == (2, None, 0)
    assert world.jobs.sweep().relay.moved == 1


@pytest.mark.parametrize("scope", [{"bound": True}, {"dispatching": Dispatching.NEVER}])
def test_no_task_is_taken_back_before_its_host_has_committed_or_without_a_dispatcher(
    tmp_path: Path, scope: dict[str, Any]
) -> None:
    with make_world("memory", tmp_path) as world:
        job = world.create()
        ports, plain = world.jobs._ports, world.jobs._scope
        assert run(change(replace(plain, **scope), job.id, Event.CANCEL), ports).status == "cancelled"
        assert world.dispatcher.calls.count("revoke") == 0
        run(change(plain, world.create().id, Event.CANCEL), ports)
        assert world.dispatcher.calls.count("revoke") == 1
