"""Races of a dispatcher, with real threads or tasks that begin together: its last clause."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path
from typing import Any

from jobstate.model import Delivery
from jobstate.ports import AsyncDispatcher, Dispatcher
from jobstate.testing.contracts import dispatcher as contract
from jobstate.testing.contracts.clauses import Suite
from jobstate.testing.contracts.dispatcher import check_received, delivery
from jobstate.testing.contracts.race import PARTIES, ROUNDS, at_once, tasks_at_once

DELIVERIES = [delivery(number, run) for number in range(PARTIES) for run in range(1, ROUNDS + 1)]
"""What is dispatched in a race: each party has a job of its own."""


def _name(given: Delivery) -> str:
    return f"{given.job_id}-{given.run}"


def _of(party: int) -> list[Delivery]:
    return DELIVERIES[party * ROUNDS : (party + 1) * ROUNDS]


class DispatcherRaces(Suite):
    """D06: every method may be called by several threads at once. Give it what the contract is given."""

    def open_dispatcher(self, folder: Path) -> Dispatcher:
        """A new dispatcher, whose engine is empty."""
        raise NotImplementedError("open_dispatcher: the races need a dispatcher")

    def received(self, dispatcher: Any) -> list[Delivery]:
        """What has been received since the last call."""
        raise NotImplementedError("received: say what a worker has received")

    def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each race."""

    def test_D06_what_many_dispatch_at_once_is_delivered(self, tmp_path: Path) -> None:
        """While others, all the time, take back what was never given."""
        dispatcher, done = self.open_dispatcher(tmp_path), list[int]()
        try:

            def dispatch(party: int) -> None:
                try:
                    for given in _of(party):
                        assert dispatcher.dispatch(given, _name(given))
                finally:
                    done.append(party)

            def revoke() -> None:
                while len(done) < PARTIES:
                    dispatcher.revoke("never-seen")

            answers = at_once(*(partial(dispatch, party) for party in range(PARTIES)), revoke, revoke)
            assert answers == [None] * (PARTIES + 2), answers
            check_received(self._until_all_are_there(dispatcher), DELIVERIES)
        finally:
            self.close_dispatcher(dispatcher)

    def _until_all_are_there(self, dispatcher: Any) -> list[Delivery]:
        end, found = time.monotonic() + contract.DEADLINE, self.received(dispatcher)
        while not set(found) >= set(DELIVERIES) and time.monotonic() < end:
            time.sleep(0.01)
            found += self.received(dispatcher)
        return found


class AsyncDispatcherRaces(Suite):
    """D06 of the async twin: every method may be called by several tasks at once."""

    async def open_dispatcher(self, folder: Path) -> AsyncDispatcher:
        """A new dispatcher, whose engine is empty."""
        raise NotImplementedError("open_dispatcher: the races need a dispatcher")

    async def received(self, dispatcher: Any) -> list[Delivery]:
        """What has been received since the last call."""
        raise NotImplementedError("received: say what a worker has received")

    async def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each race."""

    def test_D06_what_many_dispatch_at_once_is_delivered(self, tmp_path: Path) -> None:
        """While others take back what was never given."""
        with asyncio.Runner() as runner:
            runner.run(self._race(tmp_path))

    async def _race(self, folder: Path) -> None:
        dispatcher = await self.open_dispatcher(folder)
        try:
            dispatches = [dispatcher.dispatch(given, _name(given)) for given in DELIVERIES]
            answers = await tasks_at_once(*dispatches, *(dispatcher.revoke(f"never-seen-{n}") for n in range(ROUNDS)))
            assert not [answer for answer in answers if isinstance(answer, Exception)], answers
            check_received(await self._until_all_are_there(dispatcher), DELIVERIES)
        finally:
            await self.close_dispatcher(dispatcher)

    async def _until_all_are_there(self, dispatcher: Any) -> list[Delivery]:
        end, found = time.monotonic() + contract.DEADLINE, await self.received(dispatcher)
        while not set(found) >= set(DELIVERIES) and time.monotonic() < end:
            await asyncio.sleep(0.01)
            found += await self.received(dispatcher)
        return found
