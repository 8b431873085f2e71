"""What a job costs on an engine, over a bare task of that engine: published, carried, run by one worker in this process."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Semaphore
from typing import Any

import dramatiq
from celery import Celery
from celery.contrib.testing.worker import start_worker
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from benchmarks.measure import compare
from jobstate import Jobs
from jobstate.adapters.celery import CeleryDispatcher
from jobstate.adapters.dramatiq import DramatiqDispatcher
from jobstate.adapters.rq import RQDispatcher
from jobstate.context import Context
from jobstate.ports import Dispatcher, Repository
from tests.engines.redis_engines import broker_of, client_of
from tests.valkey import running

TASKS = 50
"""In each measurement."""
done = Semaphore(0)
JOB = ("job_" + "0" * 21, 1)
"""What a bare task is given: as long as a delivery is."""


def handler(request: Any, context: Context) -> None:
    pass


def bare(_job_id: str, _run: int) -> None:
    """The task that is nothing but a task."""
    done.release()


class Engine:
    """A dispatcher with its task; `send` publishes a bare one; `work` returns when so many tasks were run."""

    dispatcher: Dispatcher
    send: Callable[[], object]

    def work(self, count: int) -> None:
        for _ in range(count):
            assert done.acquire(timeout=60)


@contextmanager
def celery(url: str, repository: Repository) -> Generator[Engine]:
    """A worker in a thread."""
    app, engine = Celery("benchmarks", broker=url, set_as_current=False), Engine()
    dispatcher = engine.dispatcher = CeleryDispatcher(app)
    task: Any = dispatcher.register(Jobs(repository), handler)
    task.run = _counted(task.run)
    app.task(name="jobstate.bare", shared=False, ignore_result=True, acks_late=True)(bare)
    engine.send = lambda: app.send_task("jobstate.bare", args=JOB, ignore_result=True)
    with start_worker(app, perform_ping_check=False, pool="solo", loglevel="CRITICAL"):
        yield engine


@contextmanager
def dramatiq_(url: str, repository: Repository) -> Generator[Engine]:
    """A worker in a thread, that runs one task at a time."""
    broker, engine = broker_of(url), Engine()
    dispatcher = engine.dispatcher = DramatiqDispatcher(broker)
    actor = dispatcher.register(Jobs(repository), handler)
    actor.fn = _counted(actor.fn)
    bare_actor = dramatiq.actor(broker=broker, actor_name="bare", queue_name="default", max_retries=0)(bare)
    engine.send = lambda: bare_actor.send(*JOB)
    worker = dramatiq.Worker(broker, worker_threads=1, worker_timeout=10)
    worker.start()
    yield engine
    worker.stop()


class InThisThread(SimpleWorker):
    """It does not fork: a process for each task would hide the rest."""

    def _install_signal_handlers(self) -> None: ...


rq_run: Callable[[str, int], None]


@contextmanager
def rq(url: str, repository: Repository) -> Generator[Engine]:
    """A worker in this thread."""
    global rq_run
    queue = Queue("benchmarks", connection=client_of(url), serializer=JSONSerializer)
    dispatcher = RQDispatcher(queue, task=f"{__name__}.rq_run")
    rq_run = _counted(dispatcher.register(Jobs(repository), handler))

    class Burst(Engine):
        def work(self, count: int) -> None:
            worker = InThisThread([queue], connection=queue.connection, serializer=JSONSerializer)
            worker.work(burst=True, logging_level="CRITICAL")
            super().work(count)

    engine = Burst()
    engine.dispatcher = dispatcher
    path: Any = f"{__name__}.bare"
    enqueue: Any = queue.enqueue
    engine.send = lambda: enqueue(path, args=JOB, result_ttl=0)
    yield engine


def _counted(run: Callable[..., Any]) -> Callable[..., Any]:
    def counted(*args: Any) -> None:
        run(*args)
        done.release()

    return counted


def overhead(repository: Repository, kind: str) -> None:
    """Each engine in turn, with a server of its own."""
    for name, opened in (("Celery", celery), ("Dramatiq", dramatiq_), ("RQ, without its fork", rq)):
        with running() as server, opened(server.url, repository) as engine:
            _compare(engine, Jobs(repository), f"{TASKS} jobs on {name}, rows {kind} / bare tasks")


def _compare(engine: Engine, jobs: Jobs, title: str) -> None:
    waiting: list[Any] = []

    def create() -> None:
        waiting[:] = [jobs.create("/x", {}, organization_id="org") for _ in range(TASKS)]

    def ours() -> None:
        for job in waiting:
            engine.dispatcher.dispatch(job.delivery, f"{job.id}-1-1")
        engine.work(TASKS)

    def theirs() -> None:
        for _ in range(TASKS):
            engine.send()
        engine.work(TASKS)

    compare(title, ours, theirs, before=create, rounds=7)
    create()
    ours()
    assert {jobs.retrieve(job.id).status for job in waiting} == {"completed"}
