"""A sync dispatcher, awaited."""

from __future__ import annotations

import asyncio
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest

from jobstate import AsyncJobs, Delivery
from jobstate.in_threads import InThreads
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher
from jobstate.testing.contracts import AsyncDispatcherContract, AsyncDispatcherRaces, Capability

DELIVERY = Delivery(job_id="job_" + "0" * 21, run=1)


class Opens:
    async def open_dispatcher(self, folder: Path) -> InThreads:
        self.dispatcher = MemoryDispatcher()
        return InThreads(self.dispatcher)

    async def received(self, dispatcher: Any) -> list[Delivery]:
        return [taken for _ in range(len(self.dispatcher)) if (taken := self.dispatcher.take()) is not None]


class TestInThreads(Opens, AsyncDispatcherContract):
    lacks = {Capability.TRANSACTION: "a dispatcher that has this is refused", Capability.DELAY: "the one in memory has none"}


class TestInThreadsRaces(Opens, AsyncDispatcherRaces):
    pass


class Delaying(MemoryDispatcher):
    """It can delay, or so it says; and its engine takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.ready = Flag()

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        assert self.ready.wait(30)
        return super().dispatch(delivery, task_name)

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        return f"{task_name} at {not_before}"


def test_a_dispatcher_that_writes_in_a_transaction_is_refused() -> None:
    class Outbox(MemoryDispatcher):
        transactional = True

    with pytest.raises(ValueError, match="Outbox writes in a transaction"):
        InThreads(Outbox())


def test_it_can_delay_if_the_dispatcher_can() -> None:
    assert not hasattr(InThreads(MemoryDispatcher()), "dispatch_at")

    async def main() -> str:
        return await InThreads(Delaying()).dispatch_at(DELIVERY, "name", 17)

    assert asyncio.run(main()) == "name at 17"


def test_the_event_loop_goes_on_while_the_engine_takes_its_time() -> None:
    async def main() -> None:
        dispatcher = Delaying()
        jobs = AsyncJobs(AsyncMemoryRepository(), InThreads(dispatcher))
        creating = asyncio.create_task(jobs.create("/x", {}, organization_id="org"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not creating.done()
        dispatcher.ready.set()
        assert not (await creating).dispatch_pending

    asyncio.run(main())
