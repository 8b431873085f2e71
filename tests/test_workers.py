"""What happens around a handler: heartbeats in the background, and tasks that are cancelled at any place."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobstate import AsyncAttempt, AsyncContext, AsyncJobs, Attempt, Context, Job, Policy, async_run_job, run_job
from jobstate.alarms import ALARMS, Alarm
from jobstate.lifecycle import Accepted
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.model import Event
from jobstate.testing import ManualClock
from jobstate.worker import RunFate, RunResult
from tests.commands import cancel, the_job
from tests.support import ENDPOINT, NOW, ORG, REQUEST, World, make_world

SOON = 60
"""Seconds until a test gives up waiting for what comes at once."""

DOWN = ConnectionError("the network is down")


@pytest.fixture
def sync_world(tmp_path: Path) -> Iterator[World]:
    with make_world("memory", tmp_path) as made:
        yield made


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats in the background come at once, whatever the lease."""
    for attempt in (Attempt, AsyncAttempt):
        monkeypatch.setattr(attempt, "policy", SimpleNamespace(lease_seconds=0.003))


def beating(world: World) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == f"heartbeat-{the_job(world).id}"]


# Heartbeats in the background, in a thread


@pytest.mark.usefixtures("eager")
def test_a_handler_that_says_nothing_keeps_its_lease(sync_world: World) -> None:
    job = sync_world.create()
    beat = threading.Event()

    def handle(request: Any, context: Context) -> Any:
        sync_world.clock.advance(4 * 60)
        sync_world.repository.then("save", beat.set, skip=1)  # the one before may be older than the clock's step
        assert beat.wait(SOON)
        sync_world.clock.advance(4 * 60)
        assert sync_world.others.rescue().moved == 0
        return "done"

    assert run_job(sync_world.jobs, job.delivery, handle) == RunResult(RunFate.COMPLETED)
    assert beating(sync_world) == []


@pytest.mark.usefixtures("eager")
def test_a_handler_learns_in_the_background_that_its_job_was_cancelled(sync_world: World) -> None:
    job = sync_world.create()

    def handle(request: Any, context: Context) -> Any:
        wanted.append(not context.cancelled)
        cancel(sync_world)
        pause, end = threading.Event(), time.monotonic() + SOON
        while not context.cancelled and time.monotonic() < end:
            pause.wait(0.001)
        wanted.append(not context.cancelled)
        return "done"

    wanted: list[bool] = []
    assert run_job(sync_world.jobs, job.delivery, handle) == RunResult(RunFate.LOST, "lease_lost")
    assert wanted == [True, False]


@pytest.mark.usefixtures("eager")
def test_a_heartbeat_that_fails_is_followed_by_another(sync_world: World) -> None:
    job = sync_world.create()
    beat = threading.Event()

    def handle(request: Any, context: Context) -> Any:
        sync_world.repository.fail("save", DOWN)
        sync_world.repository.fail("save", DOWN)
        sync_world.repository.then("save", beat.set)
        assert beat.wait(SOON)
        return "done"

    assert run_job(sync_world.jobs, job.delivery, handle) == RunResult(RunFate.COMPLETED)


def test_without_a_lease_nothing_beats(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, Policy(lease=None)) as world:
        job = world.create()
        assert run_job(world.jobs, job.delivery, lambda request, context: len(beating(world))).fate is RunFate.COMPLETED
        assert (response := world.row(job.id).response) is not None
        assert response.body == 0


def test_a_lease_is_kept_at_a_third_of_its_length(sync_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def set_alarm(seconds: float, call: Any) -> Alarm:
        pauses.extend((seconds, call.__self__._pause))
        return Alarm(call)

    monkeypatch.setattr(ALARMS, "set", set_alarm)
    job = sync_world.create()
    run_job(sync_world.jobs, job.delivery, lambda request, context: "done")
    assert pauses == [100, 100], "until the first one, and between them"


def test_progress_and_warnings_of_a_handler_stand_on_the_job(sync_world: World) -> None:
    job = sync_world.create()
    seen: list[Job] = []

    def handle(request: Any, context: Context) -> Any:
        sync_world.clock.advance(10)
        context.heartbeat(0.5)
        context.warn("blurred", "page 2 is blurred", {"page": 2})
        seen.append(sync_world.row(job.id))
        return "done"

    assert run_job(sync_world.jobs, job.delivery, handle) == RunResult(RunFate.COMPLETED)
    [row] = seen
    assert row.lease is not None
    assert (row.progress, row.lease.expires_at) == (0.5, NOW + 310)
    assert [(warning.code, warning.details) for warning in row.warnings or ()] == [("blurred", {"page": 2})]


# In a task


class Gate:
    """A repository that stops before, or behind, the save of an event until it is opened."""

    def __init__(self, inner: AsyncMemoryRepository, event: Event, *, made: bool = False) -> None:
        self._inner = inner
        self._event = event
        self._made = made
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def save(self, transition: Accepted, **options: Any) -> None:
        if transition.event is not self._event:
            return await self._inner.save(transition, **options)
        if self._made:
            await self._inner.save(transition, **options)
        self.reached.set()
        await self.open.wait()
        if not self._made:
            await self._inner.save(transition, **options)
        return None


class Service:
    """Async jobs on a memory repository, with or without a gate, and one job that is queued."""

    def __init__(self) -> None:
        self.repository = AsyncMemoryRepository(MemoryRepository())
        self.clock = ManualClock(NOW)
        self.jobs = AsyncJobs(self.repository, clock=self.clock)

    async def create(self) -> Job:
        return await self.jobs.for_organization(ORG).create(ENDPOINT, REQUEST)

    def behind(self, gate: Any) -> AsyncJobs:
        return AsyncJobs(gate, clock=self.clock)


async def settled(service: Service, job: Job) -> Job:
    """The job once everything that could go on has gone on."""
    for _ in range(100):
        await asyncio.sleep(0)
    return await service.jobs.retrieve(job.id)


async def forever(request: Any, context: AsyncContext) -> Any:
    await asyncio.Event().wait()


async def done(request: Any, context: AsyncContext) -> Any:
    return "done"


def in_a_loop(scenario: Callable[[Service], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(SOON):
            await scenario(Service())

    asyncio.run(main())


def test_a_cancelled_task_gives_its_job_back_and_stays_cancelled() -> None:
    async def scenario(service: Service) -> None:
        job = await service.create()
        running = asyncio.Event()
        work = async_run_job(service.jobs, job.delivery, forever, on_start=lambda context: running.set())
        task = asyncio.create_task(work)
        await running.wait()
        await settled(service, job)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        row = await service.jobs.retrieve(job.id)
        assert (row.status, row.run, row.attempts_used, row.give_backs) == ("queued", 2, 0, 1)

    in_a_loop(scenario)


@pytest.mark.parametrize("event", [Event.START, Event.GIVE_BACK])
def test_a_task_that_is_cancelled_twice_leaves_no_job_under_its_lease(event: Event) -> None:
    async def scenario(service: Service) -> None:
        job = await service.create()
        gate = Gate(service.repository, event, made=event is Event.START)
        running = asyncio.Event()
        work = async_run_job(service.behind(gate), job.delivery, forever, on_start=lambda context: running.set())
        task = asyncio.create_task(work)
        if event is Event.GIVE_BACK:
            await running.wait()
            await settled(service, job)
            task.cancel()
        await gate.reached.wait()
        task.cancel()
        await settled(service, job)
        task.cancel()
        await settled(service, job)
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        row = await settled(service, job)
        assert (row.status, row.attempts_used, row.give_backs) == ("queued", 0, 1)

    in_a_loop(scenario)


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("event", [Event.START, Event.COMPLETE])
def test_a_task_that_is_cancelled_while_it_saves_leaves_no_job_under_its_lease(event: Event, made: bool) -> None:
    async def scenario(service: Service) -> None:
        job = await service.create()
        gate = Gate(service.repository, event, made=made)
        task = asyncio.create_task(async_run_job(service.behind(gate), job.delivery, done))
        await gate.reached.wait()
        task.cancel()
        gate.open.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        row = await settled(service, job)
        assert row.status in ("queued", "completed")
        assert row.status == "completed" or row.attempts_used == 0

    in_a_loop(scenario)


@pytest.mark.usefixtures("eager")
def test_a_handler_in_a_task_that_says_nothing_keeps_its_lease() -> None:
    async def scenario(service: Service) -> None:
        job = await service.create()
        gate = Gate(service.repository, Event.HEARTBEAT, made=True)
        gate.open.set()

        async def handle(request: Any, context: AsyncContext) -> Any:
            service.clock.advance(4 * 60)
            gate.reached.clear()
            await gate.reached.wait()
            service.clock.advance(4 * 60)
            assert (await service.jobs.rescue()).moved == 0
            return "done"

        assert await async_run_job(service.behind(gate), job.delivery, handle) == RunResult(RunFate.COMPLETED)
        assert [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("heartbeat")] == []

    in_a_loop(scenario)


@pytest.mark.usefixtures("eager")
def test_a_handler_in_a_task_learns_in_the_background_that_its_job_was_cancelled() -> None:
    async def scenario(service: Service) -> None:
        job = await service.create()

        async def handle(request: Any, context: AsyncContext) -> Any:
            await service.jobs.cancel(job.id)
            [beat] = [task for task in asyncio.all_tasks() if task.get_name().startswith("heartbeat")]
            await asyncio.wait([beat])
            return context.cancelled

        assert await async_run_job(service.jobs, job.delivery, handle) == RunResult(RunFate.LOST, "lease_lost")
        assert (await service.jobs.retrieve(job.id)).status == "cancelled"

    in_a_loop(scenario)
