"""What a handler has besides the request: its job, a way to tell progress, and whether anyone still wants the result."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import copy_context
from threading import Event as Flag
from threading import Lock, Thread
from typing import Any

from pydantic import JsonValue

from jobstate.alarms import ALARMS
from jobstate.attempt import AsyncAttempt, Attempt
from jobstate.errors import LeaseLostError
from jobstate.model import Job, JobWarning
from jobstate.payload import said

logger = logging.getLogger("jobstate.worker")


class _Signals:
    """What both colours of context have in common."""

    def __init__(self) -> None:
        self._lost = False
        self._stopping = False

    @property
    def cancelled(self) -> bool:
        """Whether the job was cancelled, or went to somebody else: stop work, nobody wants the result."""
        return self._lost

    @property
    def stopping(self) -> bool:
        """Whether the worker is about to stop: finish soon, or be given back."""
        return self._stopping

    def stop(self) -> None:
        """Tell the handler that the worker is about to stop."""
        self._stopping = True


class Context(_Signals):
    """What a handler has besides the request: its job, a way to tell progress, and whether anyone still wants the result."""

    def __init__(self, attempt: Attempt[Any, Any]) -> None:
        super().__init__()
        self.attempt = attempt

    @property
    def job(self) -> Job[Any, Any]:
        """The job as last seen."""
        return self.attempt.job

    def heartbeat(self, progress: float | None = None) -> None:
        """Keep the lease, and tell progress from 0 to 1. Raises LeaseLostError when the work is in vain."""
        self._tell(progress, ())

    def warn(self, code: str, message: str, details: dict[str, JsonValue] | None = None) -> None:
        """Put a warning on the job, for whoever reads it. Raises LeaseLostError when the work is in vain."""
        self._tell(None, (said(JobWarning, code, message, details),))

    def artifact(self, name: str) -> bytes:
        """A part of the request that was put into the artifact store."""
        return self.attempt.artifact(name)

    def _tell(self, progress: float | None, warnings: tuple[JobWarning, ...]) -> None:
        try:
            self.attempt.heartbeat(progress, warnings=warnings)
        except LeaseLostError:
            self._lost = True
            raise

    @contextmanager
    def kept_alive(self) -> Generator[None]:
        """Heartbeats in the background, at a third of the lease."""
        lease = self.attempt.policy.lease_seconds
        if lease is None:
            yield
            return
        beats = _Beats(self, lease / 3)
        alarm = ALARMS.set(lease / 3, beats.start)
        try:
            yield
        finally:
            ALARMS.cancel(alarm)
            beats.stop()

    def _beat(self) -> bool:
        """A heartbeat in the background; whether there is to be another."""
        try:
            self.heartbeat()
        except LeaseLostError:
            return False
        except Exception:
            logger.warning("a heartbeat of %s failed; the next one may do", self.attempt.job_id, exc_info=True)
        return not self._lost


class _Beats:
    """A thread that beats for one attempt, from when the first heartbeat is due."""

    def __init__(self, context: Context, pause: float) -> None:
        self._context = context
        self._pause = pause
        self._context_of_the_handler = copy_context()  # its trace goes on in the background
        self._done = Flag()
        self._lock = Lock()
        self._thread: Thread | None = None

    def start(self) -> None:
        """Beat at once, and after each pause."""
        with self._lock:
            if not self._done.is_set():
                name = f"heartbeat-{self._context.attempt.job_id}"
                self._thread = Thread(target=self._context_of_the_handler.run, args=(self._beat,), name=name, daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """No more; a heartbeat that is on its way is waited for."""
        with self._lock:
            self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _beat(self) -> None:
        while self._context._beat() and not self._done.wait(self._pause):
            pass


class AsyncContext(_Signals):
    """`Context`, awaited."""

    def __init__(self, attempt: AsyncAttempt[Any, Any]) -> None:
        super().__init__()
        self.attempt = attempt

    @property
    def job(self) -> Job[Any, Any]:
        """As `Context.job`."""
        return self.attempt.job

    async def heartbeat(self, progress: float | None = None) -> None:
        """As `Context.heartbeat`."""
        await self._tell(progress, ())

    async def warn(self, code: str, message: str, details: dict[str, JsonValue] | None = None) -> None:
        """As `Context.warn`."""
        await self._tell(None, (said(JobWarning, code, message, details),))

    async def artifact(self, name: str) -> bytes:
        """As `Context.artifact`."""
        return await self.attempt.artifact(name)

    async def _tell(self, progress: float | None, warnings: tuple[JobWarning, ...]) -> None:
        try:
            await self.attempt.heartbeat(progress, warnings=warnings)
        except LeaseLostError:
            self._lost = True
            raise

    @asynccontextmanager
    async def kept_alive(self) -> AsyncGenerator[None]:
        """As `Context.kept_alive`."""
        lease = self.attempt.policy.lease_seconds
        if lease is None:
            yield
            return
        tasks: list[asyncio.Task[None]] = []

        def start() -> None:
            tasks.append(asyncio.create_task(self._beat(lease / 3), name=f"heartbeat-{self.attempt.job_id}"))

        timer = asyncio.get_running_loop().call_later(lease / 3, start)
        try:
            yield
        finally:
            timer.cancel()
            for task in tasks:
                task.cancel()
                await asyncio.wait([task])

    async def _beat(self, pause: float) -> None:
        while not self._lost:
            try:
                await self.heartbeat()
            except LeaseLostError:
                return
            except Exception:
                logger.warning("a heartbeat of %s failed; the next one may do", self.attempt.job_id, exc_info=True)
            await asyncio.sleep(pause)
