"""An order and its job are there together or not at all; a worker process ships it; a failed one is shipped by a retry."""

import json
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import Popen
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from sqlalchemy import URL, create_engine, text

from jobstate import Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from tests.postgresql import emptied, engine_of

Start = Callable[..., Popen[bytes]]
Until = Callable[[Callable[[], object]], None]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Shop:
    def __init__(self, database: str, start: Start, until: Until) -> None:
        self.engine = create_engine(database)
        self._port = free_port()
        self._until = until
        variables = {"DATABASE_URL": database}
        assert start("-c", "import orders; orders.prepare()", **variables).wait() == 0
        start("-m", "flask", "--app", "orders", "run", "--port", str(self._port), **variables)
        self.worker = start("orders_worker.py", **variables)
        until(self._is_up)

    def _is_up(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)):
            return True
        return False

    def call(self, path: str, body: Any = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self._port}{path}", data, {"Content-Type": "application/json"})
        try:
            with urlopen(request) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            with error:
                return error.code, json.load(error)

    def comes_to(self, number: int, status: str) -> Any:
        self._until(lambda: self.call(f"/orders/{number}")[1]["status"] == status)
        return self.call(f"/orders/{number}")[1]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'orders.sqlite'}"
    url: URL = request.getfixturevalue("server").set(drivername="postgresql+psycopg")
    engine = engine_of(url)
    emptied(engine)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS orders"))
    engine.dispose()
    return url.render_as_string(hide_password=False)


@pytest.mark.full
def test_orders_are_shipped_by_jobs_of_their_own_transactions(database: str, start: Start, until: Until) -> None:
    shop = Shop(database, start, until)
    status, order = shop.call("/orders", {"item": "book", "quantity": 2})
    assert status == 202
    shipped = shop.comes_to(order["id"], "completed")
    assert shipped == {"item": "book", "status": "completed", "shipped": True, "parcel": "2 x book", "error": None}

    assert shop.call("/orders", {"item": "book", "quantity": 4})[0] == 409
    jobs = Jobs(SQLAlchemyRepository(shop.engine))
    with shop.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM orders")).scalar_one() == jobs.count() == 1

    _, lamp = shop.call("/orders", {"item": "lamp", "quantity": 1})
    assert shop.comes_to(lamp["id"], "failed")["error"] == "packaging_missing"
    assert shop.call(f"/orders/{order['id']}/retry", {}) == (409, {"error": "illegal_transition"})
    assert shop.call(f"/orders/{lamp['id']}/retry", {}) == (202, {"status": "queued"})
    assert shop.comes_to(lamp["id"], "completed")["shipped"]

    shop.worker.send_signal(signal.SIGTERM)
    assert shop.worker.wait(30) == 0
    shop.engine.dispose()
