"""What tells the time."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Tells the time.

    C01 `now` answers Unix seconds, UTC, with fractions. It may step back or differ between machines within
        `Policy.clock_skew`; that may delay a transition and breaks no rule.
    """

    def now(self) -> float:
        """Unix seconds. C01."""
        ...


class AsyncClock(Protocol):
    """`Clock`, awaited: for a clock that lives elsewhere, such as a database server's."""

    async def now(self) -> float:
        """As `Clock.now`."""
        ...
