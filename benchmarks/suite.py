"""The parts of the suite, by name. What a part needs is imported when it runs: peers, and servers from wheels."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine

KINDS = {"on disk": True, "in memory": False}
"""Whether commits wait for the disk."""


def _folder(durable: bool) -> str | None:
    """Where temporary files stand: on the disk, or in memory, on Linux."""
    return None if durable or not Path("/dev/shm").is_dir() else "/dev/shm"


@contextmanager
def _postgresql(durable: bool = False) -> Generator[URL]:
    """A server for one part."""
    from tests.postgresql import running

    with running(durable=durable, folder=_folder(durable)) as (url, _):
        yield url


@contextmanager
def _emptied(url: URL) -> Generator[Engine]:
    """An engine for the library alone; its tables are dropped at the end."""
    from tests.postgresql import emptied, engine_of
    from tests.sql import AUTOMATIC

    engine = engine_of(url, **AUTOMATIC)
    yield engine
    emptied(engine)
    engine.dispose()


def run_core() -> None:
    """What needs no store but the memory."""
    from benchmarks import core

    core.accepted()
    core.refused()
    core.flows()


def run_footprint() -> None:
    """What a process pays: an import, and jobs in memory."""
    from benchmarks import process

    process.imports()
    process.memory()


def run_sql() -> None:
    """Loading and saving, and the size of a request, on each store."""
    from sqlalchemy import create_engine

    from benchmarks import sql
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository

    for kind, durable in KINDS.items():
        with tempfile.TemporaryDirectory(dir=_folder(durable)) as name:
            sql.sqlite(Path(name), kind)
            engine = create_engine(f"sqlite:///{name}/payloads.sqlite")
            SQLAlchemyRepository(engine).create_schema()
            sql.payloads(SQLAlchemyRepository(engine), f"SQLite, {kind}")
            engine.dispose()
        with _postgresql(durable) as url:
            sql.postgresql(url, kind)
            with _emptied(url) as engine:
                sql.payloads(SQLAlchemyRepository(engine), f"PostgreSQL, {kind}")


def run_rows() -> None:
    """Many rows on PostgreSQL: expired, and paged through."""
    from benchmarks import sql

    with _postgresql(durable=True) as url:
        sql.expiry(url, "on disk")
    with _postgresql() as url:
        sql.expiry(url, "in memory")
        sql.pages(url)


def run_parts() -> None:
    """Requests with a part in an artifact store, on disk and in memory."""
    from benchmarks import parts

    for kind, durable in KINDS.items():
        with tempfile.TemporaryDirectory(dir=_folder(durable)) as name:
            parts.large(Path(name), kind)
    parts.small()


def run_http() -> None:
    """Polling over HTTP, on each store."""
    from benchmarks import http

    http.in_folder()
    with _postgresql() as url:
        http.postgresql(url)


def run_engines() -> None:
    """A job on an engine, over a bare task of it."""
    from benchmarks import engines, tasks
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from jobstate.memory import MemoryRepository

    engines.overhead(MemoryRepository(), "in memory")
    with _postgresql() as url:
        with _emptied(url) as engine:
            repository = SQLAlchemyRepository(engine)
            repository.create_schema()
            engines.overhead(repository, "on PostgreSQL")
        tasks.procrastinate(url)
        tasks.cloud_tasks(url)


def run_peers() -> None:
    """Those who keep their queue in PostgreSQL too, with commits that wait for the disk, and in memory."""
    from benchmarks import oban, peers

    more = (oban.Oban,) if find_spec("oban") else ()
    for kind, durable in KINDS.items():
        with _postgresql(durable) as url:
            peers.lives(url, kind, *more)


def run_processes() -> None:
    """More and more worker processes on one PostgreSQL."""
    from benchmarks import processes

    with _postgresql() as url:
        processes.lives(url)


PARTS: dict[str, Callable[[], None]] = {
    "core": run_core,
    "footprint": run_footprint,
    "sql": run_sql,
    "rows": run_rows,
    "parts": run_parts,
    "http": run_http,
    "engines": run_engines,
    "peers": run_peers,
    "processes": run_processes,
}
