"""A dispatcher that writes to the database of the job: saving and dispatching are one effect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from jobstate import AsyncJobs, Delivery, DispatchError, Event, IllegalTransitionError, Job, Jobs, Policy
from jobstate.drivers import run
from jobstate.flows.commands import change
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.flows.sweeps import Swept
from tests.commands import (
    ERROR,
    INTERRUPTED,
    CrashError,
    cancel,
    crash_after,
    creating,
    failed,
    held,
    retrying,
    somebody,
    start,
    the_job,
    working,
)
from tests.support import NOW, ORG, Faulty, Synced, World, make_world

DOWN = DispatchError("the table is locked")


class Outbox:
    """Writes deliveries into the transaction it is given: here, a list."""

    transactional = True

    def __init__(self) -> None:
        self.rows: list[tuple[Delivery, str]] = []

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any) -> str:
        self.rows.append((delivery, task_name))
        return task_name

    def revoke(self, task_name: str) -> None:
        self.rows = [row for row in self.rows if row[1] != task_name]

    @property
    def deliveries(self) -> list[Delivery]:
        return [delivery for delivery, _ in self.rows]


class AsyncOutbox:
    """The same, awaited."""

    transactional = True

    def __init__(self, shared: Outbox) -> None:
        self.shared = shared

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any) -> str:
        return self.shared.dispatch(delivery, task_name, transaction=transaction)

    async def revoke(self, task_name: str) -> None:
        self.shared.revoke(task_name)


def with_outbox(world: World, outbox: Outbox) -> World:
    """The same world with this outbox as its dispatcher; `others` have none."""
    options: dict[str, Any] = {"policy": world.policy, "clock": world.clock, "artifacts": world.artifacts}
    jobs: Any
    if isinstance(world.jobs, Synced):
        dispatcher = Faulty(AsyncOutbox(outbox))
        jobs = Synced(AsyncJobs(world.repository, cast(Any, dispatcher), **options), world.jobs._runner)
    else:
        dispatcher = Faulty(outbox)
        jobs = Jobs(world.repository, cast(Any, dispatcher), **options)
    return replace(world, jobs=jobs, others=somebody(world), dispatcher=dispatcher)


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def boxed(world: World, outbox: Outbox) -> World:
    return with_outbox(world, outbox)


def codes(job: Job) -> list[str]:
    return [warning.code for warning in job.warnings or ()]


Prepare = Callable[[World], Callable[[], Any]]

QUEUEING: dict[str, Prepare] = {
    "create": creating(),
    "accept": held("accept"),
    "retry": retrying(),
    "give back": working("give_back"),
}
"""Commands that queue a job which is due, by one save (or insert)."""

queueing = pytest.mark.parametrize("prepare", QUEUEING.values(), ids=QUEUEING)


def prepared(boxed: World, outbox: Outbox, prepare: Prepare) -> tuple[Callable[[], Any], int]:
    """The command, and the version at which its job stands."""
    act = prepare(boxed)
    outbox.rows.clear()
    rows = boxed.others.list().data
    return act, rows[0].version if rows else 0


@queueing
def test_one_write_saves_and_dispatches(boxed: World, outbox: Outbox, prepare: Prepare) -> None:
    act, version = prepared(boxed, outbox, prepare)
    told = act()
    row = the_job(boxed)
    assert row.version == version + 1
    assert (row.dispatched_at, row.dispatch_count, row.dispatch_pending) == (NOW, 1, False)
    assert outbox.rows == [(row.delivery, row.task_name)]
    assert (told.version, told.dispatched_at, codes(told)) == (row.version, NOW, [])


@queueing
def test_one_that_raises_leaves_a_stored_pending_job_and_a_caller_who_is_told(
    boxed: World, outbox: Outbox, prepare: Prepare
) -> None:
    act, _ = prepared(boxed, outbox, prepare)
    boxed.dispatcher.fail("dispatch", DOWN)
    boxed.dispatcher.fail("dispatch", DOWN)
    told = act()
    row = the_job(boxed)
    assert (row.status, row.dispatch_pending, outbox.rows) == ("queued", True, [])
    delayed = prepare is not QUEUEING["give back"]  # a worker waits for no dispatch
    assert (codes(told), row.dispatch_delayed_at) == (([DISPATCH_DELAYED], NOW) if delayed else ([], None))
    assert boxed.jobs.sweep().relay.moved == 1
    assert outbox.deliveries == [row.delivery]
    assert boxed.jobs.sweep().relay.moved == 0


@queueing
@pytest.mark.parametrize("fault", ["lose", "drop"])
def test_a_lost_answer_dispatches_once(boxed: World, outbox: Outbox, prepare: Prepare, fault: str) -> None:
    act, _ = prepared(boxed, outbox, prepare)
    getattr(boxed.repository, fault)("insert" if prepare is QUEUEING["create"] else "save")
    told = act()
    row = the_job(boxed)
    assert outbox.rows == [(row.delivery, row.task_name)]
    assert (told.version, told.dispatched_at, row.dispatch_count, codes(told)) == (row.version, NOW, 1, [])


@queueing
@pytest.mark.parametrize("until", ["load", "save"])
def test_a_late_save_dispatches_once(boxed: World, outbox: Outbox, prepare: Prepare, until: str) -> None:
    act, _ = prepared(boxed, outbox, prepare)
    if prepare is QUEUEING["create"]:
        boxed.repository.late("insert", until="insert")
    else:
        boxed.repository.late("save", until=until)
    act()
    row = the_job(boxed)
    assert outbox.rows == [(row.delivery, row.task_name)]
    assert row.dispatch_count == 1


def test_a_lost_answer_is_found_behind_the_writes_of_others(boxed: World, outbox: Outbox) -> None:
    act, _ = prepared(boxed, outbox, QUEUEING["accept"])

    def others_go_on() -> None:
        start(boxed)
        cancel(boxed)

    boxed.repository.lose("save", then=others_go_on)
    told = act()
    row = the_job(boxed)
    assert (told.version, told.status, codes(told)) == (row.version, "cancelled", [])
    assert outbox.deliveries == [Delivery(job_id=row.id, run=1)]


def test_a_stale_save_dispatches_nothing(boxed: World, outbox: Outbox) -> None:
    job = boxed.create(validating=True)
    boxed.repository.then("load", lambda: boxed.others.cancel(job.id))
    with pytest.raises(IllegalTransitionError):
        boxed.ours.accept(job.id)
    assert outbox.rows == []


def test_a_create_that_finds_its_key_dispatches_nothing(boxed: World, outbox: Outbox) -> None:
    first = boxed.create(idempotency_key="inv-17")
    assert boxed.create(idempotency_key="inv-17").id == first.id
    assert outbox.deliveries == [first.delivery]


def test_a_job_that_is_not_due_is_not_dispatched_with_its_save(boxed: World, outbox: Outbox) -> None:
    job = boxed.create(available_at=NOW + 60)
    assert (outbox.rows, job.dispatch_pending, codes(job)) == ([], True, [])
    boxed.clock.advance(60)
    assert boxed.jobs.sweep().relay.moved == 1
    assert outbox.deliveries == [job.delivery]


def test_a_release_without_a_pause_dispatches_with_its_save(tmp_path: Path, outbox: Outbox) -> None:
    with make_world("memory", tmp_path, Policy(backoff=timedelta(0))) as world:
        boxed = with_outbox(world, outbox)
        act, version = prepared(boxed, outbox, working("fail", ERROR, retryable=True))
        act()
        row = the_job(boxed)
        assert (row.version, outbox.rows) == (version + 1, [(row.delivery, row.task_name)])


def test_a_release_with_a_pause_is_dispatched_when_it_is_over(boxed: World, outbox: Outbox) -> None:
    act, _ = prepared(boxed, outbox, working("fail", ERROR, retryable=True))
    job = act()
    assert (outbox.rows, job.dispatch_pending) == ([], True)
    boxed.clock.time = job.available_at
    assert boxed.jobs.sweep().relay.moved == 1
    assert outbox.deliveries == [job.delivery]


def test_in_a_transaction_of_the_hosts_the_dispatchers_error_is_the_hosts(tmp_path: Path, outbox: Outbox) -> None:
    with make_world("memory", tmp_path) as world:
        boxed = with_outbox(world, outbox)
        job = failed(boxed)
        before, scope = boxed.row(job.id), replace(boxed.jobs._scope, bound=True)
        boxed.dispatcher.fail("dispatch", DOWN)
        with pytest.raises(DispatchError) as caught:
            run(change(scope, job.id, Event.RETRY), boxed.jobs._ports)
        assert (caught.value, boxed.row(job.id)) == (DOWN, before)


def test_in_a_transaction_of_the_hosts_a_job_that_is_not_due_is_queued_and_left_pending(tmp_path: Path, outbox: Outbox) -> None:
    with make_world("memory", tmp_path) as world:
        boxed = with_outbox(world, outbox)
        job = boxed.create(validating=True, available_at=NOW + 60)
        told = run(change(replace(boxed.jobs._scope, bound=True), job.id, Event.ACCEPT), boxed.jobs._ports)
        assert (told.status, told.dispatch_pending, outbox.rows) == ("queued", True, [])


def test_a_bulk_retry_dispatches_each_job_once(boxed: World, outbox: Outbox) -> None:
    jobs = [failed(boxed) for _ in range(3)]
    outbox.rows.clear()
    outcomes = boxed.ours.retry_many(status="failed")
    assert [outcome.job and outcome.job.dispatch_pending for outcome in outcomes] == [False] * 3
    assert sorted(delivery.job_id for delivery in outbox.deliveries) == sorted(job.id for job in jobs)


def test_a_delivery_is_made_again_after_a_while_with_its_mark(boxed: World, outbox: Outbox) -> None:
    job = boxed.create()
    outbox.rows.clear()
    boxed.clock.advance(15 * 60)
    assert boxed.jobs.sweep().relay == Swept(moved=1)
    row = boxed.row(job.id)
    assert outbox.rows == [(row.delivery, row.task_name)]
    assert (row.dispatch_count, row.task_name == job.task_name, row.version) == (2, False, job.version + 1)
    assert boxed.repository.calls.count("save_many") == 0  # the mark was saved with the delivery


def test_a_relay_that_was_overtaken_dispatches_nothing(boxed: World, outbox: Outbox) -> None:
    job = boxed.others.for_organization(ORG).create("/v1/documents/extract", {})
    boxed.repository.then("due", lambda: boxed.others.cancel(job.id))
    assert boxed.jobs.relay().moved == 0
    assert boxed.row(job.id).status == "cancelled"
    assert outbox.rows == []


def test_a_cancel_takes_the_task_back(boxed: World, outbox: Outbox) -> None:
    boxed.ours.cancel(boxed.create().id)
    assert outbox.rows == []


def survives_a_crash(name: str, steps: int, folder: Path) -> bool:
    """Kill a command after so many effects, and see both or neither; whether it was over before."""
    bring, act = INTERRUPTED[name]
    outbox = Outbox()
    with make_world("memory", folder) as plain:
        world = with_outbox(plain, outbox)
        job = bring(world)
        outbox.rows.clear()
        try:
            act(crash_after(steps, world.ours), job)
            over = True
        except CrashError:
            over = False
        queued = [row for row in world.others.list().data if row.status == "queued"]
        assert outbox.deliveries == [row.delivery for row in queued]
        assert [row.dispatch_pending for row in queued] == [False] * len(queued)
        return over


@pytest.mark.parametrize("name", ["create", "accept", "retry"])
def test_a_crash_at_any_step_leaves_both_or_neither(name: str, tmp_path: Path) -> None:
    assert next(steps for steps in count(1) if survives_a_crash(name, steps, tmp_path)) > 3


def test_a_conflict_is_not_taken_for_the_dispatchers_error(boxed: World, outbox: Outbox) -> None:
    job = boxed.create(validating=True)
    boxed.repository.stale("save")
    boxed.repository.calls.clear()
    assert not boxed.ours.accept(job.id).dispatch_pending
    assert boxed.repository.calls == ["load", "save", "load", "save"]
    assert [delivery.run for delivery in outbox.deliveries] == [1]


def test_a_mark_that_was_saved_with_its_delivery_is_not_read_back(boxed: World, outbox: Outbox) -> None:
    boxed.dispatcher.fail("dispatch", DOWN)
    boxed.repository.calls.clear()
    job = boxed.create()
    assert (job.dispatch_pending, job.warnings, len(outbox.rows)) == (False, None, 1)
    assert boxed.repository.calls == ["insert", "insert", "save"]
