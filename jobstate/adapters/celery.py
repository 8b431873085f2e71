"""A dispatcher on Celery 5, and the task that runs its deliveries. Extra: `celery`."""

from __future__ import annotations

import signal
from datetime import UTC, datetime
from functools import cached_property
from time import time
from typing import Any

from jobstate.extra import needs_extra
from jobstate.model import Delivery
from jobstate.running import Running
from jobstate.service import Jobs
from jobstate.worker import Handler, RunFate

with needs_extra("celery"):
    from billiard.common import TERM_SIGNAL
    from celery import Celery, Task
    from celery.signals import worker_shutting_down
    from kombu.pools import ProducerPool, producers

_AGAIN = 1
"""Seconds until a delivery whose start met an error comes again."""
_PUBLISHING = {
    "max_retries": 1,
    "interval_start": 0.2,
    "interval_step": 0,
    "connect_retries_timeout": 3,
    "socket_connect_timeout": 3,
    "socket_timeout": 5,
    "confirm_publish": True,
}
"""A caller waits for `dispatch`: a broker that is down is an error after seconds, and the sweep dispatches again."""


class CeleryDispatcher:
    """A `Dispatcher` whose deliveries are messages of a Celery app: job id and run, as JSON, for the task named `task`.

    `queue` is the app's default queue, if None. The task's id is the `task_name`; Celery drops no equal ids. What the app's
    `broker_transport_options` do not say, publishing connects within 3 seconds, once more after 0.2, and answers within 5.
    """

    transactional = False

    def __init__(self, app: Celery, *, task: str = "jobstate.run", queue: str | None = None) -> None:
        self._app = app
        self._task = task
        self._queue = queue

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`. Raises the broker's OperationalError."""
        return self._send(delivery, task_name, None)

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `dispatch`, not delivered before a time (Unix seconds); until then, a worker holds the message in memory."""
        return self._send(delivery, task_name, datetime.fromtimestamp(not_before, UTC))

    def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`: the workers that run now drop the message when it comes to them."""
        with self._producers.acquire(block=True) as producer:
            self._app.control.revoke(task_name, connection=producer.connection, reply=False)

    def register(self, jobs: Jobs, handler: Handler, *, retry_exceptions: bool = True) -> Task[Any, Any]:
        """Make the app's task: in the worker, where `handler` is. As `run_job`; of its fates, the task answers none.

        A cold shutdown ends the handler, in a prefork pool, and the job is given back; in a pool of threads, any shutdown sets
        `context.stopping`.
        """
        running = Running(signal.SIGTERM, TERM_SIGNAL)

        def stop(**_: Any) -> None:
            running.stop()

        def run(task: Task[Any, Any], job_id: str, run: int) -> None:
            delivery = Delivery(job_id=job_id, run=run)
            result = running.run(jobs, delivery, handler, retry_exceptions=retry_exceptions)
            if result.fate is RunFate.RETURNED:
                self.dispatch_at(delivery, str(task.request.id), result.not_before or int(time()) + _AGAIN)

        worker_shutting_down.connect(stop, weak=False)
        return self._app.task(
            name=self._task,
            shared=False,
            bind=True,
            acks_late=True,
            reject_on_worker_lost=True,
            ignore_result=True,
            max_retries=0,
        )(run)

    def _send(self, delivery: Delivery, task_name: str, eta: datetime | None) -> str:
        with self._producers.acquire(block=True) as producer:
            self._app.send_task(
                self._task,
                args=[delivery.job_id, delivery.run],
                task_id=task_name,
                queue=self._queue,
                eta=eta,
                expires=None,
                serializer="json",
                ignore_result=True,
                add_to_parent=False,
                retry=False,
                producer=producer,
            )
        return task_name

    @cached_property
    def _producers(self) -> ProducerPool:
        options = _PUBLISHING | dict(self._app.conf.broker_transport_options)
        pool: ProducerPool = producers[self._app.connection_for_write(transport_options=options)]
        return pool
