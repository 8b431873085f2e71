"""A state machine of the whole service: everybody who uses it, in any order, on ports that go wrong.

faults    ports that lose answers, conflict, fail, and write late
look      what a look at everything shows, and what callers were told
promises  what must hold after every step, each with a name
answers   whether what a caller is told is true
service   the service under test with its ports in hand
machine   the rules

    class MyMachine(JobsMachine):
        def open_repository(self): return MyRepository(...)

    TestMine = MyMachine.TestCase
"""

from __future__ import annotations

import asyncio
from typing import Any

from jobstate.memory import AsyncMemoryDispatcher, MemoryDispatcher
from jobstate.model import Delivery
from jobstate.ports import AsyncDispatcher, AsyncRepository, Dispatcher, Repository
from jobstate.testing.stateful.faults import Fault
from jobstate.testing.stateful.machine import Machine
from jobstate.testing.stateful.promises import PROMISES, BrokenPromiseError, Promise, Seen
from jobstate.testing.stateful.service import Service

__all__ = ["PROMISES", "AsyncJobsMachine", "BrokenPromiseError", "Fault", "JobsMachine", "Promise", "Seen"]


class JobsMachine(Machine):
    """A service on sync ports, with everybody who uses it. Subclass it, say what it runs on, and take its `TestCase`."""

    def open_repository(self) -> Repository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the machine needs a repository")

    def close_repository(self, repository: Any) -> None:
        """Let go of it, after each run."""

    def open_dispatcher(self) -> Dispatcher:
        """A new dispatcher, whose engine is empty and delivers to `received` only."""
        return MemoryDispatcher()

    def received(self, dispatcher: Any) -> list[Delivery]:
        """What a worker of its engine has received since the last call."""
        return list(iter(dispatcher.take, None))

    def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each run."""

    def _open(self) -> Service:
        self._repository, self._dispatcher = self.open_repository(), self.open_dispatcher()
        return Service(self._repository, self._dispatcher, self.policy, None)

    def _receive(self) -> list[Delivery]:
        return self.received(self._dispatcher)

    def _close(self) -> None:
        self.close_dispatcher(self._dispatcher)
        self.close_repository(self._repository)


class AsyncJobsMachine(Machine):
    """The same on async ports, in an event loop of its own."""

    async def open_repository(self) -> AsyncRepository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the machine needs a repository")

    async def close_repository(self, repository: Any) -> None:
        """Let go of it, after each run."""

    async def open_dispatcher(self) -> AsyncDispatcher:
        """A new dispatcher, whose engine is empty and delivers to `received` only."""
        return AsyncMemoryDispatcher()

    async def received(self, dispatcher: Any) -> list[Delivery]:
        """What a worker of its engine has received since the last call."""
        return list(iter(dispatcher.take, None))

    async def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each run."""

    def _open(self) -> Service:
        self._runner = asyncio.Runner()
        self._repository = self._runner.run(self.open_repository())
        self._dispatcher = self._runner.run(self.open_dispatcher())
        return Service(self._repository, self._dispatcher, self.policy, self._runner)

    def _receive(self) -> list[Delivery]:
        return self._runner.run(self.received(self._dispatcher))

    def _close(self) -> None:
        self._runner.run(self.close_dispatcher(self._dispatcher))
        self._runner.run(self.close_repository(self._repository))
        self._runner.close()
