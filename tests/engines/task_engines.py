"""procrastinate, whose tasks stand beside the jobs; Cloud Tasks, whose workers are web servers on one port."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from sqlalchemy import make_url

from jobstate.adapters.cloud_tasks import CloudTasksDispatcher
from jobstate.adapters.fastapi.cloud_tasks import cloud_tasks_router
from jobstate.adapters.procrastinate import ProcrastinateDispatcher
from jobstate.worker import Handler
from tests.cloud_tasks import QUEUE, CloudTasks, client_of, free_port
from tests.engines.engine import Engine
from tests.engines.place import Place
from tests.postgresql import engine_of
from tests.procrastinate_tables import app_of, prepared


class ProcrastinateEngine(Engine):
    name = "procrastinate"
    has_broker = False
    tells_early = False

    def __init__(self, folder: Path) -> None:
        self.broker = ""

    def start(self) -> None:
        engine = engine_of(self.database)
        prepared(engine, self.database)
        engine.dispose()

    def stop(self) -> None:
        """There is none."""

    def dispatcher(self) -> ProcrastinateDispatcher:
        return ProcrastinateDispatcher(app_of(self.database))

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        app = app_of(make_url(place.database))
        dispatcher = ProcrastinateDispatcher(app)
        dispatcher.register(place.jobs(dispatcher), handler)
        app.run_worker(concurrency=2, shutdown_graceful_timeout=0.5, fetch_job_polling_interval=0.5)


class CloudTasksEngine(Engine):
    """`broker` has two addresses: of Cloud Tasks, and of the workers, among which the system shares connections out."""

    name = "cloud_tasks"
    tells_early = False

    def __init__(self, folder: Path) -> None:
        self._cloud = CloudTasks()
        self.broker = f"{self._cloud.address} 127.0.0.1:{free_port()}"

    def start(self) -> None:
        self._cloud.start()

    def stop(self) -> None:
        self._cloud.stop()

    @staticmethod
    def make(broker: str) -> CloudTasksDispatcher:
        cloud, workers = broker.split()
        return CloudTasksDispatcher(client_of(cloud), QUEUE, f"http://{workers}/tasks/run", timeout=1)

    def dispatcher(self) -> CloudTasksDispatcher:
        return self.make(self.broker)

    @classmethod
    def work(cls, place: Place, handler: Handler) -> None:
        app = FastAPI()
        jobs = place.jobs(cls.make(place.broker))
        app.include_router(cloud_tasks_router(jobs, handler, caller=lambda: None))
        server = uvicorn.Server(uvicorn.Config(app, timeout_graceful_shutdown=1))
        server.run([_shared_port(int(place.broker.rsplit(":", 1)[1]))])


def _shared_port(port: int) -> socket.socket:
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
