"""What a worker waits on when there is no job: for a repository that can tell of new ones, and for one that cannot."""

from __future__ import annotations

import asyncio
import time

PAUSE = 0.02
"""Seconds for which one notice stands: what is queued so soon after it needs none of its own."""


class Pace:
    """Lets one notice through in each `PAUSE`."""

    def __init__(self) -> None:
        self._next = 0.0

    def lets_through(self) -> bool:
        """Whether a notice is due; of two threads at once both may be told so."""
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + PAUSE
        return True


class Polling:
    """A `Listener` that hears nothing: the time passes."""

    def wait(self, seconds: float) -> bool:
        """As `Listener.wait`."""
        time.sleep(seconds)
        return False

    def close(self) -> None:
        """As `Listener.close`."""


class AsyncPolling:
    """`Polling`, awaited."""

    async def wait(self, seconds: float) -> bool:
        """As `Listener.wait`."""
        await asyncio.sleep(seconds)
        return False

    async def close(self) -> None:
        """As `Listener.close`."""
