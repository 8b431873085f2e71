"""What runs in a worker process of somebody else's engine, and how a stop reaches it: told, interrupted, and given back."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from threading import Lock, current_thread, get_ident, main_thread
from types import FrameType, TracebackType
from typing import Any

from jobstate.context import Context
from jobstate.model import Delivery
from jobstate.service import Jobs
from jobstate.worker import Handler, RunFate, RunResult, give_back, run_job


class _OverError(BaseException):
    """The worker stops now: what starts is given back at once."""


class Running:
    """Runs deliveries in the threads of an engine's worker, and lets a stop of the worker reach their handlers.

    In the main thread, the given signals are taken while a delivery runs: one that would end the process there, by its default
    or by an exception of the engine's own way to take it, ends the handler only. Never a save: the job is then given back.
    """

    def __init__(self, *signals: int) -> None:
        self._signals = signals
        self._lock = Lock()
        self._contexts: dict[int, Context] = {}
        self._stopping = False
        self._over = False

    def run(self, jobs: Jobs, delivery: Delivery, handler: Handler, *, retry_exceptions: bool = True) -> RunResult:
        """As `run_job`. Raises what interrupted the handler, once the job was given back; starts nothing behind that."""
        if self._over:
            return RunResult(RunFate.RETURNED, "stopping")
        with _Signals(self._signals if current_thread() is main_thread() else (), self.stop) as signals:
            try:
                return run_job(jobs, delivery, signals.guarded(handler), retry_exceptions=retry_exceptions, on_start=self._note)
            finally:
                self._forget()

    def stop(self) -> None:
        """Tell the handlers that the worker is about to stop: those that run, and those that will."""
        self._stopping = True  # no lock: a signal may come while it is held
        for context in list(self._contexts.values()):
            context.stop()

    def interrupt(self, raise_in: Callable[[int], object]) -> None:
        """Give back what still runs, and end its handlers by `raise_in`, given the id of a thread; the same for what starts."""
        with self._lock:
            self._over = True
            left = list(self._contexts.items())
        for _, context in left:
            give_back(context.attempt)
        with self._lock:
            for thread, context in left:
                if self._contexts.get(thread) is context:
                    raise_in(thread)

    def _note(self, context: Context) -> None:
        with self._lock:
            if self._over:
                raise _OverError
            self._contexts[get_ident()] = context
        if self._stopping:
            context.stop()

    def _forget(self) -> None:
        with self._lock:
            self._contexts.pop(get_ident(), None)
        if self._over:  # what was raised in this thread, and is not seen yet, comes here, not in the engine's own code
            time.sleep(0)


class _Signals:
    """Takes signals for a while: each reaches whoever had it before, but what that raises is raised in the handler only."""

    def __init__(self, numbers: tuple[int, ...], stop: Callable[[], object]) -> None:
        self._before: dict[int, Any] = dict.fromkeys(numbers)
        self._stop = stop
        self._late: list[int] = []
        self._inside = False

    def __enter__(self) -> _Signals:
        self._take()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        for number, before in self._before.items():
            if before is not None:
                signal.signal(number, before)
        if error is None and self._late:
            signal.raise_signal(self._late[0])

    def guarded(self, handler: Handler) -> Handler:
        """A handler that signals may end."""

        def guard(request: Any, context: Context) -> Any:
            self._inside = True
            try:
                if self._late:
                    self._end(self._late.pop(), None)
                return handler(request, context)
            finally:
                self._inside = False

        return guard

    def _take(self) -> None:
        """Also again: who had a signal may have put others in its place. What is not Python's (None) stays as it is."""
        for number in self._before:
            if (before := signal.getsignal(number)) not in (None, self._come):
                self._before[number] = before
                signal.signal(number, self._come)

    def _come(self, number: int, frame: FrameType | None) -> None:
        self._stop()
        if self._inside:
            self._end(number, frame)
        else:
            self._late.append(number)

    def _end(self, number: int, frame: FrameType | None) -> None:
        """As it would have been; an end of the process, or an exception, is an exit of the handler."""
        before = self._before[number]
        try:
            if callable(before):
                before(number, frame)
            elif before == signal.SIG_DFL:
                raise SystemExit(128 + number)
        except BaseException as error:
            self._inside = False
            raise (SystemExit(128 + number) if isinstance(error, Exception) else error) from error
        finally:
            self._take()
