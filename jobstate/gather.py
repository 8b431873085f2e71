"""Group commit: saves that are made at once, by several threads or tasks, are sent to the repository as one.

While one batch is on its way, the next one gathers. Each caller is told what became of its own save, as if it had been alone:
`save_many` compares each with its own version, and answers for each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Condition
from typing import Any

from jobstate.errors import OutcomeUnknownError
from jobstate.lifecycle import Accepted

MOST = 500
"""Saves in one batch."""


class _Ask:
    """A save that waits for its turn, and then for its answer."""

    __slots__ = ("answer", "done", "transition")

    def __init__(self, transition: Accepted) -> None:
        self.transition = transition
        self.done = False
        self.answer: Exception | None = None

    def tell(self, answer: Exception | None) -> None:
        """What became of it."""
        self.answer = answer
        self.done = True


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
    """Gathers the saves of threads: who finds nobody sending sends for all who wait."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository
        self._changed = Condition()
        self._waiting: list[_Ask] = []
        self._sending = False

    def save(self, transition: Accepted) -> None:
        """As `Repository.save`."""
        ask = _Ask(transition)
        with self._changed:
            self._waiting.append(ask)
        while not ask.done:
            if batch := self._turn(ask):
                self._send(batch)
        if ask.answer is not None:
            raise ask.answer

    def _turn(self, ask: _Ask) -> list[_Ask]:
        """What to send now; nothing when another has sent this one meanwhile."""
        with self._changed:
            _ = self._changed.wait_for(lambda: ask.done or not self._sending)
            if ask.done:
                return []
            self._sending = True
            return _next_batch(self._waiting)

    def _send(self, batch: Sequence[_Ask]) -> None:
        answers: Sequence[Exception | None] = ()
        try:
            answers = self._answers([ask.transition for ask in batch])
        except Exception as error:
            answers = [error] * len(batch)
        except BaseException as error:
            answers = _broken_off(batch, error)
            raise
        finally:
            with self._changed:
                _tell(batch, answers)
                self._sending = False
                self._changed.notify_all()

    def _answers(self, transitions: Sequence[Accepted]) -> Sequence[Exception | None]:
        if len(transitions) > 1:
            return list(self._repository.save_many(transitions))
        self._repository.save(transitions[0])
        return [None]


class AsyncGatherer:
    """`Gatherer`, awaited: for the tasks of one event loop."""

    def __init__(self, repository: Any) -> None:
        self._repository = repository
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
