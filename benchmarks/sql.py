"""The SQL repository against statements written by hand on the bare driver, and against itself at other sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
from pydantic_core import from_json
from sqlalchemy import URL, ClauseElement, create_engine

from benchmarks.measure import compare
from jobstate import Event, Job, Jobs, Policy, decide
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.adapters.sqlalchemy.codec import SNAPSHOT, Write
from jobstate.lifecycle import Accepted
from jobstate.payload import encode
from tests.postgresql import engine_of

POLICY = Policy(max_attempts=1_000_000)
AUTOMATIC: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "skip_autocommit_rollback": True}


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


def _texts(repository: SQLAlchemyRepository, job_id: str) -> tuple[str, str, dict[str, Any], str]:
    """The statements that the repository itself uses, the values of a save, and the changes in its record."""
    decision = _cancelled(repository.load(job_id))
    repository.save(decision)
    write = Write(decision, history=True)
    assert write.record is not None
    store = repository._store
    save = store.backend.kept.get(("save", write.shape), _nothing).text
    values = {**write.row, "at_id": job_id, **{f"record_{name}": value for name, value in write.record.items()}}
    return store._reading.load(False, ()).text, save, values, write.record["changes"]


def postgresql(url: URL, kind: str) -> None:
    """Read and compare-and-set on PostgreSQL, and the same two statements by hand on psycopg."""
    engine = engine_of(url, **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    ours, theirs = new_job(repository), new_job(repository)
    read, save, values, changes = _texts(repository, theirs)
    connection = psycopg.connect(url.render_as_string(hide_password=False), autocommit=True)

    def by_hand() -> None:
        with connection.cursor() as cursor:
            row = cursor.execute(read.encode(), {"id": theirs}).fetchone()
            assert row is not None
            version = dict(zip(SNAPSHOT, from_json(row[0]), strict=True))["version"]
            own = {
                "at_version": version,
                "version": version + 1,
                "record_version": version + 1,
                "record_changes": encode(changes),
            }
            assert cursor.execute(save.encode(), {**values, **own}).rowcount == 1

    compare(f"load and save on PostgreSQL, {kind} / the same statements on psycopg", through(repository, ours), by_hand, 100)
    connection.close()
    engine.dispose()


def sqlite(folder: Path) -> None:
    """The same on SQLite, and on Python's sqlite3."""
    engine = create_engine(f"sqlite:///{folder / 'jobs.sqlite'}", **AUTOMATIC)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
