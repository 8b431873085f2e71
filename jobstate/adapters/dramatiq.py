"""A dispatcher on Dramatiq 2, and the actor that runs its deliveries. Extra: `dramatiq`."""

from __future__ import annotations

from threading import Timer
from time import time
from typing import Any

from jobstate.extra import needs_extra
from jobstate.model import Delivery
from jobstate.running import Running
from jobstate.service import Jobs
from jobstate.worker import Handler, RunFate

with needs_extra("dramatiq"):
    import dramatiq
    from dramatiq.common import current_millis
    from dramatiq.middleware import Shutdown, raise_thread_exception  # pyright: ignore[reportUnknownVariableType]

_AGAIN = 1
"""Seconds until a delivery whose start met an error comes again."""


class DramatiqDispatcher:
    """A `Dispatcher` whose deliveries are messages of a Dramatiq broker: job id and run, as JSON, for the actor named `task`.

    The message's id is the `task_name`; Dramatiq drops no equal ids. How long `dispatch` waits for a broker that is down is for
    the broker's client to say.
    """

    transactional = False

    def __init__(self, broker: dramatiq.Broker, *, task: str = "jobstate_run", queue: str = "default") -> None:
        self._broker: Any = broker  # a Broker, whose types are not complete
        self._task = task
        self._queue = queue

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`. Raises the error of the broker's client."""
        return self._send(delivery, task_name, None)

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `dispatch`, not delivered before a time (Unix seconds); until then, a worker holds the message in memory."""
        return self._send(delivery, task_name, max(0, not_before * 1000 - current_millis()))

    def revoke(self, task_name: str) -> None:
        """Nothing: Dramatiq takes no message back. The delivery is dropped when it would start."""

    def register(
        self, jobs: Jobs, handler: Handler, *, retry_exceptions: bool = True, grace: float = 10.0
    ) -> dramatiq.Actor[[str, int], None]:
        """Make the broker's actor: in the worker, where `handler` is. As `run_job`; of its fates, the actor answers none.

        A worker that is told to stop sets `context.stopping`; `grace` seconds later it gives back what still runs, and raises
        Dramatiq's Shutdown in the handler. The actor has no retries, and no limit of time or age: those of the job hold.
        """
        running = Running()
        self._broker.add_middleware(_Stopping(running, grace))

        def run(job_id: str, run: int) -> None:
            delivery = Delivery(job_id=job_id, run=run)
            result = running.run(jobs, delivery, handler, retry_exceptions=retry_exceptions)
            if result.fate is RunFate.RETURNED:
                name = f"{job_id}-{run}-again"
                self.dispatch_at(delivery, name, result.not_before or int(time()) + _AGAIN)

        options: dict[str, Any] = {"max_retries": 0, "time_limit": float("inf"), "max_age": None, "notify_shutdown": False}
        known = {name: value for name, value in options.items() if name in self._broker.actor_options}
        return dramatiq.actor(broker=self._broker, actor_name=self._task, queue_name=self._queue, **known)(run)

    def _send(self, delivery: Delivery, task_name: str, delay: int | None) -> str:
        message = dramatiq.Message[None](
            queue_name=self._queue,
            actor_name=self._task,
            args=(delivery.job_id, delivery.run),
            kwargs={},
            options={},
            message_id=task_name,
        )
        self._broker.enqueue(message, delay=delay)
        return task_name


class _Stopping(dramatiq.Middleware):
    """Lets the stop of a worker reach what runs: told at once, interrupted after the grace."""

    def __init__(self, running: Running, grace: float) -> None:
        self._running = running
        self._grace = grace

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self._running.stop()
        timer = Timer(self._grace, self._running.interrupt, [_shut_down])
        timer.daemon = True
        timer.start()


def _shut_down(thread: int) -> None:
    raise_thread_exception(thread, Shutdown)  # type: ignore[no-untyped-call]
