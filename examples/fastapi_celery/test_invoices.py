"""Web side, broker and workers as processes of their own: a job is done, also when the broker is down or a worker is killed."""

import json
import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from subprocess import Popen
from typing import Any
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import URL

from tests.postgresql import emptied, engine_of
from tests.valkey import Valkey

Start = Callable[..., Popen[bytes]]
Until = Callable[[Callable[[], object]], None]


class Service:
    def __init__(self, database: str, broker: str, start: Start, until: Until) -> None:
        self._until = until
        self._start = start
        self._variables = {"DATABASE_URL": database, "REDIS_URL": broker}
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        start("-m", "uvicorn", "invoices_web:web", "--port", str(self._port), **self._variables)
        until(self._is_up)

    def work(self) -> Popen[bytes]:
        options = ("--concurrency=1", "--without-gossip", "--without-mingle", "--loglevel=INFO")
        return self._start("-m", "celery", "-A", "invoices_worker", "worker", *options, **self._variables)

    def _is_up(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False

    def call(self, path: str = "", body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json", "Api-Key": "key-17"}
        with urlopen(Request(f"http://127.0.0.1:{self._port}/v1/jobs{path}", data, headers)) as answer:
            return answer.status, json.load(answer)

    def create(self, *lines: dict[str, float]) -> tuple[int, Any]:
        return self.call(body={"endpoint": "/v1/invoices/total", "request": {"lines": lines}})

    def comes_to(self, job: Any, status: str) -> Any:
        self._until(lambda: self.call(f"/{job['id']}")[1]["status"] == status)
        return self.call(f"/{job['id']}?include_response=true")[1]


@pytest.fixture
def service(server: URL, valkey: Valkey, start: Start, until: Until) -> Service:
    valkey.empty()
    url = server.set(drivername="postgresql+psycopg")
    engine = engine_of(url)
    emptied(engine)
    engine.dispose()
    return Service(url.render_as_string(hide_password=False), valkey.url, start, until)


@pytest.mark.full
def test_jobs_are_done_by_workers_of_celery_also_after_an_outage_of_the_broker(service: Service, valkey: Valkey) -> None:
    service.work()
    status, job = service.create({"price": 12.5, "quantity": 2}, {"price": 1})
    assert status == 200
    assert service.comes_to(job, "completed")["response"]["body"] == {"total": 26.0}
    assert service.comes_to(service.create()[1], "failed")["error"]["code"] == "no_lines"

    valkey.kill()
    status, job = service.create({"price": 3})
    assert (status, [warning["code"] for warning in job["warnings"]]) == (202, ["dispatch_delayed"])
    valkey.start()
    assert service.comes_to(job, "completed")["response"]["body"] == {"total": 3.0}


@pytest.mark.full
def test_the_job_of_a_killed_worker_is_taken_over(service: Service) -> None:
    worker = service.work()
    _, job = service.create({"price": 2, "seconds": 60})
    service.comes_to(job, "in_progress")
    os.killpg(worker.pid, signal.SIGKILL)
    service.work()
    done = service.comes_to(job, "completed")
    assert (done["attempt_count"], done["response"]["body"]) == (2, {"total": 2.0})
