"""`python -m benchmarks [part ...]`: what is compared is timed in turn, in one run. Needs what the tests need."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

from sqlalchemy import create_engine

from benchmarks import core, engines, http, parts, peers, process, sql, tasks
from benchmarks.measure import RESULTS, ROUNDS
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import MemoryRepository
from tests.postgresql import emptied, engine_of, running
from tests.sql import AUTOMATIC


def run_core() -> None:
    """What needs no store but the memory. Needs the extra `benchmarks`."""
    core.accepted()
    core.refused()
    core.flows()
    process.imports()
    process.memory()


def run_sql() -> None:
    """Each store whose commits wait for the disk, and one that does not have to."""
    for durable, kind in ((True, "on disk"), (False, "in memory")):
        folder = None if durable or not Path("/dev/shm").is_dir() else "/dev/shm"  # memory, on Linux
        with tempfile.TemporaryDirectory(dir=folder) as name:
            sql.sqlite(Path(name), kind)
            engine = create_engine(f"sqlite:///{name}/payloads.sqlite")
            repository = SQLAlchemyRepository(engine)
            repository.create_schema()
            sql.payloads(repository, f"SQLite, {kind}")
            engine.dispose()
        with running(durable=durable, folder=folder) as (url, _):
            sql.postgresql(url, kind)
            engine = engine_of(url, **AUTOMATIC)
            sql.payloads(SQLAlchemyRepository(engine), f"PostgreSQL, {kind}")
            emptied(engine)
            engine.dispose()
            sql.expiry(url)
            if not durable:
                sql.pages(url)


def run_parts() -> None:
    """Requests with a part in an artifact store, where writes wait for the disk and where they do not."""
    for kind, folder in (("on disk", None), ("in memory", "/dev/shm" if Path("/dev/shm").is_dir() else None)):
        with tempfile.TemporaryDirectory(dir=folder) as name:
            parts.large(Path(name), kind)
    parts.small()


def run_http() -> None:
    """Polling over HTTP, on each store."""
    http.in_folder()
    with running(durable=False) as (url, _):
        http.postgresql(url)


def run_engines() -> None:
    """A job on an engine, over a bare task of it."""
    engines.overhead(MemoryRepository(), "in memory")
    with running(durable=False) as (url, _):
        engine = engine_of(url, **AUTOMATIC)
        repository = SQLAlchemyRepository(engine)
        repository.create_schema()
        engines.overhead(repository, "on PostgreSQL")
        emptied(engine)
        engine.dispose()
        tasks.procrastinate(url)
        tasks.cloud_tasks(url)


def run_peers() -> None:
    """Those who keep their queue in PostgreSQL too: with commits that wait for the disk, and in memory."""
    for durable, kind in ((True, "on disk"), (False, "in memory")):
        folder = None if durable or not Path("/dev/shm").is_dir() else "/dev/shm"
        with running(durable=durable, folder=folder) as (url, _):
            peers.lives(url, kind)


PARTS = {"core": run_core, "sql": run_sql, "parts": run_parts, "http": run_http, "engines": run_engines, "peers": run_peers}


def main() -> None:
    """Run the parts that are asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--json", type=Path, help="write the results to this file too")
    asked = parser.parse_args()
    print(f"{platform.python_version()} on {platform.machine()}, medians of {ROUNDS} rounds unless it says otherwise")
    print(f"{'what':<78} {'first':>14} {'second':>14}  ratio  (range)")
    for name in asked.parts or PARTS:
        PARTS[name]()
    if asked.json:
        asked.json.write_text(json.dumps([result._asdict() for result in RESULTS], indent=1) + "\n")


if __name__ == "__main__":
    main()
