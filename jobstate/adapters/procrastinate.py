"""Dispatchers on procrastinate 3, whose tasks stand in PostgreSQL: a job and its task commit together. Extra: `procrastinate`.

A task says job id and run. Its `queueing_lock` is the `task_name`: the handle for `revoke`, and no more, for no two dispatches
of a job have the same name. It has no `lock`: what a killed worker leaves behind in `doing` would hold up the job's later runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from jobstate.beside import run_job_in_thread
from jobstate.errors import DispatchError
from jobstate.extra import needs_extra
from jobstate.model import Delivery
from jobstate.service import AsyncJobs, Jobs
from jobstate.worker import AsyncHandler, Handler, RunFate, RunResult, async_run_job

with needs_extra("procrastinate"):
    import psycopg
    from procrastinate import App, BaseRetryStrategy, PsycopgConnector, RetryDecision, SyncPsycopgConnector
    from procrastinate.connector import BaseAsyncConnector
    from procrastinate.exceptions import AlreadyEnqueued
    from procrastinate.jobs import Job as Row
    from procrastinate.jobs import Status
    from procrastinate.manager import JobManager
    from procrastinate.tasks import Task

_AGAIN = timedelta(seconds=1)
"""From a delivery whose start met an error to the next one."""

_LIVE = (Status.TODO.value, Status.DOING.value)

TASK = "jobstate.run"
"""The name of procrastinate's task."""


Run = Callable[[str, int], Awaitable[str]]
"""What procrastinate calls: with job id and run."""
Registered = Task[[str, int], Awaitable[str], [str, int]]
"""procrastinate's task."""


class _Options:
    """What both colours have in common."""

    def __init__(self, app: App, *, task: str = TASK, queue: str = "default", transactional: bool = True) -> None:
        self.transactional = transactional
        self._app = app
        self._name = task
        self._queue = queue

    def _task(self, delivery: Delivery, task_name: str, not_before: int | None) -> Row:
        return Row(
            task_name=self._name,
            queue=self._queue,
            lock=None,
            queueing_lock=task_name,
            task_kwargs=delivery.model_dump(),
            scheduled_at=None if not_before is None else datetime.fromtimestamp(not_before, UTC),
        )

    def _register(self, run: Run) -> Registered:
        return self._app.task(name=self._name, queue=self._queue, retry=_Again())(run)


class ProcrastinateDispatcher(_Options):
    """A `Dispatcher` that writes a procrastinate task with the job.

    Make it before the app is opened. `transactional` needs procrastinate's schema in the database of the jobs, and jobs that
    are written through psycopg; False is for any other case: then the task is written after the job, on connections of the
    app's kind, and the sweep makes up for what fails between.
    """

    def __init__(self, app: App, *, task: str = TASK, queue: str = "default", transactional: bool = True) -> None:
        super().__init__(app, task=task, queue=queue, transactional=transactional)
        self._connector = app.connector.get_sync_connector()
        if isinstance(self._connector, BaseAsyncConnector):
            raise ValueError("app: it was opened by open_async; make the dispatcher before, or an AsyncProcrastinateDispatcher")
        self._own = JobManager(self._connector)
        self._given = JobManager(SyncPsycopgConnector())  # never opened: it writes on connections that it is given
        self._opening = Lock()

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`. A name that waits already is taken as it is; in a transaction it ends that."""
        return self._defer(self._task(delivery, task_name, None), task_name, transaction)

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `dispatch`, not delivered before a time (Unix seconds, by the database's clock)."""
        return self._defer(self._task(delivery, task_name, not_before), task_name, transaction)

    def _defer(self, task: Row, task_name: str, transaction: Any) -> str:
        if transaction is not None:
            self._given.defer_job(task, connection=_psycopg(transaction.connection.driver_connection, psycopg.Connection))
            return task_name
        with suppress(AlreadyEnqueued):
            self._opened().defer_job(task)
        return task_name

    def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`: a task that waits is deleted; of one that runs, the handler is stopped."""
        tasks = self._opened()
        for status in _LIVE:
            for number in _numbers(tasks.list_jobs(task=self._name, status=status, queueing_lock=task_name)):
                tasks.cancel_job_by_id(number, abort=True, delete_job=True)

    def register(self, jobs: Jobs, handler: Handler, *, retry_exceptions: bool = True) -> Registered:
        """Make the app's task: in the worker, where `handler` is. As `run_job`, in a thread for each task that runs.

        A task that procrastinate aborts (at a stop, once `shutdown_graceful_timeout` is over) gives its job back.
        """

        async def run(job_id: str, run: int) -> str:
            delivery = Delivery(job_id=job_id, run=run)
            return _said(await run_job_in_thread(jobs, delivery, handler, retry_exceptions=retry_exceptions))

        return self._register(run)

    def _opened(self) -> JobManager:
        """In a worker the app is opened for asyncio only."""
        with self._opening:
            self._connector.open()
        return self._own


class AsyncProcrastinateDispatcher(_Options):
    """An `AsyncDispatcher`: as `ProcrastinateDispatcher`. Without a transaction it needs the app, opened by `open_async`."""

    def __init__(self, app: App, *, task: str = TASK, queue: str = "default", transactional: bool = True) -> None:
        super().__init__(app, task=task, queue=queue, transactional=transactional)
        self._given = JobManager(PsycopgConnector())

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `ProcrastinateDispatcher.dispatch`."""
        return await self._defer(self._task(delivery, task_name, None), task_name, transaction)

    async def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `ProcrastinateDispatcher.dispatch_at`."""
        return await self._defer(self._task(delivery, task_name, not_before), task_name, transaction)

    async def _defer(self, task: Row, task_name: str, transaction: Any) -> str:
        if transaction is not None:
            driver = (await transaction.get_raw_connection()).driver_connection
            await self._given.defer_job_async(task, connection=_psycopg(driver, psycopg.AsyncConnection))
            return task_name
        with suppress(AlreadyEnqueued):
            await self._app.job_manager.defer_job_async(task)
        return task_name

    async def revoke(self, task_name: str) -> None:
        """As `ProcrastinateDispatcher.revoke`."""
        tasks = self._app.job_manager
        for status in _LIVE:
            for number in _numbers(await tasks.list_jobs_async(task=self._name, status=status, queueing_lock=task_name)):
                await tasks.cancel_job_by_id_async(number, abort=True, delete_job=True)

    def register(self, jobs: AsyncJobs, handler: AsyncHandler, *, retry_exceptions: bool = True) -> Registered:
        """As `ProcrastinateDispatcher.register`, in procrastinate's own event loop: what it aborts is cancelled."""

        async def run(job_id: str, run: int) -> str:
            delivery = Delivery(job_id=job_id, run=run)
            return _said(await async_run_job(jobs, delivery, handler, retry_exceptions=retry_exceptions))

        return self._register(run)


def _numbers(tasks: Iterable[Row]) -> list[int]:
    return [task.id for task in tasks if task.id is not None]


class _ReturnedError(Exception):
    """The delivery is to come again."""

    def __init__(self, result: RunResult) -> None:
        super().__init__(result.reason)
        self.not_before = result.not_before


class _Again(BaseRetryStrategy):
    """Of procrastinate's retries, only that of a delivery that is to come again: how often a job is tried is its own."""

    def get_retry_decision(self, *, exception: BaseException, job: Row) -> RetryDecision | None:
        if not isinstance(exception, _ReturnedError):
            return None
        at = exception.not_before
        return RetryDecision(retry_at=datetime.now(UTC) + _AGAIN if at is None else datetime.fromtimestamp(at, UTC))


def _said(result: RunResult) -> str:
    """The fate, for procrastinate's log."""
    if result.fate is RunFate.RETURNED:
        raise _ReturnedError(result)
    return result.fate.value


def _psycopg(driver: object, kind: type) -> Any:
    if not isinstance(driver, kind):
        raise DispatchError(f"procrastinate writes through psycopg, not {type(driver).__module__}: give transactional=False")
    return driver
