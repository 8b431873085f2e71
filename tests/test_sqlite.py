"""What is SQLite's own: the schema, the transactions, the database's errors, and processes that die."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError

from jobstate import Job, Jobs, OutcomeUnknownError, RepositoryError, StaleJobError, UnreadableJobError, decide
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables
from jobstate.adapters.sqlalchemy.lines import Seen
from jobstate.lifecycle import Accepted, creation_record
from jobstate.model import PAYLOADS, Event
from jobstate.query import Due, JobFilter
from jobstate.testing import ManualClock
from tests.sql import AUTOMATIC
from tests.support import NOW, a_job

ROOT = Path(__file__).parent.parent


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}", connect_args={"timeout": 0.01})
    yield made
    made.dispose()


@pytest.fixture
def repository(engine: Engine) -> SQLAlchemyRepository:
    made = SQLAlchemyRepository(engine)
    made.create_schema()
    return made


@pytest.fixture
def statements(engine: Engine, repository: SQLAlchemyRepository) -> list[str]:
    seen: list[str] = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(_c: Any, _u: Any, statement: str, _p: Any, _x: Any, _m: bool) -> None:
        if not statement.startswith("PRAGMA"):
            seen.append(statement)

    return seen


def _stored(repository: SQLAlchemyRepository, **fields: Any) -> Job:
    job = a_job(**fields)
    assert repository.insert(job, creation_record(job)) is None
    return job


def _transition(job: Job, event: Event = Event.CANCEL) -> Accepted:
    decision = decide(job, event, NOW + 1, operation="op_test")
    assert isinstance(decision, Accepted)
    return decision


def test_every_field_of_a_job_has_its_columns_and_no_column_is_without_a_field() -> None:
    columns = set(Tables().jobs.c.keys())
    split = {"lease_token", "lease_expires_at"}
    assert (columns - split) | PAYLOADS | {"lease", "object"} == set(Job.model_fields)
    assert split < columns


def test_the_schema_may_be_created_by_several_at_once_and_again(engine: Engine) -> None:
    barrier = Barrier(4)

    def create(_: int) -> None:
        repository = SQLAlchemyRepository(engine)
        barrier.wait(10)
        repository.create_schema()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(create, range(4)))
    assert set(inspect(engine).get_table_names()) == {table.name for table in Tables().own}
    with engine.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"


def test_the_tables_stand_on_the_hosts_metadata_with_its_prefix(engine: Engine) -> None:
    metadata = MetaData()
    one = SQLAlchemyRepository(engine, Tables(metadata, prefix="one_"))
    two = SQLAlchemyRepository(engine, Tables(metadata, prefix="two_"))
    Table("own", metadata, Column("id", Integer))
    one.create_schema()
    assert set(inspect(engine).get_table_names()) == {"one_jobs", "one_payloads", "one_history", "one_schema_version"}
    two.create_schema()
    assert {"own", "one_jobs", "two_history"} < set(metadata.tables)
    _stored(one)
    assert one.count(JobFilter()) == 1
    assert two.count(JobFilter()) == 0


def test_a_transition_touches_no_payload_and_only_its_columns(repository: SQLAlchemyRepository, statements: list[str]) -> None:
    job = _stored(repository)
    statements.clear()
    repository.save(_transition(repository.load(job.id)))
    assert [words.split()[0] for words in statements] == ["SELECT", "BEGIN", "UPDATE", "INSERT", "COMMIT"]
    assert not any("payloads" in words for words in statements)
    update = next(words for words in statements if words.startswith("UPDATE"))
    written = {part.split("=")[0].strip() for part in update.split("SET")[1].split("WHERE")[0].split(",")}
    assert written == {"cancelled", "completed_at", "expires_at", "status", "version", "operation", "updated_at"}


def test_a_due_page_uses_its_partial_index_without_a_sort(engine: Engine, repository: SQLAlchemyRepository) -> None:
    for due in Due:
        statement = repository._store._reading.due(due, behind=True, payloads=(), hold=False, apart=True)
        statement.text = f"EXPLAIN QUERY PLAN {statement.text}"
        with engine.connect() as connection:
            plan = statement.run(Seen(connection), {"until": NOW, "limit": 10, "time": 0, "id": ""}).rows
            words = " ".join(str(row[-1]) for row in plan)
        assert f"jobstate_due_{due}" in words, words
        assert "TEMP B-TREE" not in words, words


def test_the_hosts_own_transactions_are_as_they_were(engine: Engine, repository: SQLAlchemyRepository) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE own (id INTEGER)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO own VALUES (1)"))
        connection.rollback()
    _stored(repository)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM own")).scalar() == 0


def test_an_unknown_status_is_a_named_error_and_stops_no_sweep(engine: Engine, repository: SQLAlchemyRepository) -> None:
    _stored(repository)
    other = _stored(repository, id="job_" + "B" * 21)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobstate_jobs SET status = 'paused' WHERE id = :id"), {"id": a_job().id})
    with pytest.raises(UnreadableJobError, match=r"job_A+ cannot be read: status: 'paused'"):
        repository.load(a_job().id)
    jobs = Jobs(repository, clock=ManualClock(NOW + 10**9))
    swept = jobs.expire()
    assert (swept.moved, swept.unreadable) == (1, (a_job().id,))
    assert repository.load(other.id).status == "expired"


def test_a_damaged_field_is_a_named_error(engine: Engine, repository: SQLAlchemyRepository) -> None:
    job = _stored(repository)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobstate_jobs SET error = '{'"))
    with pytest.raises(UnreadableJobError, match="error"):
        repository.load(job.id)


def test_a_lock_that_is_held_too_long_is_said_so_and_nothing_is_written(
    engine: Engine, repository: SQLAlchemyRepository
) -> None:
    job = _stored(repository)
    other = sqlite3.connect(str(engine.url.database), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 1")
        connection.info["jobstate"] = True
    with pytest.raises(RepositoryError, match="nothing was done: database is locked"):
        repository.save(_transition(job))
    other.execute("ROLLBACK")
    other.close()
    assert repository.load(job.id).version == 1
    assert len(repository.history(job.id)) == 1


def test_a_commit_that_fails_is_an_unknown_outcome(engine: Engine, repository: SQLAlchemyRepository) -> None:
    job = _stored(repository)

    @event.listens_for(engine, "before_cursor_execute")
    def fail(_c: Any, _u: Any, statement: str, _p: Any, _x: Any, _m: bool) -> None:
        if statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(OutcomeUnknownError, match=job.id):
        repository.save(_transition(job))
    answers = repository.save_many([_transition(job)])
    assert [type(answer) for answer in answers] == [OutcomeUnknownError]
    event.remove(engine, "before_cursor_execute", fail)
    assert repository.load(job.id).version == 1


def test_an_error_of_the_driver_is_an_error_of_the_port(engine: Engine, repository: SQLAlchemyRepository) -> None:
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE jobstate_history"))
    job = a_job()
    with pytest.raises(RepositoryError, match="nothing was done"):
        repository.insert(job, creation_record(job))
    with pytest.raises(RepositoryError, match="no such table"):
        repository.history(job.id)
    assert repository.count(JobFilter()) == 0


def test_one_bad_row_of_a_bulk_save_touches_no_other(repository: SQLAlchemyRepository) -> None:
    jobs = [_stored(repository, id="job_" + letter * 21) for letter in "ABC"]
    stale = _transition(jobs[1])
    repository.save(stale)
    clash = _transition(jobs[2])._replace(changes={**_transition(jobs[2]).changes, "id": jobs[0].id})
    answers = repository.save_many([_transition(jobs[0]), stale, clash])
    assert [type(answer) for answer in answers] == [type(None), StaleJobError, RepositoryError]
    assert [repository.load(job.id).version for job in jobs] == [2, 2, 1]


def test_a_database_that_cannot_serve_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="in memory belongs to one connection"):
        SQLAlchemyRepository(create_engine("sqlite://"))
    other = create_engine("sqlite:///other.sqlite")
    other.dialect.name = "mysql"
    with pytest.raises(ValueError, match="mysql is not supported: give an engine of sqlite or postgresql"):
        SQLAlchemyRepository(other)


_WORKER = """
import sys, time
from datetime import timedelta
from sqlalchemy import create_engine
from jobstate import Delivery, Jobs, Policy
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository

jobs = Jobs(SQLAlchemyRepository(create_engine("sqlite:///" + sys.argv[1])), policy=Policy(lease=timedelta(seconds=60)))
attempt = jobs.start(Delivery(job_id=sys.argv[2], run=1))
print("started", flush=True)
while True:
    attempt.heartbeat(progress=0.5)
"""


def test_a_worker_killed_in_the_middle_of_its_writes_is_rescued_and_the_job_runs_again(
    engine: Engine, repository: SQLAlchemyRepository
) -> None:
    clock = ManualClock(time.time())
    jobs = Jobs(repository, clock=clock)
    job = jobs.create("/x", {"a": 1}, organization_id="org")
    command = [sys.executable, "-c", _WORKER, str(engine.url.database), job.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "started\n"
        while jobs.retrieve(job.id).version < 20:
            assert worker.poll() is None
        worker.send_signal(signal.SIGKILL)
    assert jobs.sweep().rescue.moved == 0
    clock.advance(120)
    assert jobs.sweep().rescue.moved == 1
    clock.advance(60)
    attempt = jobs.start(jobs.retrieve(job.id).delivery)
    assert (attempt.number, attempt.job.run, attempt.job.last_failure_code) == (2, 2, "worker_lost")
    assert attempt.job.request == {"a": 1}
    assert attempt.complete("done").status == "completed"
    assert [str(record.event) for record in jobs.history(job.id)] == ["created", "start", "rescue", "start", "complete"]


def test_an_error_of_the_hosts_part_of_a_write_rolls_it_back_and_is_passed_on(repository: SQLAlchemyRepository) -> None:
    job = _stored(repository)

    def within(connection: Connection) -> None:
        connection.execute(text("INSERT INTO nowhere VALUES (1)"))

    with pytest.raises(OperationalError, match="no such table: nowhere"):
        repository.save(_transition(job), within=within)
    assert (repository.load(job.id).version, len(repository.history(job.id))) == (1, 1)


class Interrupted(sqlite3.Cursor):
    """Ctrl-C, right after a statement that was meant."""

    on: str | None = None

    def execute(self, statement: str, *values: Any) -> Interrupted:
        super().execute(statement, *values)
        if Interrupted.on is not None and statement.startswith(Interrupted.on):
            raise KeyboardInterrupt
        return self


class OfInterrupted(sqlite3.Connection):
    def cursor(self, factory: Any = Interrupted) -> Any:
        return super().cursor(factory)


@pytest.mark.parametrize("on", ["BEGIN", "INSERT INTO jobstate_jobs", "COMMIT"])
@pytest.mark.parametrize("options", [{}, AUTOMATIC], ids=["seen", "direct"])
def test_an_interrupt_in_a_statement_is_passed_on_and_leaves_nothing_open(
    tmp_path: Path, options: dict[str, Any], on: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'jobs.sqlite'}", connect_args={"factory": OfInterrupted}, **options)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository)
    assert jobs.count() == 0
    with monkeypatch.context() as patch:
        patch.setattr(Interrupted, "on", on)
        with pytest.raises(KeyboardInterrupt):
            jobs.create("/x", {}, organization_id="org")
    assert jobs.count() == (on == "COMMIT")
    jobs.create("/x", {}, organization_id="org")
    engine.dispose()
