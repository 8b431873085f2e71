"""Celery, Dramatiq and RQ, each on a Valkey server of its own, and with worker processes as its own command line makes them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import redis
from celery import Celery
from dramatiq.brokers.redis import RedisBroker
from dramatiq.cli import main, make_argument_parser  # pyright: ignore[reportUnknownVariableType]
from redis.backoff import ConstantBackoff
from redis.retry import Retry
from rq import Queue, Worker
from rq.serializers import JSONSerializer
from rq.worker import HerokuWorker

from jobstate.adapters.celery import CeleryDispatcher
from jobstate.adapters.dramatiq import DramatiqDispatcher
from jobstate.adapters.rq import RQDispatcher
from jobstate.worker import Handler
from tests.engines.engine import Engine
from tests.engines.place import Place
from tests.valkey import Valkey


def client_of(url: str) -> redis.Redis:
    """As docs/engines.md makes it: a server that is down is an error in less than a second."""
    retry = Retry(ConstantBackoff(0.2), 1)
    return redis.Redis.from_url(url, socket_connect_timeout=3, retry=retry)  # pyright: ignore[reportUnknownMemberType]


def broker_of(url: str) -> RedisBroker:
    return RedisBroker(client=client_of(url))  # type: ignore[no-untyped-call]


class OnValkey(Engine):
    """The broker is a Valkey server of its own."""

    def __init__(self, folder: Path) -> None:
        self._server = Valkey(folder)
        self.broker = self._server.url

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.kill()


class CeleryEngine(OnValkey):
    name = "celery"
    interrupt = signal.SIGQUIT  # a cold shutdown; SIGTERM waits
    tells_early = False

    @staticmethod
    def app(url: str) -> Celery:
        app = Celery("engines", broker=url)
        app.conf.broker_connection_retry_on_startup = True
        app.conf.worker_hijack_root_logger = False
        return app

    def dispatcher(self) -> CeleryDispatcher:
        return CeleryDispatcher(self.app(self.broker))

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        app = cls.app(place.broker)
        dispatcher = CeleryDispatcher(app)
        dispatcher.register(place.jobs(dispatcher), handler)
        app.worker_main(["worker", "--concurrency=2", "--loglevel=INFO", "--without-gossip", "--without-mingle"])


class RemappedCeleryEngine(CeleryEngine):
    """As Celery's manual has it for whoever sends SIGTERM, and will not wait."""

    name = "celery, remapped"
    environment: ClassVar[dict[str, str]] = {"REMAP_SIGTERM": "SIGQUIT"}
    interrupt = signal.SIGTERM


class DramatiqEngine(OnValkey):
    name = "dramatiq"

    @staticmethod
    def make(url: str) -> DramatiqDispatcher:
        return DramatiqDispatcher(broker_of(url))

    def dispatcher(self) -> DramatiqDispatcher:
        return self.make(self.broker)

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        os.environ["PLACE"] = json.dumps(place)
        arguments = ["tests.engines.dramatiq_worker:broker", "--processes=1", "--threads=2", "--path=."]
        main(make_argument_parser().parse_args(arguments))  # type: ignore[no-untyped-call]


class RQEngine(OnValkey):
    name = "rq"
    worker: ClassVar[type[Worker]] = Worker
    interrupts_children = True
    tells_early = False

    @staticmethod
    def queue(url: str) -> Queue:
        return Queue("jobs", connection=client_of(url), serializer=JSONSerializer)

    def dispatcher(self) -> RQDispatcher:
        return RQDispatcher(self.queue(self.broker), task=f"{__name__}.rq_run")

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        global rq_run
        queue = cls.queue(place.broker)
        dispatcher = RQDispatcher(queue, task=f"{__name__}.rq_run")
        rq_run = dispatcher.register(place.jobs(dispatcher), handler)
        cls.worker([queue], connection=queue.connection, serializer=JSONSerializer).work(with_scheduler=True)


class HastyWorker(HerokuWorker):
    imminent_shutdown_delay = 1


class HerokuRQEngine(RQEngine):
    """Its worker interrupts what runs, a while after it told it so."""

    name = "rq on heroku"
    worker: ClassVar[type[Worker]] = HastyWorker
    interrupts_children = False
    tells_early = True


rq_run: Callable[[str, int], None]
"""Where RQ's worker looks for its function."""
