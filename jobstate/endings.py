"""How attempts ended, told together: the threads or tasks of a worker hand over what is to be told, and go on.

What was being told when its teller was interrupted waits again: the same words twice have one effect.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from threading import Lock

from jobstate.telling import AsyncEnded, Ended, async_tell_together, tell_together

logger = logging.getLogger("jobstate.worker")

_NOT_TOLD = "how %s attempts ended could not be told"


class Endings:
    """What waits to be told: whoever hands something over while nobody tells, tells it, and all that comes meanwhile.

    `linger` is how many seconds he waits for others first.
    """

    def __init__(self, *, linger: float = 0.0) -> None:
        self._linger = linger
        self._lock = Lock()
        self._turn = Lock()
        """Held while one tells."""
        self._waiting: list[Ended] = []
        self._telling = False

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ended: Ended) -> None:
        """Hand over how an attempt ended."""
        with self._lock:
            self._waiting.append(ended)
            leads = self._leads()
        if leads:
            time.sleep(self._linger)
            self.tell()

    def go_on(self) -> None:
        """Tell what waits, unless somebody does."""
        with self._lock:
            leads = self._leads()
        if leads:
            self.tell()

    def _leads(self) -> bool:
        leads = bool(self._waiting) and not self._telling
        self._telling |= leads
        return leads

    def tell(self) -> None:
        """Tell what waits until nothing does, after whoever is telling: when this returns, all are told."""
        with self._turn:
            while batch := self._next():
                self._tell(batch)

    def _tell(self, batch: list[Ended]) -> None:
        try:
            _ = tell_together(batch)
        except Exception:
            logger.exception(_NOT_TOLD, len(batch))
        except BaseException:
            with self._lock:
                self._waiting[:0] = batch
                self._telling = False
            raise

    def _next(self) -> list[Ended]:
        with self._lock:
            batch, self._waiting = self._waiting, []
            self._telling = bool(batch)
        return batch


class AsyncEndings:
    """`Endings`, for the tasks of one event loop: a task of its own tells, and awaits `then` after each telling."""

    def __init__(self, then: Callable[[], Awaitable[None]]) -> None:
        self._then = then
        self._waiting: list[AsyncEnded] = []
        self._teller: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, ended: AsyncEnded) -> None:
        """As `Endings.add`."""
        self._waiting.append(ended)
        self.go_on()

    def go_on(self) -> None:
        """As `Endings.go_on`."""
        if self._waiting and (self._teller is None or self._teller.done()):
            self._teller = asyncio.create_task(self._tell_all(), name="jobstate-endings")

    async def told(self, seconds: float) -> None:
        """Wait until all are told, for so many seconds at most."""
        self.go_on()
        if self._teller is not None and not self._teller.done():
            _, late = await asyncio.wait([self._teller], timeout=seconds)
            if late:
                logger.warning("how attempts ended is still being told after %s s; their leases will run out", seconds)

    async def _tell_all(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, []
            try:
                _ = await async_tell_together(batch)
            except Exception:
                logger.exception(_NOT_TOLD, len(batch))
            except BaseException:
                self._waiting[:0] = batch
                raise
            await self._then()
