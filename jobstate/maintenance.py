"""Sweeps again and again, until it is stopped: `run_maintenance`, `async_run_maintenance`.

Any number may run at once, on any machines: a sweep is safe anywhere. Whatever goes wrong is told, and survived.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Event, Thread
from typing import Protocol

from jobstate.flows.sweeps import SweepError, Swept
from jobstate.service import AsyncJobs, Jobs

logger = logging.getLogger("jobstate.maintenance")

OnError = Callable[[Exception], object]

CAP = 300.0
"""Seconds to which the pause grows, from `every` on, while one sweep after another fails."""

_LEAST = 0.1
"""The least share of `every` between two sweeps, however long one takes: nobody asks the database without a break."""


class Stop(Protocol):
    """What `run_maintenance` needs of a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait so many seconds at most; whether to stop."""
        ...


@dataclass(slots=True)
class Pace:
    """When the next sweep begins: `every` seconds behind the beginning of the last, give or take the jitter's share."""

    every: float
    jitter: float
    chance: Callable[[], float] = random.random
    failures: int = 0

    def __post_init__(self) -> None:
        if not self.every > 0:
            raise ValueError(f"every: more than 0 seconds are needed, not {self.every}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter: a share from 0 to 1 is needed, not {self.jitter}")

    def first(self) -> float:
        """Seconds until the first sweep: machines that start together do not sweep together."""
        return self.every * self.jitter * self.chance()

    def pause(self, took: float, *, failed: bool) -> float:
        """Seconds from the end of a sweep that took so many until the next; twice as long for each failure in a row."""
        self.failures = min(self.failures + 1, 32) if failed else 0
        every = min(self.every * 2.0**self.failures, max(self.every, CAP))
        return max(every * (1 + self.jitter * (2 * self.chance() - 1)) - took, self.every * _LEAST)


def run_maintenance(
    jobs: Jobs,
    every: timedelta | float = 60.0,
    *,
    stop: Stop | None = None,
    jitter: float = 0.1,
    on_error: OnError | None = None,
    sweepers: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Call `jobs.sweep()` every so many seconds (from start to start) until `stop` is set; without `stop`, for ever.

    A sweep that raises is logged and given to `on_error`, and the pause doubles with each that fails in a row, up to five
    minutes. With several `sweepers`, each sweeps in a thread of its own: they share the work where the repository lets them.
    Raises ValueError for arguments that are out of range.
    """
    if sweepers < 1:
        raise ValueError(f"sweepers: at least 1 is needed, not {sweepers}")
    paces = [Pace(_seconds(every), jitter) for _ in range(sweepers)]
    until: Stop = Event() if stop is None else stop
    over = Event()
    threads = [
        Thread(target=_keep_sweeping, args=(jobs, pace, _Either(until, over), on_error, clock), daemon=True)
        for pace in paces[1:]
    ]
    for thread in threads:
        thread.start()
    try:
        _keep_sweeping(jobs, paces[0], until, on_error, clock)
    finally:
        over.set()
        for thread in threads:
            thread.join()


class _Either:
    """Set when the host's event is, or when the first sweeper is over."""

    def __init__(self, until: Stop, over: Event) -> None:
        self._until = until
        self._over = over

    def is_set(self) -> bool:
        return self._until.is_set() or self._over.is_set()

    def wait(self, timeout: float) -> bool:
        return self._over.wait(timeout) or self._until.is_set()


def _keep_sweeping(jobs: Jobs, pace: Pace, stop: Stop, on_error: OnError | None, clock: Callable[[], float]) -> None:
    pause = pace.first()
    while not stop.is_set() and not stop.wait(pause):
        began, failed = clock(), False
        try:
            _look_at(jobs.sweep()._asdict())
        except Exception as error:
            failed = True
            _tell(error, on_error)
        pause = pace.pause(clock() - began, failed=failed)


async def async_run_maintenance(
    jobs: AsyncJobs,
    every: timedelta | float = 60.0,
    *,
    stop: asyncio.Event | None = None,
    jitter: float = 0.1,
    on_error: OnError | None = None,
    sweepers: int = 1,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """`run_maintenance`, awaited, its sweepers tasks; a cancelled task ends where it stands. `on_error` is a plain function."""
    if sweepers < 1:
        raise ValueError(f"sweepers: at least 1 is needed, not {sweepers}")
    paces = [Pace(_seconds(every), jitter) for _ in range(sweepers)]
    until = asyncio.Event() if stop is None else stop
    async with asyncio.TaskGroup() as group:
        for pace in paces:
            group.create_task(_keep_sweeping_async(jobs, pace, until, on_error, clock))


async def _keep_sweeping_async(
    jobs: AsyncJobs, pace: Pace, stop: asyncio.Event, on_error: OnError | None, clock: Callable[[], float]
) -> None:
    pause = pace.first()
    while not stop.is_set() and not await _wait(stop, pause):
        began, failed = clock(), False
        try:
            _look_at((await jobs.sweep())._asdict())
        except Exception as error:
            failed = True
            _tell(error, on_error)
        pause = pace.pause(clock() - began, failed=failed)


async def _wait(stop: asyncio.Event, pause: float) -> bool:
    try:
        await asyncio.wait_for(stop.wait(), pause)
    except TimeoutError:
        return False
    return True


def _seconds(every: timedelta | float) -> float:
    return every.total_seconds() if isinstance(every, timedelta) else float(every)


def _look_at(made: Mapping[str, Swept]) -> None:
    """Say what the sweeps that were made could not do."""
    for name, swept in made.items():
        if swept.failed or swept.unreadable:
            rows = ", ".join(swept.unreadable) or "none"
            logger.warning("sweep %s: %d rows met an error of a port; unreadable rows: %s", name, swept.failed, rows)


def _tell(error: Exception, on_error: OnError | None) -> None:
    if isinstance(error, SweepError):
        _look_at(error.made)
    logger.error("a sweep was not made to its end; the next one goes on", exc_info=error)
    if on_error is not None:
        try:
            on_error(error)
        except Exception:
            logger.exception("on_error raised")
