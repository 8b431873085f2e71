"""The SQL repository against statements written by hand on the bare driver, and against itself at other sizes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from pydantic_core import from_json
from sqlalchemy import URL, ClauseElement, create_engine

from benchmarks.measure import compare
from jobstate import Event, Job, Jobs, Policy, decide
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables
from jobstate.adapters.sqlalchemy.codec import SNAPSHOT, Row, Write
from jobstate.adapters.sqlalchemy.sqlite import SQLite
from jobstate.lifecycle import Accepted
from jobstate.payload import encode
from jobstate.query import JobFilter, PageRequest
from jobstate.testing import ManualClock
from tests.postgresql import emptied, engine_of
from tests.rows import filled, row_id
from tests.sql import AUTOMATIC

POLICY = Policy(max_attempts=1_000_000)


def new_job(repository: SQLAlchemyRepository, request: dict[str, Any] | None = None) -> str:
    """The id of a job that was just created."""
    return Jobs(repository, policy=POLICY).create("/x", request or {}, organization_id="org").id


def _cancelled(job: Job) -> Accepted:
    decision = decide(job, Event.CANCEL, job.updated_at, operation="op")
    assert isinstance(decision, Accepted)
    return decision


def _at(decision: Accepted, version: int) -> Accepted:
    """The same transition of another version: a store does not ask what may follow what."""
    return decision._replace(version=version, changes={**decision.changes, "version": version + 1})


def through(repository: SQLAlchemyRepository, job_id: str) -> Callable[[], None]:
    """Load, and save a transition with its record."""
    decision = _cancelled(repository.load(job_id))

    def both() -> None:
        repository.save(_at(decision, repository.load(job_id).version))

    return both


def _nothing() -> ClauseElement:
    raise AssertionError("the statement has been used")


def _saved(repository: SQLAlchemyRepository, job_id: str) -> Write:
    """What a save writes, so that its statement is there, and its values."""
    decision = _cancelled(repository.load(job_id))
    repository.save(decision)
    return Write.moved(decision, recorded=True)


def _following(version: int) -> Row:
    """The values of a save that differ from one to the next."""
    changes = encode({"cancelled": True, "version": version + 1})
    return {"at_version": version, "version": version + 1, "record_version": version + 1, "record_changes": changes}


def postgresql(url: URL, kind: str) -> None:
    """Read and compare-and-set on PostgreSQL, and the same two statements by hand on psycopg."""
    engine = engine_of(url, **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    ours, theirs = new_job(repository), new_job(repository)
    write = _saved(repository, theirs)
    store = repository._store
    read, save = store._reading.load(False, ()).text, store.backend.kept.get(("save", write.shape), _nothing).text
    connection = psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def by_hand() -> None:
        with connection.cursor() as cursor:
            row = cursor.execute(read.encode(), {"id": theirs}).fetchone()
            assert row is not None
            version = dict(zip(SNAPSHOT, from_json(row[0]), strict=True))["version"]
            assert cursor.execute(save.encode(), {**write.values, **_following(version)}).rowcount == 1

    title = f"load and save on PostgreSQL, {kind} / the same statements on psycopg"
    compare(title, through(repository, ours), by_hand, 100, asked=1.43)
    connection.close()
    engine.dispose()


def sqlite(folder: Path, kind: str) -> None:
    """The same on SQLite, and on Python's sqlite3: there a save is a transaction of two statements."""
    file = folder / "jobs.sqlite"
    engine = create_engine(f"sqlite:///{file}", **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    ours, theirs = new_job(repository), new_job(repository)
    write = _saved(repository, theirs)
    store = repository._store
    assert isinstance(store.backend, SQLite)
    read, note = store._reading.load(False, ()), store.backend._record
    save = store.backend.kept.get(("save", write.shape[0]), _nothing)
    connection = sqlite3.connect(file, isolation_level=None)

    def by_hand() -> None:
        row = connection.execute(read.text, (theirs,)).fetchone()
        version = dict(zip(SNAPSHOT, from_json(row[0]), strict=True))["version"]
        values = {**write.values, **_following(version)}
        connection.execute("BEGIN IMMEDIATE")
        assert connection.execute(save.text, [values[name] for name in save.names or ()]).rowcount == 1
        connection.execute(note.text, [values[name] for name in note.names or ()])
        connection.execute("COMMIT")

    title = f"load and save on SQLite, {kind} / the same statements on sqlite3"
    compare(title, through(repository, ours), by_hand, 100, asked=2.22)
    connection.close()
    engine.dispose()


def payloads(repository: SQLAlchemyRepository, kind: str) -> None:
    """Every transition of a job with a 5 MB request, and of one with 1 KB."""
    jobs = Jobs(repository, policy=POLICY)
    sizes = {size: new_job(repository, {"data": "x" * size}) for size in (5_000_000, 1_000)}

    def life(size: int) -> Callable[[], object]:
        def run() -> None:
            attempt = jobs.start(jobs.retrieve(sizes[size]).delivery, include_request=False)
            attempt.heartbeat(0.5)
            attempt.give_back()
            jobs.cancel(sizes[size])
            jobs.retry(sizes[size])

        return run

    compare(f"five transitions on {kind}, a request of 5 MB / of 1 KB", life(5_000_000), life(1_000), 20, asked=1.1)


_EXPIRE = """
WITH moved AS (
    UPDATE jobstate_jobs SET status = 'expired', version = version + 1, operation = 'op', updated_at = %(now)s
    WHERE status <> 'expired' AND expires_at <= %(now)s RETURNING id, version, attempt_count
)
INSERT INTO jobstate_history (job_id, version, event, source, target, at, attempt, operation, actor, reason, changes)
SELECT id, version, 'expire', 'completed', 'expired', %(now)s, attempt_count, 'op', NULL, NULL, %(changes)s FROM moved
"""


def expiry(url: URL, kind: str, rows: int = 100_000) -> None:
    """A sweep over many due jobs, with their history, and one bare statement that does the same."""
    engine = engine_of(url, **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    now = 1_900_000_000
    jobs = Jobs(repository, clock=ManualClock(now))
    changes = encode({"status": "expired", "version": 4, "operation": "op", "updated_at": now})

    def prepared() -> None:
        emptied(engine)
        repository.create_schema()
        filled(engine, rows, due=True)

    def swept() -> None:
        assert jobs.expire().failed == 0

    def shared() -> None:
        with ThreadPoolExecutor(2) as sweepers:
            reports = [each.result() for each in (sweepers.submit(jobs.expire), sweepers.submit(jobs.expire))]
        assert sum(report.moved for report in reports) == rows

    def bare() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql(_EXPIRE, {"now": now, "changes": changes})

    title = f"expire {rows:,} on PostgreSQL, {kind}, history on"
    compare(f"{title} / one bare statement", swept, bare, rounds=3, before=prepared, asked=2.5)
    compare(f"{title}, by two sweepers / one bare statement", shared, bare, rounds=3, before=prepared, asked=2.5)
    emptied(engine)
    engine.dispose()


def pages(url: URL) -> None:
    """A page of 50 from the middle of a million jobs, and of a hundred thousand."""
    engine = engine_of(url, **AUTOMATIC)
    large, small = (SQLAlchemyRepository(engine, Tables(prefix=prefix)) for prefix in ("jobstate_", "small_"))
    for repository, rows in ((large, 1_000_000), (small, 100_000)):
        repository.create_schema()
        filled(engine, rows, prefix=repository.tables.prefix)

    def page(repository: SQLAlchemyRepository, rows: int) -> Callable[[], object]:
        where, asked = JobFilter(organization_id="org_7"), PageRequest(50, after=row_id(rows // 2))
        return lambda: repository.list(where, asked)

    title = "a page of 50 of 1,000,000 / of 100,000 on PostgreSQL"
    compare(title, page(large, 1_000_000), page(small, 100_000), 100, asked=1.5)
    emptied(engine)
    emptied(engine, "small_")
    engine.dispose()
