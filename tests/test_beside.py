"""`run_job` beside an event loop: whoever stops waiting gives the job back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from threading import Event as Flag
from typing import Any

import pytest

from jobstate import Delivery, Job, Jobs, Policy
from jobstate.beside import run_job_in_thread
from jobstate.context import Context
from jobstate.memory import MemoryRepository
from jobstate.worker import RunFate

PATIENCE = 30.0


class Slow(MemoryRepository):
    """A save that waits, when it is told to, before it is made."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.go_on = Flag(), Flag()
        self.waits = False

    def save(self, transition: Any, *, within: Any = None) -> None:
        if self.waits:
            self.waits = False
            self.reached.set()
            assert self.go_on.wait(PATIENCE)
        super().save(transition, within=within)


@pytest.fixture
def repository() -> Slow:
    return Slow()


@pytest.fixture
def jobs(repository: Slow) -> Jobs:
    return Jobs(repository, policy=Policy(max_attempts=1))


@pytest.fixture
def delivery(jobs: Jobs) -> Delivery:
    return jobs.create("/x", {"a": 1}, organization_id="org").delivery


def look(jobs: Jobs, delivery: Delivery) -> Job:
    return jobs.retrieve(delivery.job_id, include_response=True)


async def told(flag: Flag) -> None:
    assert await asyncio.to_thread(flag.wait, PATIENCE)


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()

    asyncio.run(whole())


def test_the_answer_is_that_of_the_run_and_the_loop_goes_on_meanwhile(jobs: Jobs, delivery: Delivery) -> None:
    gate = Flag()

    async def main() -> None:
        def handler(request: Any, context: Context) -> Any:
            assert gate.wait(PATIENCE), "nobody else runs"
            return request

        task = asyncio.create_task(run_job_in_thread(jobs, delivery, handler))
        await asyncio.to_thread(gate.set)
        assert (await task).fate is RunFate.COMPLETED
        assert (await run_job_in_thread(jobs, delivery, handler)).fate is RunFate.DROPPED

    run(main)
    job = look(jobs, delivery)
    assert job.response is not None
    assert job.response.body == {"a": 1}


def test_who_is_cancelled_gives_the_job_back_and_the_handler_learns_it(jobs: Jobs, delivery: Delivery) -> None:
    began, gate, seen, ended = Flag(), Flag(), list[bool](), Flag()

    def handler(request: Any, context: Context) -> str:
        began.set()
        assert gate.wait(PATIENCE)
        seen.append(context.cancelled)
        ended.set()
        return "too late"

    async def main() -> None:
        task = asyncio.create_task(run_job_in_thread(jobs, delivery, handler))
        await told(began)
        await cancelled(task)
        job = look(jobs, delivery)
        assert (job.status, job.attempts_used, job.give_backs) == ("queued", 0, 1)
        gate.set()
        await told(ended)

    run(main)
    assert seen == [True]
    assert look(jobs, delivery).status == "queued"


def test_a_start_that_is_saved_while_nobody_waits_any_more_is_given_back(
    jobs: Jobs, delivery: Delivery, repository: Slow
) -> None:
    ran = list[Any]()

    async def main() -> None:
        repository.waits = True
        task = asyncio.create_task(run_job_in_thread(jobs, delivery, lambda request, context: ran.append(request)))
        await told(repository.reached)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=0.2)
        assert not done, "it waits for the start"
        repository.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        job = look(jobs, delivery)
        assert (job.status, job.attempts_used, job.give_backs) == ("queued", 0, 1)

    run(main)
    assert ran == []


def test_a_handler_that_exits_is_given_back_and_takes_no_loop_along(jobs: Jobs, delivery: Delivery) -> None:
    def handler(request: Any, context: Context) -> None:
        raise SystemExit(3)

    async def main() -> None:
        assert (await run_job_in_thread(jobs, delivery, handler)).fate is RunFate.GIVEN_BACK

    run(main)
    assert (look(jobs, delivery).status, look(jobs, delivery).give_backs) == ("queued", 1)


@pytest.mark.parametrize("retry_exceptions", [True, False])
def test_options_reach_the_run(jobs: Jobs, retry_exceptions: bool) -> None:
    delivery = jobs.create("/x", {}, organization_id="org", max_attempts=2).delivery

    def handler(request: Any, context: Context) -> None:
        raise ValueError("no")

    async def main() -> None:
        result = await run_job_in_thread(jobs, delivery, handler, retry_exceptions=retry_exceptions)
        assert result.fate is (RunFate.RELEASED if retry_exceptions else RunFate.FAILED)

    run(main)


def test_the_callers_context_goes_on_in_the_thread() -> None:
    """A trace, for example."""
    seen: list[str] = []
    trace: ContextVar[str] = ContextVar("trace")
    jobs = Jobs(MemoryRepository())
    job = jobs.create("/x", {}, organization_id="org")

    async def main() -> None:
        trace.set("of the caller")
        await run_job_in_thread(jobs, job.delivery, lambda _request, _context: seen.append(trace.get("none")))

    run(main)
    assert seen == ["of the caller"]
