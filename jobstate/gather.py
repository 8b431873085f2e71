"""Group commit: saves that are made at once, by several threads or tasks, are sent to the repository as one.

While one batch is on its way, the next one gathers. Each caller is told what became of its own save, as if it had been alone:
`save_many` compares each with its own version, and answers for each.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from threading import Lock
from typing import Any

from jobstate.errors import OutcomeUnknownError
from jobstate.lifecycle import Accepted

MOST = 500
"""Saves in one batch."""


class _Ask:
    """A save that waits for its turn, and then for its answer."""

    __slots__ = ("answer", "done", "transition", "turn")

    def __init__(self, transition: Accepted) -> None:
        self.transition = transition
        self.done = False
        self.answer: Exception | None = None
        self.turn = Lock()
        """Held while it waits."""

    def tell(self, answer: Exception | None) -> None:
        """What became of it."""
        self.answer = answer
        self.done = True
        self.wake()

    def wake(self) -> None:
        """It waits no longer."""
        if self.turn.locked():
            self.turn.release()


def _next_batch(waiting: list[_Ask]) -> list[_Ask]:
    """Take the first of each job out of what waits: two saves of one job follow one another."""
    batch: dict[str, _Ask] = {}
    rest: list[_Ask] = []
    for ask in waiting:
        if ask.transition.job_id in batch or len(batch) == MOST:
            rest.append(ask)
        else:
            batch[ask.transition.job_id] = ask
    waiting[:] = rest
    return list(batch.values())


def _tell(batch: Sequence[_Ask], answers: Sequence[Exception | None]) -> None:
    for ask, answer in zip(batch, answers, strict=True):
        ask.tell(answer)


def _broken_off(batch: Sequence[_Ask], error: BaseException) -> list[Exception | None]:
    """The answers when who was sending was interrupted: nobody knows."""
    return [OutcomeUnknownError(ask.transition.job_id, f"the save was broken off: {error!r}") for ask in batch]


class Gatherer:
    """Gathers the saves of threads: who finds nobody sending sends for all who wait, and leaves the rest to one of those.

    `linger` is how many seconds he waits for others first: worth it where many are about to come.
    """

    def __init__(self, repository: Any, *, linger: float = 0.0) -> None:
        self._repository = repository
        self._linger = linger
        self._lock = Lock()
        self._waiting: list[_Ask] = []
        self._sending = False

    def save(self, transition: Accepted) -> None:
        """As `Repository.save`."""
        ask = _Ask(transition)
        if self._is_held_up(ask):
            self._wait(ask)
        if not ask.done:
            self._lead(ask)
        if ask.answer is not None:
            raise ask.answer

    def _is_held_up(self, ask: _Ask) -> bool:
        """Join those who wait; whether somebody is sending."""
        with self._lock:
            self._waiting.append(ask)
            held_up, self._sending = self._sending, True
            if held_up:
                _ = ask.turn.acquire()
            return held_up

    def _wait(self, ask: _Ask) -> None:
        """Until it is answered, or it is its turn to send."""
        try:
            _ = ask.turn.acquire()
        except BaseException:  # an interrupt, in the main thread
            self._leave(ask, leads=not ask.done and not ask.turn.locked())
            raise

    def _lead(self, ask: _Ask) -> None:
        """Send until it is answered."""
        try:
            while not ask.done:
                self._send()
        finally:
            self._leave(ask, leads=True)

    def _leave(self, ask: _Ask, *, leads: bool) -> None:
        """Wait no longer, answered or not; who leads gives the next one its turn, if any waits."""
        with self._lock:
            if ask in self._waiting:
                self._waiting.remove(ask)
            if leads:
                self._sending = bool(self._waiting)
                if self._waiting:
                    self._waiting[0].wake()

    def _send(self) -> None:
        if self._linger:
            time.sleep(self._linger)
        with self._lock:
            batch = _next_batch(self._waiting)
        answers: Sequence[Exception | None] = ()
        try:
            answers = self._answers([ask.transition for ask in batch])
        except Exception as error:
            answers = [error] * len(batch)
        except BaseException as error:
            answers = _broken_off(batch, error)
            raise
        finally:
            _tell(batch, answers)

    def _answers(self, transitions: Sequence[Accepted]) -> Sequence[Exception | None]:
        if len(transitions) > 1:
            return list(self._repository.save_many(transitions))
        self._repository.save(transitions[0])
        return [None]


class AsyncGatherer:
    """`Gatherer`, awaited: for the tasks of one event loop."""

    def __init__(self, repository: Any, *, linger: float = 0.0) -> None:
        self._repository = repository
        self._linger = linger
        self._waiting: list[_Ask] = []
        self._told = asyncio.Condition()
        self._sender: asyncio.Task[None] | None = None

    async def save(self, transition: Accepted) -> None:
        """As `AsyncRepository.save`. Who is cancelled meanwhile does not know whether it was done."""
        ask = _Ask(transition)
        self._waiting.append(ask)
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all(), name="jobstate-gather")
        async with self._told:
            _ = await self._told.wait_for(lambda: ask.done)
        if ask.answer is not None:
            raise ask.answer

    async def _send_all(self) -> None:
        while self._waiting:
            if self._linger:
                await asyncio.sleep(self._linger)
            batch = _next_batch(self._waiting)
            answers: Sequence[Exception | None] = ()
            try:
                answers = await self._answers([ask.transition for ask in batch])
            except Exception as error:
                answers = [error] * len(batch)
            except BaseException as error:
                answers = _broken_off(batch, error)
                raise
            finally:
                _tell(batch, answers)
                async with self._told:
                    self._told.notify_all()

    async def _answers(self, transitions: Sequence[Accepted]) -> Sequence[Exception | None]:
        if len(transitions) > 1:
            return list(await self._repository.save_many(transitions))
        await self._repository.save(transitions[0])
        return [None]
