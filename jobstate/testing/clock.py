"""A clock that stands still until it is moved."""

from __future__ import annotations

from datetime import timedelta


class ManualClock:
    """A `Clock` that is set by hand. Thread-safe.

    Attributes:
        time: Unix seconds.
    """

    def __init__(self, time: float = 1_700_000_000) -> None:
        self.time = time

    def now(self) -> float:
        """As `Clock.now`."""
        return self.time

    def advance(self, step: timedelta | float) -> None:
        """Move on, or back, by a duration or by seconds."""
        self.time += step.total_seconds() if isinstance(step, timedelta) else step
