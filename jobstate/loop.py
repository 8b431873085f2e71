"""The database as the queue: workers that take pending jobs from the repository, run a handler on them, and stop in good order.

    while not stopped: take as many as there are idle workers -> they run -> wait for a notice, or a moment, when there was none

What is taken is started, in one transaction for all where the repository can: nothing waits under a lease but for a free hand.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar, Unpack

from jobstate.attempt import AsyncAttempt, Attempt
from jobstate.context import AsyncContext, Context
from jobstate.crew import LEAST_GRACE, AsyncCrew, Crew
from jobstate.endings import AsyncEndings, Endings
from jobstate.errors import InvalidInputError
from jobstate.flows.sweeps import PAGE
from jobstate.notices import PAUSE, AsyncPolling, Polling
from jobstate.overdue import Overdue
from jobstate.ports import AsyncListener, Listener
from jobstate.service import AsyncJobs, Jobs
from jobstate.telling import RunFate, RunResult, async_give_back, give_back
from jobstate.worker import (
    AsyncHandler,
    Handler,
    async_handle,
    async_run_attempt,
    check_handler,
    handle,
    run_attempt,
    to_its_end,
)

logger = logging.getLogger("jobstate.loop")

A = TypeVar("A", Attempt[Any, Any], AsyncAttempt[Any, Any])

_DAY = 86_400
_ECHO = 2 * PAUSE
_LINGER = 0.0005
"""Seconds for which the end of a job, and a free hand, wait for others: what goes to the database together costs less."""
_SLICE = 0.2
"""Seconds after which one who waits looks whether it was told to stop: a signal's handler may not take a lock."""


class Working(TypedDict, total=False):
    """How a worker works.

    `concurrency` is how many jobs run at once (10 in threads, 100 in tasks); `poll`, how many seconds (1) pass at most until
    an idle worker looks again, if nothing wakes it; `grace`, how many seconds (10) what runs has to finish when the worker is
    told to stop, and is given back after that; `retry_exceptions` is that of `run_job`.
    """

    concurrency: int
    poll: float
    grace: float
    retry_exceptions: bool


class _Taken(Generic[A]):
    """Attempts that wait for a worker that is free already."""

    def __init__(self) -> None:
        self.attempts: deque[A] = deque()

    def take(self) -> A | None:
        return self.attempts.popleft() if self.attempts else None

    def pause(self) -> float | None:
        return 0 if self.attempts else None

    def done(self, item: A, result: RunResult) -> None:
        """It is over; the row says how."""


class _Settings(NamedTuple):
    """`Working`, whole."""

    concurrency: int
    poll: float
    grace: float
    retry_exceptions: bool


def _settings(options: Working, concurrency: int) -> _Settings:
    """What was asked for, and the rest as it is by default. Raises InvalidInputError, and TypeError for an unknown name."""
    if unknown := options.keys() - Working.__annotations__.keys():
        raise TypeError(f"unknown argument {', '.join(sorted(unknown))}; known are {', '.join(Working.__annotations__)}")
    concurrency = options.get("concurrency", concurrency)
    poll, grace = options.get("poll", 1.0), options.get("grace", 10.0)
    if type(concurrency) is not int or not 1 <= concurrency <= PAGE:
        raise InvalidInputError("concurrency", f"a whole number from 1 to {PAGE} is needed, not {concurrency!r}")
    for name, value, least in (("poll", poll, 0.001), ("grace", grace, 0)):
        if type(value) not in (int, float) or not least <= value <= _DAY:
            raise InvalidInputError(name, f"seconds from {least} to {_DAY} are needed, not {value!r}")
    return _Settings(concurrency, poll, grace, options.get("retry_exceptions", True))


class Worker:
    """Takes pending jobs and runs `handler` on them in threads, until it is told to stop.

    A repository that fails is asked again after `poll` seconds, and a listener that fails is made anew. `run` raises
    InvalidInputError for `Jobs` that has a dispatcher, or belongs to one organization.
    """

    def __init__(self, jobs: Jobs, handler: Handler, **options: Unpack[Working]) -> None:
        check_handler(handler)
        self._settings = _settings(options, 10)
        self._jobs = jobs.gathering(linger=_LINGER if self._settings.concurrency > 1 else 0)
        self._handler = handler
        self._taken: _Taken[Attempt[Any, Any]] = _Taken()
        self._crew: Crew[Attempt[Any, Any]] = Crew(self._settings.concurrency, self._taken)
        self._endings = Endings(linger=_LINGER if self._settings.concurrency > 1 else 0)
        self._listener: Listener | None = None
        self._heard = False
        self._stopped = False
        self._overdue = Overdue()

    def stop(self) -> None:
        """Tell it to stop; from anywhere, a signal's handler too. `run` returns when all is done or given back."""
        self._stopped = True

    def run(self) -> None:
        """Work until it is told to stop. Once."""
        self._crew.start(self._run_one)
        try:
            self._listen()  # before the first look, so that nothing is missed
            while not self._stopped:
                self._look_at_sweeps()
                self._endings.go_on()  # who told may have been interrupted
                if not self._fill():
                    self._wait()
        finally:
            self._crew.stop(self._settings.grace)
            self._endings.tell()
            for attempt in self._taken.attempts:
                _ = give_back(attempt)
            self._deaf()

    def _run_one(self, attempt: Attempt[Any, Any], note: Callable[[Context], None]) -> RunResult:
        """Who is observed ends by himself, within his own span; all others end together."""
        retry = self._settings.retry_exceptions
        if attempt.listeners is not None:
            return run_attempt(attempt, self._handler, retry_exceptions=retry, on_start=note)
        ends = handle(attempt, self._handler, retry, note)
        if isinstance(ends, RunResult):
            return ends
        self._endings.add((attempt, ends))
        return RunResult(RunFate.UNKNOWN)

    def _fill(self) -> bool:
        """Take what the idle can run, when there is one; whether there may be more."""
        crew = self._crew
        with crew.changed:
            idle = crew.changed.wait_for(self._idle, _SLICE)
        if 0 < idle < self._settings.concurrency:
            time.sleep(_LINGER)
            idle = self._idle()
        if not idle:
            return True
        try:
            attempts = self._jobs.take(idle)
        except InvalidInputError:  # these jobs can never be taken
            raise
        except Exception:
            logger.exception("no jobs could be taken; the next look is in %s s", self._settings.poll)
            return False
        with crew.changed:
            self._taken.attempts.extend(attempts)
            crew.wake()
        return len(attempts) == idle

    def _look_at_sweeps(self) -> None:
        if self._overdue.is_time():
            with suppress(Exception):  # what is wrong with the repository is told by `_fill`
                self._overdue.tell(self._jobs.sweep_lag())

    def _idle(self) -> int:
        """How many hands are free; none while as many ends as there are hands wait to be told."""
        concurrency = self._settings.concurrency
        return 0 if len(self._endings) >= concurrency else concurrency - self._crew.busy - len(self._taken.attempts)

    def _wait(self) -> None:
        """Until there is a notice, or `poll` seconds have passed, or it was told to stop; soon after a notice, once more."""
        left = self._pause()
        while left > 0 and not self._stopped and not self._heard:
            self._heard = self._hears(min(left, _SLICE))
            left -= _SLICE

    def _pause(self) -> float:
        """Seconds until the next look: a notice stands for what follows at once, too."""
        heard, self._heard = self._heard, False
        return min(_ECHO, self._settings.poll) if heard else self._settings.poll

    def _hears(self, seconds: float) -> bool:
        if self._listener is None:
            Polling().wait(seconds)
            return self._listen()
        try:
            return self._listener.wait(seconds)
        except Exception:
            logger.warning("the notices of new jobs ended", exc_info=True)
            self._deaf()
            return False

    def _listen(self) -> bool:
        """Whether it listens now: then something may have been missed."""
        try:
            self._listener = self._jobs.listen()
        except Exception:
            logger.warning("there are no notices of new jobs; a look every %s s will do", self._settings.poll, exc_info=True)
        return self._listener is not None

    def _deaf(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(Exception):
                listener.close()


def work(jobs: Jobs, handler: Handler, **options: Unpack[Working]) -> None:
    """Run a `Worker` until SIGTERM or SIGINT, in the main thread; elsewhere for ever: make a `Worker` there, to stop it.

    Run as many processes of it as there is work, on one database, and `sweep` from a cron or a thread beside it: a job whose
    worker was killed is taken over by that.
    """
    worker = Worker(jobs, handler, **options)
    with _told(worker.stop):
        worker.run()


@contextmanager
def _told(stop: Callable[[], None]) -> Generator[None]:
    """SIGTERM and SIGINT call `stop` meanwhile; a second one does what it did before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[signal.Signals, Any] = {}

    def told(number: int, _: FrameType | None) -> None:
        signal.signal(number, before[signal.Signals(number)])
        stop()

    for each in (signal.SIGTERM, signal.SIGINT):
        before[each] = signal.signal(each, told)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class AsyncWorker:
    """`Worker`, awaited: in tasks of the running event loop.

    A job whose task is cancelled, or ended by a BaseException, is given back. KeyboardInterrupt and SystemExit of a handler
    leave the event loop, too: `asyncio.run` then cancels `run`, which stops in good order.
    """

    def __init__(self, jobs: AsyncJobs, handler: AsyncHandler, **options: Unpack[Working]) -> None:
        self._settings = _settings(options, 100)
        self._jobs = jobs.gathering()
        self._handler = handler
        self._taken: _Taken[AsyncAttempt[Any, Any]] = _Taken()
        self._crew: AsyncCrew[AsyncAttempt[Any, Any]] = AsyncCrew(self._settings.concurrency, self._taken)
        self._endings = AsyncEndings(self._crew.tell)
        self._listener: AsyncListener | None = None
        self._heard = False
        self._stopped = False
        self._overdue = Overdue()

    def stop(self) -> None:
        """As `Worker.stop`."""
        self._stopped = True

    async def run(self) -> None:
        """As `Worker.run`. A cancelled task stops in good order, and goes on being cancelled."""
        self._crew.start(self._run_one)
        try:
            await self._listen()
            while not self._stopped:
                await self._look_at_sweeps()
                self._endings.go_on()
                if not await self._fill():
                    await self._wait()
        finally:
            _, cancelled = await to_its_end(self._leave())
            if cancelled is not None:
                raise cancelled

    async def _leave(self) -> None:
        await self._crew.stop(self._settings.grace)
        await self._endings.told(max(self._settings.grace, LEAST_GRACE))
        for attempt in self._taken.attempts:
            _ = await async_give_back(attempt)
        await self._deaf()

    async def _run_one(self, attempt: AsyncAttempt[Any, Any], note: Callable[[AsyncContext], None]) -> RunResult:
        """As `Worker._run_one`."""
        retry = self._settings.retry_exceptions
        if attempt.listeners is not None:
            return await async_run_attempt(attempt, self._handler, retry_exceptions=retry, on_start=note)
        ends = await async_handle(attempt, self._handler, retry, note)
        if isinstance(ends, RunResult):
            return ends
        self._endings.add((attempt, ends))
        return RunResult(RunFate.UNKNOWN)

    async def _fill(self) -> bool:
        """As `Worker._fill`. What is on its way when the task is cancelled is waited for, not lost."""
        crew = self._crew
        async with crew.changed:
            try:
                async with asyncio.timeout(_SLICE):
                    idle = await crew.changed.wait_for(self._idle)
            except TimeoutError:
                return True
        taking, cancelled = await to_its_end(self._jobs.take(idle))
        if taking.exception() is None:
            self._taken.attempts.extend(taking.result())
        if cancelled is not None:
            raise cancelled
        if isinstance(error := taking.exception(), InvalidInputError):
            raise error
        if error is not None:
            logger.error("no jobs could be taken; the next look is in %s s", self._settings.poll, exc_info=error)
            return False
        async with crew.changed:
            crew.wake()
        return len(taking.result()) == idle

    async def _look_at_sweeps(self) -> None:
        if self._overdue.is_time():
            with suppress(Exception):
                self._overdue.tell(await self._jobs.sweep_lag())

    def _idle(self) -> int:
        """How many hands are free; none while as many ends as there are hands wait to be told."""
        if len(self._endings) >= self._settings.concurrency:
            return 0
        return max(0, self._crew.hands - self._crew.busy - len(self._taken.attempts))

    async def _wait(self) -> None:
        left = self._pause()
        while left > 0 and not self._stopped and not self._heard:
            self._heard = await self._hears(min(left, _SLICE))
            left -= _SLICE

    def _pause(self) -> float:
        heard, self._heard = self._heard, False
        return min(_ECHO, self._settings.poll) if heard else self._settings.poll

    async def _hears(self, seconds: float) -> bool:
        if self._listener is None:
            await AsyncPolling().wait(seconds)
            return await self._listen()
        try:
            return await self._listener.wait(seconds)
        except Exception:
            logger.warning("the notices of new jobs ended", exc_info=True)
            await self._deaf()
            return False

    async def _listen(self) -> bool:
        try:
            self._listener = await self._jobs.listen()
        except Exception:
            logger.warning("there are no notices of new jobs; a look every %s s will do", self._settings.poll, exc_info=True)
        return self._listener is not None

    async def _deaf(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            with suppress(Exception):
                await listener.close()


async def async_work(jobs: AsyncJobs, handler: AsyncHandler, **options: Unpack[Working]) -> None:
    """`work`, awaited."""
    worker = AsyncWorker(jobs, handler, **options)
    with _told(worker.stop):
        await worker.run()
