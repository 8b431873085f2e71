"""How attempts ended, told together: the threads or tasks of a worker hand over what is to be told, and go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from threading import Lock

from jobstate.telling import AsyncEnded, AsyncEnding, Ended, Ending, async_tell_together, tell_together


class Endings:
    """What waits to be told: whoever hands something over while nobody tells, tells it, and all that comes meanwhile.

    `linger` is how many seconds he waits for others first.
    """

    def __init__(self, *, linger: float = 0.0) -> None:
        self._linger = linger
        self._lock = Lock()
        self._waiting: list[Ended] = []
        self._telling = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ending: Ending) -> None:
        """Hand over how an attempt ended."""
        ended = ending.attempt, ending.check()
        with self._lock:
            self._waiting.append(ended)
            leads, self._telling = not self._telling, True
        if leads:
            time.sleep(self._linger)
            self._tell_all()

    def tell(self) -> None:
        """Tell what waits, whoever else does."""
        with self._lock:
            batch, self._waiting = self._waiting, []
            self._telling = bool(batch)
        if batch:
            _ = tell_together(batch)

    def _tell_all(self) -> None:
        try:
            while self._telling:
                self.tell()
        except BaseException:
            self._telling = False
            raise


class AsyncEndings:
    """`Endings`, for the tasks of one event loop: a task of its own tells, and awaits `then` after each telling."""

    def __init__(self, then: Callable[[], Awaitable[None]]) -> None:
        self._then = then
        self._waiting: list[AsyncEnded] = []
        self._teller: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ending: AsyncEnding) -> None:
        """As `Endings.add`."""
        self._waiting.append((ending.attempt, ending.check()))
        if self._teller is None or self._teller.done():
            self._teller = asyncio.create_task(self._tell_all(), name="jobstate-endings")

    async def told(self, seconds: float) -> None:
        """Wait until all are told, for so many seconds at most."""
        if self._teller is not None and not self._teller.done():
            _ = await asyncio.wait([self._teller], timeout=seconds)

    async def _tell_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            _ = await async_tell_together(batch)
            await self._then()
