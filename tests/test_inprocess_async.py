"""The dispatcher in the running event loop: as the one on threads, with tasks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from jobstate import AsyncContext, AsyncJobs, DispatchError, Job, LeaseLostError, crew
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.inprocess import AsyncioDispatcher
from jobstate.memory import AsyncMemoryRepository
from jobstate.testing import ManualClock
from tests.support import ENDPOINT, NOW, ORG, REQUEST

SOON = 60
"""Seconds until a test gives up waiting for what comes at once."""


class Service:
    """Async jobs on a memory repository and a dispatcher in this loop, under a clock that is set by hand."""

    def __init__(self, *, workers: int = 2, limit: int = 100) -> None:
        self.clock = ManualClock(NOW)
        repository = AsyncMemoryRepository()
        self.dispatcher = AsyncioDispatcher(workers=workers, limit=limit, clock=self.clock)
        self.jobs = AsyncJobs(repository, self.dispatcher, clock=self.clock)
        self.others = AsyncJobs(repository, clock=self.clock)

    async def create(self, **options: Any) -> Job:
        return await self.jobs.for_organization(ORG).create(ENDPOINT, REQUEST, **options)

    async def row(self, job: Job) -> Job:
        return await self.jobs.retrieve(job.id, include_response=True)


class Held:
    """A handler that waits to be let go, and notes what it saw."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.go = asyncio.Event()
        self.context: AsyncContext | None = None

    async def __call__(self, request: Any, context: AsyncContext) -> Any:
        self.context = context
        self.entered.set()
        await self.go.wait()
        return "late"


async def done(request: Any, context: AsyncContext) -> Any:
    return "done"


def in_a_loop(scenario: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(SOON):
            await scenario()

    asyncio.run(main())


async def joins_at_once(dispatcher: AsyncioDispatcher) -> bool:
    """Whether nothing waits and nothing runs, once all that could go on has gone on."""
    joining = asyncio.create_task(dispatcher.join())
    for _ in range(100):
        await asyncio.sleep(0)
    if joining.done():
        return True
    joining.cancel()
    await asyncio.wait([joining])
    return False


def codes(job: Job) -> list[str]:
    return [warning.code for warning in job.warnings or ()]


def test_what_is_created_runs() -> None:
    async def scenario() -> None:
        service = Service()
        before = await service.create()
        async with service.dispatcher.running(service.jobs, done):
            jobs = [before, *[await service.create() for _ in range(20)]]
            await service.dispatcher.join()
        assert {(await service.row(job)).status for job in jobs} == {"completed"}
        assert {(await service.row(job)).attempt_count for job in jobs} == {1}

    in_a_loop(scenario)


def test_as_many_jobs_run_at_once_as_there_are_workers() -> None:
    async def scenario() -> None:
        service = Service(workers=3)
        entered, go = asyncio.Semaphore(0), asyncio.Event()

        async def meet(request: Any, context: AsyncContext) -> Any:
            entered.release()
            await go.wait()

        async with service.dispatcher.running(service.jobs, meet):
            jobs = [await service.create() for _ in range(4)]
            for _ in range(3):
                await entered.acquire()
            assert (await service.row(jobs[3])).status == "queued"
            go.set()
            await service.dispatcher.join()
        assert {(await service.row(job)).status for job in jobs} == {"completed"}

    in_a_loop(scenario)


def test_a_full_dispatcher_leaves_the_job_pending_and_its_caller_told_until_the_relay() -> None:
    async def scenario() -> None:
        service = Service(workers=1, limit=2)
        waiting = [await service.create() for _ in range(2)]
        refused = await service.create()
        assert [job.dispatch_pending for job in waiting] == [False, False]
        assert (refused.dispatch_pending, codes(refused)) == (True, [DISPATCH_DELAYED])
        async with service.dispatcher.running(service.jobs, done):
            await service.dispatcher.join()
            assert (await service.jobs.sweep()).relay.moved == 1
            await service.dispatcher.join()
        assert (await service.row(refused)).status == "completed"

    in_a_loop(scenario)


def test_a_task_that_waits_twice_runs_once_and_one_taken_back_never() -> None:
    async def scenario() -> None:
        service = Service()
        seen: list[str] = []

        async def handle(request: Any, context: AsyncContext) -> Any:
            seen.append(context.job.id)

        kept, cancelled = await service.create(), await service.create()
        await service.dispatcher.dispatch(kept.delivery, str(kept.task_name))
        await service.jobs.cancel(cancelled.id)
        async with service.dispatcher.running(service.jobs, handle):
            await service.dispatcher.join()
        assert seen == [kept.id]

    in_a_loop(scenario)


def test_an_early_delivery_waits_for_the_clock() -> None:
    async def scenario() -> None:
        service = Service()
        runs: list[float] = []

        async def handle(request: Any, context: AsyncContext) -> Any:
            runs.append(service.clock.now())

        async with service.dispatcher.running(service.jobs, handle):
            job = await service.others.for_organization(ORG).create(ENDPOINT, REQUEST, available_at=NOW + 10)
            await service.dispatcher.dispatch(job.delivery, "early")
            assert not await joins_at_once(service.dispatcher)
            assert (await service.row(job)).version == job.version
            service.clock.time = NOW + 10
            await service.dispatcher.wake()
            await service.dispatcher.join()
        assert runs == [NOW + 10]

    in_a_loop(scenario)


def test_a_delivery_finds_an_idle_worker_while_somebody_joins() -> None:
    async def scenario() -> None:
        service = Service(workers=2)
        held = Held()
        second = asyncio.Event()

        async def handle(request: Any, context: AsyncContext) -> Any:
            if context.job.id == first.id:
                return await held(request, context)
            second.set()
            return None

        first = await service.create()
        joiner = asyncio.create_task(service.dispatcher.join())
        await asyncio.sleep(0)
        async with service.dispatcher.running(service.jobs, handle):
            await held.entered.wait()
            assert not await joins_at_once(service.dispatcher)
            await service.create()
            try:
                await asyncio.wait_for(second.wait(), 2)
            finally:
                held.go.set()
            await joiner

    in_a_loop(scenario)


def test_what_runs_at_the_stop_is_told_and_may_finish() -> None:
    async def scenario() -> None:
        service = Service()
        held = Held()
        service.dispatcher.start(service.jobs, held)
        job = await service.create()
        await held.entered.wait()
        stopping = asyncio.create_task(service.dispatcher.stop(grace=SOON))
        assert not await joins_at_once(service.dispatcher)
        assert held.context is not None
        assert held.context.stopping
        held.go.set()
        await stopping
        assert (await service.row(job)).status == "completed"

    in_a_loop(scenario)


def test_what_does_not_finish_in_time_is_given_back_with_its_budget() -> None:
    async def scenario() -> None:
        service = Service()
        held = Held()
        service.dispatcher.start(service.jobs, held)
        job = await service.create()
        await held.entered.wait()
        await service.dispatcher.stop(grace=0)
        row = await service.row(job)
        assert (row.status, row.run, row.attempt_base, row.attempts_used) == ("queued", 2, 1, 0)
        assert row.dispatch_pending
        assert {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("jobstate-")} == set()

    in_a_loop(scenario)


def test_a_job_that_is_cancelled_while_the_dispatcher_stops_stays_cancelled() -> None:
    async def scenario() -> None:
        service = Service()
        held = Held()

        async def handle(request: Any, context: AsyncContext) -> Any:
            try:
                return await held(request, context)
            except asyncio.CancelledError:
                await service.others.cancel(context.job.id)
                raise

        service.dispatcher.start(service.jobs, handle)
        job = await service.create()
        await held.entered.wait()
        await service.dispatcher.stop(grace=0)
        assert (await service.row(job)).status == "cancelled"

    in_a_loop(scenario)


def test_nothing_is_accepted_after_the_stop() -> None:
    async def scenario() -> None:
        service = Service()
        service.dispatcher.start(service.jobs, done)
        await service.dispatcher.stop(grace=SOON)
        job = await service.create()
        assert (job.dispatch_pending, codes(job)) == (True, [DISPATCH_DELAYED])
        with pytest.raises(DispatchError, match="stopped"):
            await service.dispatcher.dispatch(job.delivery, "name")

    in_a_loop(scenario)


def test_what_waits_at_the_stop_is_not_begun() -> None:
    async def scenario() -> None:
        service = Service(workers=1)
        held = Held()
        service.dispatcher.start(service.jobs, held)
        await service.create()
        await held.entered.wait()
        waiting = await service.create()
        stopping = asyncio.create_task(service.dispatcher.stop(grace=SOON))
        assert not await joins_at_once(service.dispatcher)
        held.go.set()
        await stopping
        assert (await service.row(waiting)).attempt_count == 0

    in_a_loop(scenario)


def test_a_dispatcher_starts_once() -> None:
    async def scenario() -> None:
        service = Service()
        async with service.dispatcher.running(service.jobs, done):
            with pytest.raises(RuntimeError, match="make another one"):
                service.dispatcher.start(service.jobs, done)

    in_a_loop(scenario)


class PanicError(BaseException):
    """What an extension in another language raises when it panics."""


def raises(error: BaseException) -> None:
    raise error


def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()


@pytest.mark.parametrize(
    "end",
    [
        lambda: raises(asyncio.CancelledError()),
        lambda: raises(PanicError("index out of bounds")),
        lambda: raises(GeneratorExit()),
        lambda: raises(BaseExceptionGroup("several", [PanicError()])),
        cancels_itself,
    ],
    ids=["cancelled", "panics", "closed", "group", "cancels-itself"],
)
def test_whatever_ends_a_handler_ends_that_job_alone(end: Callable[[], None]) -> None:
    async def scenario() -> None:
        service = Service(workers=1)
        ends = [end]

        async def handle(request: Any, context: AsyncContext) -> Any:
            if ends:
                ends.pop()()
            await asyncio.sleep(0)
            return "done"

        async with service.dispatcher.running(service.jobs, handle):
            job = await service.create()
            await asyncio.wait_for(service.dispatcher.join(), 2)
        row = await service.row(job)
        assert (row.status, row.give_backs) == ("completed", 1)

    in_a_loop(scenario)


def test_who_cancels_the_task_of_a_handler_ends_that_job_alone() -> None:
    async def scenario() -> None:
        service = Service(workers=1)
        entered = asyncio.Queue[asyncio.Task[Any] | None]()

        async def handle(request: Any, context: AsyncContext) -> Any:
            entered.put_nowait(asyncio.current_task())
            await asyncio.Event().wait()

        async with service.dispatcher.running(service.jobs, handle, grace=0):
            jobs = [await service.create() for _ in range(2)]
            for job in jobs:
                task = await entered.get()
                assert task is not None
                await service.jobs.cancel(job.id)
                task.cancel()
            await asyncio.wait_for(service.dispatcher.join(), 2)
        assert {(await service.row(job)).status for job in jobs} == {"cancelled"}

    in_a_loop(scenario)


@pytest.mark.parametrize("stop", [SystemExit(3), KeyboardInterrupt()])
def test_a_handler_that_exits_leaves_the_loop_gives_its_job_back_and_takes_no_worker_along(stop: BaseException) -> None:
    with asyncio.Runner() as runner:
        service = Service(workers=1)
        stops = [stop]

        async def handle(request: Any, context: AsyncContext) -> Any:
            if stops:
                raise stops.pop()
            return "done"

        async def begin() -> Job:
            service.dispatcher.start(service.jobs, handle)
            return await service.create()

        job = runner.run(begin())
        with pytest.raises(type(stop)):
            runner.run(service.dispatcher.join())
        runner.run(asyncio.wait_for(service.dispatcher.join(), 2))
        row = runner.run(service.row(job))
        assert (row.status, row.give_backs) == ("completed", 1)
        runner.run(service.dispatcher.stop())


def test_what_breaks_a_handler_while_it_is_stopped_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Panic(BaseException):
        pass

    async def scenario() -> None:
        service = Service(workers=1)
        begun = asyncio.Event()

        async def handle(request: Any, context: AsyncContext) -> Any:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise Panic from None

        async with service.dispatcher.running(service.jobs, handle, grace=0):
            job = await service.create()
            await begun.wait()
        assert (await service.row(job)).status == "queued"

    in_a_loop(scenario)
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [Panic]


def test_a_job_whose_handler_swallows_its_cancellation_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "LEAST_GRACE", 0.001)

    async def scenario() -> None:
        service = Service(workers=1)
        contexts = asyncio.Queue[AsyncContext]()
        go = asyncio.Event()

        async def handle(request: Any, context: AsyncContext) -> Any:
            contexts.put_nowait(context)
            while not go.is_set():
                with suppress(asyncio.CancelledError):
                    await go.wait()
            return "late"

        async with service.dispatcher.running(service.jobs, handle, grace=0):
            job = await service.create()
            context = await contexts.get()
        row = await service.row(job)
        try:
            assert (row.status, row.give_backs, row.lease) == ("queued", 1, None)
            with pytest.raises(LeaseLostError):
                await context.heartbeat()
        finally:
            go.set()
        await service.dispatcher.join()
        assert await service.row(job) == row

    in_a_loop(scenario)
