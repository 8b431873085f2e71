"""The dispatchers on Celery, Dramatiq and RQ: their contract, and what each does of its own, on a real server."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol, cast

import dramatiq
import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.signals import setup_logging
from celery.worker.state import revoked
from rq import Queue, SimpleWorker
from rq.serializers import JSONSerializer

from jobstate import Delivery, JobNotFoundError, Jobs
from jobstate.adapters.celery import CeleryDispatcher
from jobstate.adapters.dramatiq import DramatiqDispatcher
from jobstate.adapters.rq import RQDispatcher
from jobstate.testing.contracts import (
    Capability,
    DispatcherContract,
    DispatcherRaces,
)
from tests.engines.redis_engines import broker_of, client_of
from tests.support import until
from tests.valkey import Valkey, running

pytestmark = pytest.mark.full

LACKS = {Capability.TRANSACTION: "a broker takes part in no transaction of the database"}
JOB = "job_" + "0" * 21
FAST = 5.0
"""Seconds within which a dispatch fails when the broker is down."""


class Receiver:
    """What a worker has instead of `Jobs`: it knows no job, and notes each delivery."""

    def __init__(self) -> None:
        self.received: deque[Delivery] = deque()

    def start(self, delivery: Delivery) -> Any:
        self.received.append(delivery)
        raise JobNotFoundError(delivery.job_id)

    def take(self) -> list[Delivery]:
        return [self.received.popleft() for _ in range(len(self.received))]


class Delayed(Protocol):
    """What the three have in common."""

    transactional: bool

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str: ...
    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str: ...
    def revoke(self, task_name: str) -> None: ...


class Worked:
    """A dispatcher, and a worker of its engine in this process."""

    def __init__(self, url: str) -> None:
        self.receiver = Receiver()

    dispatcher: Delayed

    def received(self) -> list[Delivery]:
        return self.receiver.take()

    def waiting(self) -> list[Any]:
        """The messages that wait, as they are."""
        raise NotImplementedError

    def start(self) -> None: ...

    def stop(self) -> None: ...


def _as_it_is(**_: Any) -> None:
    """A worker in the process leaves the logging of the tests alone."""


class OnCelery(Worked):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.app = Celery("tests", broker=url, set_as_current=False)
        self.dispatcher = CeleryDispatcher(self.app)
        self.client = client_of(url)
        self._worker: AbstractContextManager[Any] | None = None

    def start(self) -> None:
        CeleryDispatcher(self.app).register(cast("Jobs", self.receiver), no_handler)
        setup_logging.connect(_as_it_is)
        self._worker = start_worker(self.app, perform_ping_check=False, pool="solo", loglevel="CRITICAL")
        self._worker.__enter__()
        until(lambda: bool(self.app.control.ping(timeout=0.2, limit=1)))  # its control is heard only some time after its start

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.__exit__(None, None, None)
            revoked.clear()  # the next worker of this process would drop the same names
            setup_logging.disconnect(_as_it_is)

    def waiting(self) -> list[Any]:
        return [json.loads(body) for body in cast("list[bytes]", self.client.lrange("celery", 0, -1))]


class OnDramatiq(Worked):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.broker = broker_of(url)
        self.dispatcher = DramatiqDispatcher(self.broker)
        self._worker: dramatiq.Worker | None = None

    def start(self) -> None:
        DramatiqDispatcher(self.broker).register(cast("Jobs", self.receiver), no_handler)
        self._worker = dramatiq.Worker(self.broker, worker_threads=2, worker_timeout=10)
        self._worker.start()

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()


class InThisThread(SimpleWorker):
    """It leaves the signals of the tests alone."""

    def _install_signal_handlers(self) -> None: ...


class OnRQ(Worked):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.queue = Queue("tests", connection=client_of(url), serializer=JSONSerializer)
        self.dispatcher = RQDispatcher(self.queue, task=f"{__name__}.rq_run")
        self._works = False

    def start(self) -> None:
        global rq_run
        rq_run = RQDispatcher(self.queue, task="itself").register(cast("Jobs", self.receiver), no_handler)
        self._works = True

    def received(self) -> list[Delivery]:
        if self._works:
            worker = InThisThread([self.queue], connection=self.queue.connection, serializer=JSONSerializer)
            worker.work(burst=True, with_scheduler=True, logging_level="CRITICAL")
        return super().received()


rq_run: Callable[[str, int], None]


def no_handler(request: Any, context: Any) -> None:
    raise AssertionError("nothing is started")


ENGINES: list[type[Worked]] = [OnCelery, OnDramatiq, OnRQ]


@pytest.fixture(autouse=True)
def place(valkey: Valkey) -> str:
    """An empty server."""
    valkey.empty()
    Opens.url = valkey.url
    return valkey.url


class Opens:
    """Each with a worker that runs."""

    url: ClassVar[str]
    engine: ClassVar[type[Worked]]

    def open_dispatcher(self, folder: Path) -> Delayed:
        self.worked = self.engine(self.url)
        self.worked.start()
        return self.worked.dispatcher

    def received(self, dispatcher: Any) -> list[Delivery]:
        return self.worked.received()

    def close_dispatcher(self, dispatcher: Any) -> None:
        self.worked.stop()


class TestCelery(Opens, DispatcherContract):
    engine, lacks = OnCelery, LACKS


class TestCeleryRaces(Opens, DispatcherRaces):
    engine = OnCelery


class TestDramatiq(Opens, DispatcherContract):
    engine, lacks = OnDramatiq, LACKS


class TestDramatiqRaces(Opens, DispatcherRaces):
    engine = OnDramatiq


class TestRQ(Opens, DispatcherContract):
    engine, lacks = OnRQ, LACKS


class TestRQRaces(Opens, DispatcherRaces):
    engine = OnRQ


def delivery(run: int = 1) -> Delivery:
    return Delivery(job_id=JOB, run=run)


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_for_later_does_not_come_before(engine: type[Worked], place: str) -> None:
    """And comes then."""
    worked = engine(place)
    worked.start()
    try:
        not_before = int(time.time()) + 2
        worked.dispatcher.dispatch_at(delivery(), "later", not_before)
        until(lambda: worked.received() == [delivery()])
        assert time.time() >= not_before
    finally:
        worked.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_what_was_revoked_is_not_delivered(engine: type[Worked], place: str) -> None:
    """Where the engine can: Celery's workers must run when they are told; Dramatiq has no such thing."""
    worked = engine(place)
    if engine is OnCelery:
        worked.start()
    name = worked.dispatcher.dispatch_at(delivery(), "gone", int(time.time()) + 2)
    worked.dispatcher.revoke(name)
    if engine is not OnCelery:
        worked.start()
    try:
        worked.dispatcher.dispatch_at(delivery(2), "next", int(time.time()) + 3)
        found: list[Delivery] = []

        def came() -> bool:
            found.extend(worked.received())
            return delivery(2) in found

        until(came)
        assert (delivery() in found) == (engine is OnDramatiq)
    finally:
        worked.stop()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_broker_that_is_down_is_an_error_within_seconds(engine: type[Worked]) -> None:
    with running() as server:
        worked = engine(server.url)
        server.stop()
        begin = time.monotonic()
        with pytest.raises(Exception, match=r"111|[Cc]onnect"):
            worked.dispatcher.dispatch(delivery(), "never")
        assert time.monotonic() - begin < FAST
        server.start()
        worked.dispatcher.dispatch(delivery(), "now")  # the same dispatcher, once it is back


def test_a_delivery_is_job_and_run_in_json(place: str) -> None:
    """Nothing of the request, and nothing that is unpickled."""
    celery, rq, broker = OnCelery(place), OnRQ(place), OnDramatiq(place)
    for worked in (celery, rq, broker):
        worked.dispatcher.dispatch(delivery(), "name")
    (message,) = celery.waiting()
    assert (message["content-type"], message["headers"]["id"]) == ("application/json", "name")
    assert message["headers"]["argsrepr"] == f"['{JOB}', 1]"
    job = rq.queue.fetch_job("name")
    assert job is not None
    assert (job.timeout, job.result_ttl, json.loads(job.data)[2:]) == (-1, 0, [[JOB, 1], {}])
    (body,) = cast("list[bytes]", client_of(place).hvals("dramatiq:default.msgs"))
    stored = json.loads(body)
    assert (stored["args"], stored["kwargs"], stored["message_id"]) == ([JOB, 1], {}, "name")
