"""Whether anybody sweeps: a worker looks now and then how long jobs have waited for it, and says so in the log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("jobstate.overdue")

LOOK_EVERY = 300.0
"""Seconds from the worker's start to its first look, and between two looks: a sweep that starts with it has time to."""

LATE = 600
"""Seconds that a job may wait before it is told."""


class Overdue:
    """When to look, and what to say."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + LOOK_EVERY

    def is_time(self) -> bool:
        """Whether to look now."""
        if self._clock() < self._next:
            return False
        self._next = self._clock() + LOOK_EVERY
        return True

    def tell(self, lag: int) -> None:
        """Warn, if jobs have waited too long."""
        if lag >= LATE:
            logger.warning(
                "jobs have waited %d s to be rescued or expired: is there a sweep? Call jobs.sweep() every minute, or "
                "`jobstate sweep` from a cron",
                lag,
            )
