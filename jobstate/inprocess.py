"""Dispatchers in the own process: `ThreadDispatcher`, `AsyncioDispatcher`. Bounded, and they stop in good order.

The embedded default, for one machine. What waits here is gone with the process: the row stays, and the relay dispatches it
again after `Policy.redispatch_after`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from heapq import heapify, heappop, heappush
from typing import Any, NamedTuple

from jobstate.context import AsyncContext, Context
from jobstate.crew import AsyncCrew, Crew
from jobstate.drivers import SystemClock
from jobstate.errors import DispatchError
from jobstate.model import Delivery
from jobstate.ports import Clock
from jobstate.service import AsyncJobs, Jobs
from jobstate.worker import AsyncHandler, Handler, RunFate, RunResult, async_run_job, check_handler, run_job

_AGAIN = 1
"""Seconds until a delivery whose start met an error is tried again."""

_AHEAD = 300
"""Seconds for which a delivery may wait for its time here. One further off is safer in its row, where the relay finds it."""


class _Item(NamedTuple):
    not_before: float
    order: int
    task_name: str
    delivery: Delivery
    delayed: bool


class _Waiting:
    """Deliveries that wait, by time and order: each run once. Not thread-safe.

    At most `limit` are taken from outside, and as many with a time of their own: these leave the others their room.
    """

    def __init__(self, limit: int, clock: Clock) -> None:
        if limit < 1:
            raise ValueError(f"limit: at least 1 delivery must be able to wait, not {limit}")
        self._limit = limit
        self._clock = clock
        self._items: list[_Item] = []
        self._names: dict[Delivery, str] = {}
        self._count = 0
        self._delayed = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, task_name: str, delivery: Delivery, not_before: int | None = None) -> str:
        """The name under which the delivery waits: of a run that waits already, the first one."""
        if delivery in self._names:
            return self._names[delivery]
        delayed = not_before is not None
        waiting = self._delayed if delayed else len(self._items) - self._delayed
        if waiting >= self._limit:
            raise DispatchError(f"{waiting} deliveries wait, the limit is {self._limit}: the relay will try again")
        if not_before is not None and not_before > self._clock.now() + _AHEAD:
            raise DispatchError(f"it is due in more than {_AHEAD} s: the relay will find it then")
        self._push(not_before or 0, task_name, delivery, delayed=delayed)
        return task_name

    def done(self, item: _Item, result: RunResult) -> None:
        """What was returned waits again."""
        if result.fate is RunFate.RETURNED and item.delivery not in self._names:
            not_before = self._clock.now() + _AGAIN if result.not_before is None else result.not_before
            self._push(not_before, item.task_name, item.delivery)

    def _push(self, not_before: float, task_name: str, delivery: Delivery, *, delayed: bool = False) -> None:
        self._count += 1
        self._delayed += delayed
        self._names[delivery] = task_name
        heappush(self._items, _Item(not_before, self._count, task_name, delivery, delayed))

    def remove(self, task_name: str) -> None:
        self._items = [item for item in self._items if item.task_name != task_name]
        self._names = {item.delivery: item.task_name for item in self._items}
        self._delayed = sum(item.delayed for item in self._items)
        heapify(self._items)

    def take(self) -> _Item | None:
        """The first that is due."""
        if not self._items or self._items[0].not_before > self._clock.now():
            return None
        item = heappop(self._items)
        self._delayed -= item.delayed
        del self._names[item.delivery]
        return item

    def is_idle(self) -> bool:
        """Whether nothing waits but for a time of its own that lies ahead."""
        now = self._clock.now()
        return all(item.delayed and item.not_before > now for item in self._items)

    def pause(self) -> float | None:
        """Seconds until the first is due, an hour at most; None when nothing waits."""
        return min(max(self._items[0].not_before - self._clock.now(), 0), 3600) if self._items else None


class ThreadDispatcher:
    """A `Dispatcher` that runs a handler on a bounded pool of threads.

    `workers` jobs run at once, `limit` deliveries wait; a further one is refused, and its job stays pending for the relay.
    Build it, build `Jobs` with it, then `start` it, or use `running` as a context manager.
    """

    transactional = False

    def __init__(self, *, workers: int = 4, limit: int = 1000, clock: Clock | None = None) -> None:
        self._waiting = _Waiting(limit, clock or SystemClock())
        self._crew = Crew(workers, self._waiting)

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`. Raises DispatchError when it is full or stopped."""
        with self._crew.changed:
            _check_open(self._crew.closed)
            name = self._waiting.add(task_name, delivery)
            self._crew.more.notify_all()
            self._crew.changed.notify_all()
        return name

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `DelayedDispatch.dispatch_at`. Raises DispatchError also when it is due in more than five minutes."""
        with self._crew.changed:
            _check_open(self._crew.closed)
            name = self._waiting.add(task_name, delivery, not_before)
            self._crew.more.notify_all()
            self._crew.changed.notify_all()
        return name

    def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`: what has not begun is dropped."""
        with self._crew.changed:
            self._waiting.remove(task_name)
            self._crew.more.notify_all()
            self._crew.changed.notify_all()

    def wake(self) -> None:
        """Look at the clock again: for a clock that was set by hand."""
        self._crew.notify()

    def start(self, jobs: Jobs, handler: Handler, *, retry_exceptions: bool = True) -> None:
        """Begin to run deliveries. Once. Raises TypeError for an async handler."""
        check_handler(handler)

        def run(item: _Item, note: Callable[[Context], None]) -> RunResult:
            return run_job(jobs, item.delivery, handler, retry_exceptions=retry_exceptions, on_start=note)

        self._crew.start(run)

    @contextmanager
    def running(self, jobs: Jobs, handler: Handler, *, grace: float = 10.0) -> Generator[None]:
        """Started inside, stopped behind."""
        self.start(jobs, handler)
        try:
            yield
        finally:
            self.stop(grace=grace)

    def join(self, timeout: float | None = None) -> bool:
        """Wait until nothing runs, and nothing waits or it was stopped; False when `timeout` seconds were not enough.

        A delivery that was given with a time is waited for once its time has come; one that its worker put back, always.
        """
        with self._crew.changed:
            return self._crew.changed.wait_for(self._is_idle, timeout)

    def _is_idle(self) -> bool:
        return not self._crew.busy and (self._crew.closed or self._waiting.is_idle())

    def stop(self, *, grace: float = 10.0) -> None:
        """Take nothing any more, let what runs finish for `grace` seconds, and give the rest back."""
        self._crew.stop(grace)


class AsyncioDispatcher:
    """An `AsyncDispatcher` that runs a handler in tasks of the running event loop; else as `ThreadDispatcher`."""

    transactional = False

    def __init__(self, *, workers: int = 100, limit: int = 10_000, clock: Clock | None = None) -> None:
        self._waiting = _Waiting(limit, clock or SystemClock())
        self._crew = AsyncCrew(workers, self._waiting)

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`. Raises DispatchError when it is full or stopped."""
        async with self._crew.changed:
            _check_open(self._crew.closed)
            name = self._waiting.add(task_name, delivery)
            self._crew.more.notify_all()
            self._crew.changed.notify_all()
        return name

    async def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `DelayedDispatch.dispatch_at`. Raises DispatchError also when it is due in more than five minutes."""
        async with self._crew.changed:
            _check_open(self._crew.closed)
            name = self._waiting.add(task_name, delivery, not_before)
            self._crew.more.notify_all()
            self._crew.changed.notify_all()
        return name

    async def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`: what has not begun is dropped."""
        async with self._crew.changed:
            self._waiting.remove(task_name)
            self._crew.more.notify_all()
            self._crew.changed.notify_all()

    async def wake(self) -> None:
        """Look at the clock again: for a clock that was set by hand."""
        await self._crew.notify()

    def start(self, jobs: AsyncJobs, handler: AsyncHandler, *, retry_exceptions: bool = True) -> None:
        """Begin to run deliveries, in the running loop. Once."""

        async def run(item: _Item, note: Callable[[AsyncContext], None]) -> RunResult:
            return await async_run_job(jobs, item.delivery, handler, retry_exceptions=retry_exceptions, on_start=note)

        self._crew.start(run)

    @asynccontextmanager
    async def running(self, jobs: AsyncJobs, handler: AsyncHandler, *, grace: float = 10.0) -> AsyncGenerator[None]:
        """Started inside, stopped behind."""
        self.start(jobs, handler)
        try:
            yield
        finally:
            await self.stop(grace=grace)

    async def join(self) -> None:
        """Wait until nothing runs, and nothing waits or it was stopped. Deliveries with a time: as `ThreadDispatcher.join`."""
        async with self._crew.changed:
            await self._crew.changed.wait_for(self._is_idle)

    def _is_idle(self) -> bool:
        return not self._crew.busy and (self._crew.closed or self._waiting.is_idle())

    async def stop(self, *, grace: float = 10.0) -> None:
        """Take nothing any more, let what runs finish for `grace` seconds, and give the rest back."""
        await self._crew.stop(grace)


def _check_open(closed: bool) -> None:
    if closed:
        raise DispatchError("the dispatcher was stopped: it takes nothing any more")
