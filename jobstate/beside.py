"""`run_job` beside an event loop: for engines that call a worker in a task, while the handler is a plain function."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from threading import Lock, Thread

from jobstate.context import Context
from jobstate.model import Delivery
from jobstate.service import Jobs
from jobstate.worker import Handler, RunFate, RunResult, give_back, run_job, to_its_end

logger = logging.getLogger("jobstate.worker")


async def run_job_in_thread(jobs: Jobs, delivery: Delivery, handler: Handler, *, retry_exceptions: bool = True) -> RunResult:
    """`run_job` in a thread of its own, awaited.

    A cancelled task gives the job back, and goes on being cancelled. The handler's thread is left behind: its result is
    dropped, `context.cancelled` says so, and it keeps no process from its end. The job of a handler that exits is given back.
    """
    run = _Run()
    work = copy_context().run  # the caller's trace goes on in the thread
    arguments = (run.work, jobs, delivery, handler, retry_exceptions)
    Thread(target=work, args=arguments, name=f"run-{delivery.job_id}", daemon=True).start()
    try:
        return await asyncio.wrap_future(run.result)
    except asyncio.CancelledError:
        run.leave()
        await to_its_end(asyncio.to_thread(run.give_back))
        raise


class _LeftError(BaseException):
    """Nobody waits any more: what starts now is given back at once."""


class _Run:
    """A delivery that runs in a thread."""

    def __init__(self) -> None:
        self.result: Future[RunResult] = Future()
        self.result.set_running_or_notify_cancel()  # whoever awaits it may be cancelled; it may not
        self._lock = Lock()
        self._left = False
        self._context: Context | None = None

    def work(self, jobs: Jobs, delivery: Delivery, handler: Handler, retry_exceptions: bool) -> None:
        result = RunResult(RunFate.GIVEN_BACK)
        try:
            result = run_job(jobs, delivery, handler, retry_exceptions=retry_exceptions, on_start=self._note)
        except _LeftError:
            return
        except BaseException:
            logger.exception("the handler of %s asked the process to exit", delivery.job_id)
        finally:
            self.result.set_result(result)

    def leave(self) -> None:
        """Nobody waits any more."""
        with self._lock:
            self._left = True

    def give_back(self) -> None:
        """Of what was left; a job whose start is not saved yet gives itself back, and this waits for it."""
        if self._context is None:
            self.result.result()
            return
        give_back(self._context.attempt)
        with suppress(Exception):
            self._context.heartbeat()  # raises: from here on the handler can see that its work is in vain

    def _note(self, context: Context) -> None:
        with self._lock:
            if self._left:
                raise _LeftError
            self._context = context
