"""A dispatcher on RQ, and the function that runs its deliveries. Extra: `rq`."""

from __future__ import annotations

import signal
from collections.abc import Callable
from datetime import UTC, datetime
from time import time
from typing import Any
from uuid import uuid4

from jobstate.extra import needs_extra
from jobstate.model import Delivery
from jobstate.running import Running
from jobstate.service import Jobs
from jobstate.worker import Handler, RunFate

with needs_extra("rq"):
    from rq import Queue

_AGAIN = 1
"""Seconds until a delivery whose start met an error comes again."""
_FAILED = 86_400
"""Seconds for which RQ keeps what it counts as failed, such as a killed worker's job."""


class RQDispatcher:
    """A `Dispatcher` whose deliveries are jobs of an RQ queue: job id and run, for the function at the path `task`.

    RQ's own job goes by the `task_name`; RQ does not drop an equal name, but writes over it. `task` is where a worker finds
    what `register` answered: "service.worker.run". How long `dispatch` waits for a server that is down is for the queue's
    connection to say; whether the message is JSON, or pickled (text and a number), for the queue's serializer.
    """

    transactional = False

    def __init__(self, queue: Queue, *, task: str) -> None:
        self._queue: Any = queue  # a Queue, whose types are not complete
        self._options: dict[str, Any] = {"f": task, "job_timeout": -1, "result_ttl": 0, "failure_ttl": _FAILED}

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`. Raises the error of the queue's connection."""
        self._queue.enqueue(**self._task(delivery, task_name))
        return task_name

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `dispatch`, not delivered before a time (Unix seconds). A worker with RQ's scheduler has to be there."""
        self._queue.enqueue_at(datetime.fromtimestamp(not_before, UTC), **self._task(delivery, task_name))
        return task_name

    def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`: what waits is deleted, what runs goes on."""
        job = self._queue.fetch_job(task_name)
        if job is not None and (job.is_queued or job.is_scheduled):
            job.delete()

    def register(self, jobs: Jobs, handler: Handler, *, retry_exceptions: bool = True) -> Callable[[str, int], None]:
        """The function for the worker, to stand at the path `task`. As `run_job`; of its fates, the function answers none.

        A signal that would end the process in which the handler runs ends the handler only, and the job is given back.
        """
        running = Running(*_SIGNALS)

        def run(job_id: str, run: int) -> None:
            delivery = Delivery(job_id=job_id, run=run)
            result = running.run(jobs, delivery, handler, retry_exceptions=retry_exceptions)
            if result.fate is RunFate.RETURNED:  # under a name of its own: RQ deletes this one when this call is over
                self.dispatch_at(delivery, str(uuid4()), result.not_before or int(time()) + _AGAIN)

        return run

    def _task(self, delivery: Delivery, task_name: str) -> dict[str, Any]:
        return {**self._options, "args": (delivery.job_id, delivery.run), "job_id": task_name}


_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGRTMIN", "SIGALRM") if hasattr(signal, name)
)  # the last two are HerokuWorker's
