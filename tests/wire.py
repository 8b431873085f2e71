"""A wire between a client and a PostgreSQL server that can be cut: answers are lost as they are lost in the world."""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Lock, Thread
from typing import Self

READY = b"Z\x00\x00\x00\x05"
"""The server's word that a statement, and its transaction, is over. Source: PostgreSQL documentation, 54.7 Message Formats."""


class Wire:
    """Listens on loopback, and passes on what it hears to the server: a folder with its socket, or a host.

    `lose(skip)`: after `skip` more statements, the next one is carried out by the server, and its answer is thrown away with
    the connection; `keep()` takes that back. `cut()`: every connection is closed at once, and new ones are not taken until
    `mend()`.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = Lock()
        self._losing: int | None = None
        self._whole = True
        self._open: list[socket.socket] = []

    @property
    def _address(self) -> str | tuple[str, int]:
        folder = self._host.startswith("/")
        return f"{self._host}/.s.PGSQL.{self._port}" if folder else (self._host, self._port)

    def __enter__(self) -> Self:
        Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self.cut()

    def lose(self, skip: int = 0) -> None:
        with self._lock:
            self._losing = skip

    def keep(self) -> None:
        """No answer is lost any more."""
        with self._lock:
            self._losing = None

    def cut(self) -> None:
        with self._lock:
            self._whole = False
            for end in self._open:
                _close(end)
            self._open.clear()

    def mend(self) -> None:
        with self._lock:
            self._whole = True

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX if self._host.startswith("/") else socket.AF_INET)
                with self._lock:
                    whole = self._whole
                    self._open += [client, server]
                try:
                    if not whole:
                        raise ConnectionRefusedError
                    server.connect(self._address)
                except OSError:
                    _close(client)
                    server.close()
                    continue
                Thread(target=self._pass_on, args=(client, server, False), daemon=True).start()
                Thread(target=self._pass_on, args=(server, client, True), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if answers and READY in data and self._is_lost():
                    break
                target.sendall(data)
        _close(source)
        _close(target)

    def _is_lost(self) -> bool:
        with self._lock:
            if self._losing is None:
                return False
            self._losing -= 1
            if self._losing >= 0:
                return False
            self._losing = None
            return True


def _close(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
