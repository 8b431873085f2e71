from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from tests.postgresql import server
from tests.sql import engines
from tests.support import WORLDS, World, make_world
from tests.valkey import valkey
from tests.wire import Wire

__all__ = ["engines", "server", "valkey"]


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one more than there are cores, for some of the tests wait for a server or for a time to come."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session")
def wire(server: URL) -> Iterator[Wire]:
    """A wire to the shared server."""
    host = server.query.get("host") or server.host
    with Wire(str(host), server.port or 5432) as made:
        yield made


@pytest.fixture(params=[*WORLDS, pytest.param("postgresql", marks=pytest.mark.full)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A service with the default policy, once on each kind of store and in each colour."""
    url = request.getfixturevalue("server") if request.param == "postgresql" else None
    with make_world(request.param, tmp_path, url=url) as made:
        yield made
