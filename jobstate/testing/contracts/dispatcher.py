"""The contract of a dispatcher: a case for each clause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jobstate.drivers import Ports
from jobstate.effects import Dispatch, Flow, Insert, Load, Now, Revoke, SaveAndDispatch
from jobstate.errors import JobNotFoundError, StaleJobError
from jobstate.extra import needs_extra
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.memory import AsyncMemoryArtifactStore, AsyncMemoryRepository, MemoryArtifactStore, MemoryRepository
from jobstate.model import Delivery, evolve
from jobstate.ports import AsyncDispatcher, AsyncRepository, Dispatcher, Repository
from jobstate.testing.contracts.clauses import Async, Capability, Contract, Hook, Sync, clause, clock
from jobstate.testing.contracts.samples import IDS, example, insert, refused, transition

with needs_extra("testing"):
    import pytest

DEADLINE = 30.0
"""Seconds after which what has not arrived is lost."""

DELAY = 2
"""Seconds from now, a whole second, for which a delivery is delayed."""

EARLY = 0.5
"""Seconds by which a delivery may come early on one machine, whose parts round and measure time in different ways."""


def delivery(number: int = 0, run: int = 1) -> Delivery:
    """A delivery of a run."""
    return Delivery(job_id=IDS[number], run=run)


def _task_name(number: int) -> str:
    """The name of a task as the library makes them, of a run so late that it is a long one."""
    return f"{IDS[0]}-1000000-{number}"


def check_received(received: Iterable[Delivery], expected: Iterable[Delivery]) -> None:
    """All that is expected was delivered at least once, and nothing else was."""
    found, wanted = set(received), set(expected)
    lost, strange = wanted - found, found - wanted
    assert not lost, f"taken, and not delivered within {DEADLINE} s: {sorted(map(str, lost))}"
    assert not strange, f"delivered, and never dispatched: {sorted(map(str, strange))}"


def arrived(*expected: Delivery) -> Flow[None]:
    """All of these have been delivered at least once, and nothing else has."""
    check_received((yield from Hook("_received_until", (set(expected).issubset,))), expected)


class _UndoneError(Exception):
    """Ends a transaction in which a delivery was taken."""


def rolled_back(saved: Accepted, given: Delivery, task_name: str, not_before: int | None = None) -> Flow[None]:
    """A save whose transaction takes a delivery, and is then rolled back."""
    yield from Hook("_rolled_back", (saved, given, task_name, not_before))


class DispatcherCases(Contract):
    """A case for each clause."""

    @clause("D01")
    def test_D01_what_is_taken_is_delivered(self) -> Flow[None]:
        """Each job and each run, as they were given."""
        given = [delivery(number, run) for number in range(3) for run in (1, 2, 700)]
        for number, each in enumerate(given):
            yield from Dispatch(each, f"{each.job_id}-{each.run}-{number}")
        yield from arrived(*given)

    @clause("D02")
    def test_D02_a_dispatch_answers_a_name(self) -> Flow[None]:
        name = yield from Dispatch(delivery(), "task-1")
        assert isinstance(name, str), f"a name is text, not {name!r}"
        assert 0 < len(name) <= 255, f"a name has 1 to 255 characters, not {len(name)}"
        yield from arrived(delivery())

    @clause("D03")
    def test_D03_another_name_for_the_same_run_is_delivered(self) -> Flow[None]:
        """A redispatch: the first delivery waits, or was taken out and lost. The names differ at their end only."""
        names: set[str] = set()
        for number in (1, 10):
            names.add((yield from Dispatch(delivery(), _task_name(number))))

        def one_for_each_name(received: list[Delivery]) -> bool:
            return len(received) >= len(names)

        found: list[Delivery] = yield from Hook("_received_until", (one_for_each_name,))
        check_received(found, [delivery()])
        assert one_for_each_name(found), f"{len(names)} names for one run were answered, and {len(found)} was delivered"
        yield from Hook("_forget")
        yield from Dispatch(delivery(), _task_name(2))
        yield from arrived(delivery())

    @clause("D04")
    def test_D04_a_revoke_says_nothing(self) -> Flow[None]:
        """And takes back no other task. Its own may come all the same."""
        yield from Revoke("never-seen")
        names: list[str] = []
        for number, task in enumerate((1, 10, 2)):
            names += [(yield from Dispatch(delivery(number), _task_name(task)))]
        yield from Revoke(names[0])
        others = {delivery(1), delivery(2)}
        found = yield from Hook("_received_until", (others.issubset,))
        check_received({*found} - {delivery()}, others)
        for name in names:
            yield from Revoke(name)

    @clause("D05", Capability.TRANSACTION)
    def test_D05_a_delivery_goes_with_its_transaction(self) -> Flow[None]:
        """Committed: delivered. Refused or rolled back: not."""
        job, other = example(0), example(1, version=5)
        assert (yield from Insert(job, creation_record(job), "task-1")) is None
        assert (yield from insert(other)) is None
        stale = transition(evolve(other, {"version": 4}))
        yield from refused(SaveAndDispatch(stale, delivery(1, 8), "task-2"), StaleJobError)
        saved = transition(job)
        yield from rolled_back(saved, delivery(0, 7), "task-undone")
        yield from SaveAndDispatch(saved, delivery(0, 9), "task-3")
        yield from arrived(job.delivery, delivery(0, 9))
        yield from refused(Load(IDS[2]), JobNotFoundError)

    @clause("L01", Capability.DELAY)
    def test_L01_a_delayed_delivery_comes_not_before_its_time(self) -> Flow[None]:
        """By the clock of this machine: an engine on another one has to be set by the same time."""
        due = (yield from Now()) + DELAY
        yield from Dispatch(delivery(), "task-1", due)
        yield from arrived(delivery())
        early = due - time.time()
        assert early < EARLY, f"it came {early:.1f} s before its time"

    @clause("L02", Capability.DELAY)
    def test_L02_a_delayed_delivery_comes(self) -> Flow[None]:
        """Each run, also when its time is past; with a name, and once more after it came."""
        now = yield from Now()
        given = [delivery(number, run) for number in range(2) for run in (1, 2)]
        for number, each in enumerate(given):
            name = yield from Dispatch(each, f"task-{number}", now + number - 2)
            assert 0 < len(name) <= 255, f"a name has 1 to 255 characters, not {len(name)}"
        yield from arrived(*given)
        yield from Hook("_forget")
        yield from Dispatch(given[0], "task-again", (yield from Now()) + 1)
        yield from arrived(given[0])

    @clause("L03", Capability.TRANSACTION, Capability.DELAY)
    def test_L03_a_delayed_delivery_goes_with_its_transaction(self) -> Flow[None]:
        """Committed: delivered, in its time. Refused or rolled back: not."""
        due = (yield from Now()) + DELAY
        job, other = example(0), example(1, version=5)
        assert (yield from Insert(job, creation_record(job), "task-1", due)) is None
        assert (yield from insert(other)) is None
        stale = transition(evolve(other, {"version": 4}))
        yield from refused(SaveAndDispatch(stale, delivery(1, 8), "task-2", due - DELAY), StaleJobError)
        saved = transition(job)
        yield from rolled_back(saved, delivery(0, 7), "task-undone", due - DELAY)
        yield from SaveAndDispatch(saved, delivery(0, 9), "task-3", due)
        yield from arrived(job.delivery, delivery(0, 9))
        early = due - time.time()
        assert early < EARLY, f"they came {early:.1f} s before their time"


class DispatcherContract(Sync, DispatcherCases):
    """The contract of a `Dispatcher`.

    `received` answers all deliveries that a worker of this engine has received so far, also those of redispatches, and is asked
    until they are there or `DEADLINE` has passed. A transactional dispatcher's repository is opened by `open_repository`.
    """

    def open_dispatcher(self, folder: Path) -> Dispatcher:
        """A new dispatcher, whose engine is empty."""
        raise NotImplementedError("open_dispatcher: the contract needs a dispatcher to hold to it")

    def open_repository(self, folder: Path) -> Repository:
        """The repository whose transactions a transactional dispatcher writes in."""
        return MemoryRepository()

    def received(self, dispatcher: Any) -> list[Delivery]:
        """What has been received since the last call."""
        raise NotImplementedError("received: say what a worker has received")

    def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each case."""

    def open_ports(self, folder: Path) -> Ports:
        """As `Sync.open_ports`."""
        self._received: list[Delivery] = []
        return Ports(self.open_repository(folder), self.open_dispatcher(folder), MemoryArtifactStore(), clock())

    def close_ports(self, ports: Ports) -> None:
        """As `Sync.close_ports`."""
        self.close_dispatcher(ports.dispatcher)

    def _received_until(self, ports: Ports, enough: Callable[[list[Delivery]], bool]) -> list[Delivery]:
        end = time.monotonic() + DEADLINE
        while True:
            self._received += self.received(ports.dispatcher)
            if enough(self._received) or time.monotonic() > end:
                return self._received
            time.sleep(0.01)

    def _forget(self, ports: Ports) -> None:
        self._received = []

    def _rolled_back(self, ports: Ports, saved: Accepted, given: Delivery, task_name: str, not_before: int | None) -> None:
        def take_and_fail(transaction: Any) -> None:
            ports.dispatch(given, task_name, not_before, transaction=transaction)
            raise _UndoneError

        with pytest.raises(_UndoneError):
            ports.repository.save(saved, within=take_and_fail)


class AsyncDispatcherContract(Async, DispatcherCases):
    """The contract of an `AsyncDispatcher`: the same, awaited."""

    async def open_dispatcher(self, folder: Path) -> AsyncDispatcher:
        """A new dispatcher, whose engine is empty."""
        raise NotImplementedError("open_dispatcher: the contract needs a dispatcher to hold to it")

    async def open_repository(self, folder: Path) -> AsyncRepository:
        """The repository whose transactions a transactional dispatcher writes in."""
        return AsyncMemoryRepository()

    async def received(self, dispatcher: Any) -> list[Delivery]:
        """What has been received since the last call."""
        raise NotImplementedError("received: say what a worker has received")

    async def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each case."""

    async def open_ports(self, folder: Path) -> Ports:
        """As `Async.open_ports`."""
        self._received: list[Delivery] = []
        return Ports(
            await self.open_repository(folder), await self.open_dispatcher(folder), AsyncMemoryArtifactStore(), clock()
        )

    async def close_ports(self, ports: Ports) -> None:
        """As `Async.close_ports`."""
        await self.close_dispatcher(ports.dispatcher)

    async def _received_until(self, ports: Ports, enough: Callable[[list[Delivery]], bool]) -> list[Delivery]:
        end = time.monotonic() + DEADLINE
        while True:
            self._received += await self.received(ports.dispatcher)
            if enough(self._received) or time.monotonic() > end:
                return self._received
            await asyncio.sleep(0.01)

    async def _forget(self, ports: Ports) -> None:
        self._received = []

    async def _rolled_back(
        self, ports: Ports, saved: Accepted, given: Delivery, task_name: str, not_before: int | None
    ) -> None:
        async def take_and_fail(transaction: Any) -> None:
            await ports.dispatch(given, task_name, not_before, transaction=transaction)
            raise _UndoneError

        with pytest.raises(_UndoneError):
            await ports.repository.save(saved, within=take_and_fail)
