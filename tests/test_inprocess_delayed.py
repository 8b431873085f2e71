"""The dispatchers in the own process hold a delivery until its time, for a while, and take no room for it from the others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from jobstate import DispatchError, Job, JobFailed
from jobstate.inprocess import AsyncioDispatcher, ThreadDispatcher
from tests import test_inprocess as threads
from tests import test_inprocess_async as tasks
from tests.support import NOW
from tests.test_inprocess import SOON, done

LATER = NOW + 60


def broken(request: Any, context: Any) -> Any:
    raise JobFailed("busy", "later", retryable=True)


def test_a_job_with_a_time_waits_here_and_runs_when_the_time_has_come() -> None:
    service = threads.Service()
    with service.dispatcher.running(service.jobs, done):
        job = service.create(available_at=LATER)
        assert not job.dispatch_pending
        assert service.dispatcher.join(SOON)
        assert service.row(job).status == "queued"
        service.clock.time = LATER
        service.dispatcher.wake()
        assert service.dispatcher.join(SOON)
        assert service.row(job).status == "completed"
    assert service.row(job).attempt_count == 1


def test_a_job_with_a_time_waits_in_the_loop_and_runs_when_the_time_has_come() -> None:
    async def scenario() -> None:
        service = tasks.Service()
        async with service.dispatcher.running(service.jobs, tasks.done):
            job = await service.create(available_at=LATER)
            assert not job.dispatch_pending
            await service.dispatcher.join()
            assert (await service.row(job)).status == "queued"
            service.clock.time = LATER
            await service.dispatcher.wake()
            await service.dispatcher.join()
            assert (await service.row(job)).status == "completed"

    tasks.in_a_loop(scenario)


def test_a_released_job_runs_again_after_its_pause_without_a_sweep() -> None:
    service = threads.Service()
    with service.dispatcher.running(service.jobs, broken):
        job = service.create()
        for attempt in (1, 2):
            assert service.dispatcher.join(SOON)
            row = service.row(job)
            assert (row.status, row.attempt_count, row.dispatch_pending) == ("queued", attempt, False)
            assert row.available_at is not None
            service.clock.time = row.available_at
            service.dispatcher.wake()
        assert service.dispatcher.join(SOON)
    assert (service.row(job).status, service.row(job).attempt_count) == ("failed", 3)


@pytest.mark.parametrize("ahead", [300, 301])
def test_what_is_due_in_more_than_five_minutes_is_left_to_the_relay(ahead: int) -> None:
    service = threads.Service()
    job = service.create(available_at=NOW + ahead)
    assert job.dispatch_pending is (ahead > 300)
    assert job.warnings is None
    with pytest.raises(DispatchError, match="more than 300 s"):
        service.dispatcher.dispatch_at(Job.model_construct(id="job_a", run=1).delivery, "name", NOW + 301)


def test_what_waits_for_its_time_takes_no_room_from_what_is_due_nor_the_other_way_round() -> None:
    service = threads.Service(limit=2)
    later = [service.create(available_at=LATER) for _ in range(3)]
    now = [service.create() for _ in range(3)]
    assert [job.dispatch_pending for job in later] == [job.dispatch_pending for job in now] == [False, False, True]
    service.jobs.cancel(later[0].id)
    assert [service.create(available_at=LATER).dispatch_pending for _ in range(2)] == [False, True]


def test_what_has_begun_takes_no_room_any_more() -> None:
    service = threads.Service(limit=1)
    with service.dispatcher.running(service.jobs, done):
        for _ in range(3):
            job = service.create(available_at=service.clock.time + 60)
            assert not job.dispatch_pending
            service.clock.advance(60)
            service.dispatcher.wake()
            assert service.dispatcher.join(SOON)
            assert service.row(job).status == "completed"


def test_a_stopped_dispatcher_takes_nothing_for_later() -> None:
    sync, asynchronous = ThreadDispatcher(), AsyncioDispatcher()
    sync.stop()
    delivery = Job.model_construct(id="job_a", run=1).delivery
    with pytest.raises(DispatchError, match="stopped"):
        sync.dispatch_at(delivery, "name", 0)

    async def stopped() -> None:
        await asynchronous.stop()
        await asynchronous.dispatch_at(delivery, "name", 0)

    with pytest.raises(DispatchError, match="stopped"):
        asyncio.run(stopped())
