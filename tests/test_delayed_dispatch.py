"""A dispatcher that can delay is given a job as soon as it is queued, with its time; nothing rests on the time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobstate import DispatchError, Job, JobError, Policy, run_job
from jobstate.memory import MemoryRepository
from jobstate.model import Delivery
from jobstate.ports import Repository
from jobstate.service import Jobs
from jobstate.testing import ManualClock
from jobstate.testing.explorer import Actor, Faults, explore, invariants, recover
from jobstate.testing.explorer import World as Explored
from jobstate.testing.explorer.actors import (
    BEGIN,
    POLICY,
    RELEASE,
    SCOPE,
    canceller,
    loser,
    queued_world,
    relayer,
    the_job_id,
    worker,
)
from jobstate.worker import RunFate
from tests.support import NOW, ORG, WORLDS, Delaying, World, make_world

LATER = NOW + 60
ERROR = JobError(code="broken", message="it broke")
DOWN = DispatchError("the broker is down")


@pytest.fixture
def delaying() -> Delaying:
    return Delaying()


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path: Path, delaying: Delaying) -> Iterator[World]:
    with make_world(request.param, tmp_path, delaying=delaying) as made:
        yield made


def events(world: World, job: Job) -> list[str]:
    return [str(record.event) for record in world.others.history(job.id)]


def marks(job: Job) -> tuple[int | None, int, bool]:
    return job.dispatched_at, job.dispatch_count, job.task_name is not None


# Given at once


def test_a_job_that_is_created_for_later_is_given_at_once_with_its_time(world: World, delaying: Delaying) -> None:
    job = world.create(available_at=LATER)
    assert (delaying.times, len(delaying)) == ({job.delivery: LATER}, 1)
    assert marks(job) == marks(world.row(job.id)) == (NOW, 1, True)
    assert (job.dispatch_pending, job.warnings) == (False, None)


def test_a_job_that_is_accepted_for_later_is_given_at_once_with_its_time(world: World, delaying: Delaying) -> None:
    held = world.create(available_at=LATER, validating=True)
    assert delaying.times == {}
    job = world.ours.accept(held.id)
    assert (delaying.times, marks(job)) == ({job.delivery: LATER}, (NOW, 1, True))


def test_a_released_job_is_given_at_once_with_the_end_of_its_pause(world: World, delaying: Delaying) -> None:
    world.create()
    job = world.start().fail(ERROR, retryable=True)
    assert job.available_at is not None
    assert NOW + 10 <= job.available_at <= NOW + 12
    assert (delaying.times, marks(job)) == ({job.delivery: job.available_at}, (NOW, 1, True))
    assert job.delivery.run == 2


def test_what_is_due_is_dispatched_without_a_time(world: World, delaying: Delaying) -> None:
    job = world.create(available_at=NOW)
    world.start(job).give_back()
    assert delaying.times == {}
    assert world.dispatcher.calls == ["dispatch", "dispatch"]


def test_a_job_that_was_queued_elsewhere_is_given_by_a_dispatch_with_its_time(world: World, delaying: Delaying) -> None:
    bare = Jobs(world.others._ports.repository, clock=world.clock).for_organization(ORG)
    job = bare.create("/x", {}, available_at=LATER)
    assert world.jobs.relay().moved == 0
    assert (world.jobs.dispatch(job.id).dispatch_pending, delaying.times) == (False, {job.delivery: LATER})


def test_a_cancel_takes_a_delayed_task_back(world: World, delaying: Delaying) -> None:
    world.ours.cancel(world.create(available_at=LATER).id)
    assert len(delaying) == 0


# Nothing rests on it


def test_a_dispatcher_that_cannot_delay_so_long_leaves_the_job_to_the_relay_and_nobody_is_told(world: World) -> None:
    world.dispatcher.fail("dispatch_at", DOWN)
    job = world.create(available_at=LATER)
    assert (job.dispatch_pending, job.warnings, events(world, job)) == (True, None, ["created"])
    world.clock.time = LATER - 1
    assert world.jobs.relay().moved == 0
    world.clock.time = LATER
    assert world.jobs.relay().moved == 1
    assert world.take() == job.delivery


def test_an_early_delivery_is_returned_with_its_time_and_changes_nothing(world: World) -> None:
    job = world.create(available_at=LATER)
    delivery = world.take()
    before = world.row(job.id)
    assert run_job(world.others, delivery, _done)[:] == (RunFate.RETURNED, "not_available", LATER)
    assert world.row(job.id) == before
    world.clock.time = LATER
    assert run_job(world.others, delivery, _done).fate is RunFate.COMPLETED
    assert run_job(world.others, delivery, _done).fate is RunFate.DROPPED


def test_a_lost_delivery_is_made_again_a_while_after_its_time(world: World, delaying: Delaying) -> None:
    job = world.create(available_at=LATER)
    world.take()
    after = LATER + 15 * 60
    for now, moved in ((NOW + 15 * 60, 0), (after - 1, 0), (after, 1)):
        world.clock.time = now
        assert world.jobs.relay().moved == moved
    assert (world.take(), delaying.times) == (job.delivery, {job.delivery: LATER})


def test_what_a_rescue_queues_for_later_waits_for_the_relay(tmp_path: Path, delaying: Delaying) -> None:
    policy = Policy(lease=timedelta(seconds=30), backoff=timedelta(minutes=2))
    with make_world("memory", tmp_path, policy, delaying=delaying) as world:
        job = world.create()
        world.start()
        world.clock.advance(40)
        report = world.jobs.sweep()
        assert (report.rescue.moved, report.relay.moved) == (1, 0)
        row = world.row(job.id)
        assert (row.dispatch_pending, delaying.times) == (True, {})
        assert row.available_at is not None
        world.clock.time = row.available_at
        assert world.jobs.sweep().relay.moved == 1


def _done(request: Any, context: Any) -> str:
    return "done"


# In the transaction of the job


class Outbox:
    """Writes deliveries into the transaction it is given: here, a list."""

    transactional = True

    def __init__(self) -> None:
        self.rows: list[tuple[Delivery, int | None]] = []
        self.error: Exception | None = None

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return self._write(delivery, None, task_name)

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        return self._write(delivery, not_before, task_name)

    def revoke(self, task_name: str) -> None:
        pass

    def _write(self, delivery: Delivery, not_before: int | None, task_name: str) -> str:
        if self.error is not None:
            raise self.error
        self.rows.append((delivery, not_before))
        return task_name


class Bindable(MemoryRepository):
    """A host's transaction that is never rolled back."""

    def bind(self, transaction: Any) -> Repository:
        return self


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def boxed(outbox: Outbox) -> Jobs:
    return Jobs(Bindable(), outbox, clock=ManualClock(NOW)).for_organization(ORG)


@pytest.mark.parametrize("bound", [False, True])
def test_one_write_saves_and_dispatches_with_the_time(boxed: Jobs, outbox: Outbox, bound: bool) -> None:
    jobs = boxed.bind(None) if bound else boxed
    created = jobs.create("/x", {}, available_at=LATER)
    held = jobs.create("/x", {}, available_at=LATER, validating=True)
    accepted = jobs.accept(held.id)
    due = jobs.create("/x", {})
    released = boxed.start(due.delivery).fail(ERROR, retryable=True)
    assert outbox.rows == [
        (created.delivery, LATER),
        (accepted.delivery, LATER),
        (due.delivery, None),
        (released.delivery, released.available_at),
    ]
    assert [job.version for job in (created, accepted, due, released)] == [1, 2, 1, 3]
    assert {marks(job) for job in (created, accepted, due, released)} == {(NOW, 1, True)}


def test_a_transactional_dispatcher_that_cannot_delay_leaves_the_job_pending(boxed: Jobs, outbox: Outbox) -> None:
    outbox.error = DOWN
    job = boxed.create("/x", {}, available_at=LATER)
    assert (job.dispatch_pending, job.warnings, outbox.rows) == (True, None, [])


def test_in_a_transaction_of_the_hosts_its_error_is_the_hosts(boxed: Jobs, outbox: Outbox) -> None:
    outbox.error = DOWN
    with pytest.raises(DispatchError) as caught:
        boxed.bind(None).create("/x", {}, available_at=LATER)
    assert caught.value is DOWN


def test_what_was_left_pending_is_given_on_demand_with_its_time(boxed: Jobs, outbox: Outbox) -> None:
    outbox.error = DOWN
    job = boxed.create("/x", {}, available_at=LATER)
    outbox.error = None
    assert marks(boxed.dispatch(job.id)) == (NOW, 1, True)
    assert outbox.rows == [(job.delivery, LATER)]


def test_a_job_that_is_found_pending_in_a_transaction_of_the_hosts_is_given_there_or_the_host_is_told(
    boxed: Jobs, outbox: Outbox
) -> None:
    outbox.error = DOWN
    job = boxed.create("/x", {}, idempotency_key="k")
    with pytest.raises(DispatchError) as caught:
        boxed.bind(None).create("/x", {}, idempotency_key="k")
    assert caught.value is DOWN
    outbox.error = None
    assert boxed.bind(None).create("/x", {}, idempotency_key="k").id == job.id
    assert outbox.rows == [(job.delivery, None)]


# Every interleaving

PAUSE = 5
DELAYING = replace(
    SCOPE, delays=True, policy=POLICY.model_copy(update={"backoff": timedelta(seconds=PAUSE), "backoff_jitter": 0})
)
DUE, LOST_FOR_LONG = BEGIN + PAUSE, BEGIN + PAUSE + 15
"""When the second run may start, and when a delivery of it that never came is made again."""
FIRST, SECOND = worker("first", (RELEASE,), scope=DELAYING), worker("second", scope=DELAYING)
AGAIN = worker("again", delivery=Delivery(job_id=the_job_id(), run=2), scope=DELAYING)
RELAY = relayer(scope=DELAYING)
RELEASED = queued_world().run(FIRST.flow(), "releaser")[1]
ACTORS: dict[str, tuple[Explored, list[Actor]]] = {
    "released": (queued_world(), [FIRST, SECOND]),
    "early": (RELEASED, [SECOND, AGAIN, RELAY]),
    "lost": (RELEASED, [loser(), SECOND, RELAY]),
    "cancelled": (RELEASED, [canceller(scope=DELAYING), SECOND, RELAY]),
}
FAULTS = {
    "none": Faults(),
    "a lost answer": Faults(lost=1),
    "a failed dispatch": Faults(undelivered=1),
    "a repeated delivery": Faults(repeated=1),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("actors", ACTORS)
def test_early_lost_and_repeated_deliveries_of_a_delayed_dispatch_break_nothing(actors: str, fault: str) -> None:
    checks = invariants(DELAYING.policy)
    begin, those = ACTORS[actors]
    found = explore(begin, those, invariants=checks, faults=FAULTS[fault], instants=[DUE, LOST_FOR_LONG])
    print(f"{actors}, {fault}: {found}")
    assert found.space is not None
    worlds = [found.space.worlds[number] for number in found.worlds]
    assert found.missing(["run 2", "event start", "event complete"]) == []
    assert any(_is_early(world) for world in worlds), "no delivery was on its way before its time"
    assert recover(worlds, DELAYING).goals.keys() >= {"completed"}


def _is_early(world: Explored) -> bool:
    return world.time < DUE and any(delivery.run == 2 for delivery in world.queue)
