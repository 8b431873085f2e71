"""Crews of workers, threads or tasks, that run what a source has; told to stop, they give back what is not done in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from threading import Condition, RLock, Thread
from typing import Generic, Protocol, TypeVar

from jobstate.context import AsyncContext, Context
from jobstate.telling import RunFate, RunResult, async_give_back, give_back

logger = logging.getLogger("jobstate.crew")

T = TypeVar("T")
Run = Callable[[T, Callable[[Context], None]], RunResult]
"""Runs one to its end; is given what to call with its context when it has begun."""
AsyncRun = Callable[[T, Callable[[AsyncContext], None]], Awaitable[RunResult]]

LEAST_GRACE = 1.0
"""Seconds that a cancelled task has at least."""


class Source(Protocol[T]):
    """What there is to run. It is asked by one worker at a time."""

    def take(self) -> T | None:
        """The next one that is due."""
        ...

    def pause(self) -> float | None:
        """Seconds until one is due; None when only a notice will tell."""
        ...

    def done(self, item: T, result: RunResult) -> None:
        """What became of it."""
        ...


class _OverError(BaseException):
    """The grace is over: what starts now is given back at once."""


class Crew(Generic[T]):
    """Threads.

    Attributes:
        changed: held while the source is asked; notified when a worker has done something.
        more: under the same lock; to be notified when there is more in the source, or when it is due earlier.
        closed: whether it was told to stop, and begins nothing any more.
    """

    def __init__(self, workers: int, source: Source[T]) -> None:
        if workers < 1:
            raise ValueError(f"workers: at least 1 thread is needed, not {workers}")
        lock = RLock()
        self.changed = Condition(lock)
        self.more = Condition(lock)
        self.closed = False
        self.busy = 0
        self._workers = workers
        self._source = source
        self._resting = 0
        self._woken = False
        self._running: dict[int, Context] = {}
        self._threads: list[Thread] = []
        self._over = False

    def start(self, run: Run[T]) -> None:
        """Begin. Once."""
        if self._threads:
            raise RuntimeError("its workers were started before: make another one")
        for number in range(self._workers):
            self._threads.append(Thread(target=self._work, args=(number, run), name=f"jobstate-{number}", daemon=True))
        for thread in self._threads:
            thread.start()

    def notify(self) -> None:
        """Look at the source again."""
        with self.more:
            self.more.notify_all()

    def wake(self) -> None:
        """There is more in the source, under the lock: one who rests is woken, and wakes the next if there is still more.

        Who is quick takes several before another one has come to himself: threads that wake together wait for one lock.
        """
        if self._resting and not self._woken:
            self._woken = True
            self.more.notify()

    def stop(self, grace: float) -> None:
        """Begin nothing any more, let what runs finish for `grace` seconds, and give the rest back."""
        with self.changed:
            self.closed = True
            for context in self._running.values():
                context.stop()
            self.more.notify_all()
            self.changed.notify_all()
            idle = self.changed.wait_for(lambda: not self.busy, grace)
            self._over = True
            left = list(self._running.values())
        for context in left:
            give_back(context.attempt)
        if idle:
            for thread in self._threads:
                thread.join()

    def _work(self, number: int, run: Run[T]) -> None:
        while (item := self._next()) is not None:
            result = RunResult(RunFate.GIVEN_BACK)
            try:
                result = run(item, lambda context: self._note(number, context))
            except _OverError:
                return
            except BaseException:  # a handler that exits was given back, and takes no worker along
                logger.exception("a handler asked the process to exit; its worker goes on")
            finally:
                self._done(number, item, result)

    def _next(self) -> T | None:
        with self.changed:
            while not self.closed:
                if (item := self._source.take()) is not None:
                    self.busy += 1
                    if self._source.pause() == 0:
                        self.wake()
                    return item
                self._rest(self._source.pause())
            return None

    def _rest(self, pause: float | None) -> None:
        self._resting += 1
        self.more.wait(pause)
        self._resting -= 1
        self._woken = False

    def _note(self, number: int, context: Context) -> None:
        with self.changed:
            if self._over:
                raise _OverError
            self._running[number] = context
            if self.closed:
                context.stop()

    def _done(self, number: int, item: T, result: RunResult) -> None:
        with self.changed:
            self._running.pop(number, None)
            self.busy -= 1
            self._source.done(item, result)
            if result.fate is RunFate.RETURNED:
                self.more.notify()
            self.changed.notify_all()


class AsyncCrew(Generic[T]):
    """Tasks of the running event loop; else as `Crew`.

    Each worker is two tasks: one that runs, and one that begins it anew, so that whatever ends or cancels the first ends that
    job alone. KeyboardInterrupt and SystemExit leave the loop, too, as asyncio has it; if the loop runs on, so does the crew.
    """

    def __init__(self, workers: int, source: Source[T]) -> None:
        if workers < 1:
            raise ValueError(f"workers: at least 1 task is needed, not {workers}")
        lock = asyncio.Lock()
        self.changed = asyncio.Condition(lock)
        self.more = asyncio.Condition(lock)
        self.closed = False
        self.busy = 0
        self._workers = workers
        self._source = source
        self._resting = 0
        self._woken = False
        self._running: dict[int, AsyncContext] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, run: AsyncRun[T]) -> None:
        """As `Crew.start`, in the running loop."""
        if self._tasks:
            raise RuntimeError("its workers were started before: make another one")
        for number in range(self._workers):
            self._tasks.append(asyncio.create_task(self._keep(number, run), name=f"jobstate-{number}-kept"))

    @property
    def hands(self) -> int:
        """How many workers live: fewer once somebody else has cancelled one for good."""
        return sum(not task.done() for task in self._tasks)

    async def notify(self) -> None:
        """As `Crew.notify`."""
        async with self.more:
            self.more.notify_all()

    async def tell(self) -> None:
        """Something has changed."""
        async with self.changed:
            self.changed.notify_all()

    def wake(self) -> None:
        """As `Crew.wake`."""
        if self._resting and not self._woken:
            self._woken = True
            self.more.notify()

    async def stop(self, grace: float) -> None:
        """As `Crew.stop`. A handler that swallows its cancellation is left behind, and its job given back."""
        async with self.changed:
            self.closed = True
            for context in self._running.values():
                context.stop()
            self.more.notify_all()
            self.changed.notify_all()
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=grace)
            for task in left:
                task.cancel()
            if left:
                await asyncio.wait(left, timeout=max(grace, LEAST_GRACE))
            for context in list(self._running.values()):
                _ = await async_give_back(context.attempt)
        await self.tell()

    async def _keep(self, number: int, run: AsyncRun[T]) -> None:
        """A worker, and another one in its place when somebody has ended it; who is cancelled itself cancels its worker."""
        while True:
            try:
                return await asyncio.create_task(self._work(number, run), name=f"jobstate-{number}")
            except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    await self.tell()
                    raise

    async def _work(self, number: int, run: AsyncRun[T]) -> None:
        while (item := await self._next()) is not None:
            await self._run(number, item, run)

    async def _run(self, number: int, item: T, run: AsyncRun[T]) -> None:
        result, end = RunResult(RunFate.GIVEN_BACK), None
        try:
            result = await run(item, lambda context: self._note(number, context))
        except BaseException as error:
            end = error
        finally:
            self._running.pop(number, None)
            self.busy -= 1
        if end is not None and not (self.closed and isinstance(end, asyncio.CancelledError)):
            logger.error("a job was not run to its end; its worker goes on", exc_info=end)
        async with self.changed:
            self._source.done(item, result)
            if result.fate is RunFate.RETURNED:
                self.more.notify()
            self.changed.notify_all()
        if isinstance(end, (asyncio.CancelledError, KeyboardInterrupt, SystemExit)):
            raise end

    async def _next(self) -> T | None:
        async with self.changed:
            while not self.closed:
                if (item := self._source.take()) is not None:
                    self.busy += 1
                    if self._source.pause() == 0:
                        self.wake()
                    return item
                await self._rest(self._source.pause())
            return None

    async def _rest(self, pause: float | None) -> None:
        self._resting += 1
        try:
            async with asyncio.timeout(pause):
                _ = await self.more.wait()
        except TimeoutError:
            return
        finally:
            self._resting -= 1
            self._woken = False

    def _note(self, number: int, context: AsyncContext) -> None:
        self._running[number] = context
        if self.closed:
            context.stop()
