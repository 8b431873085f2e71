"""The repository: transactions, compare-and-set, and the database's errors as the port's."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from jobstate.adapters.sqlalchemy.codec import encode_payload, job_of, record_of, record_row, row_of
from jobstate.adapters.sqlalchemy.statements import Statements, parameters
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import (
    JobNotFoundError,
    OutcomeUnknownError,
    RepositoryError,
    StaleJobError,
    UnreadableJobError,
)
from jobstate.lifecycle import Accepted
from jobstate.model import PAYLOADS, HistoryRecord, Job, JobFilter
from jobstate.ports import Within
from jobstate.query import Cursor, Due, DuePage, Listing, PageRequest

AnyJob = Job[Any, Any]

BUSY_TIMEOUT = 10_000
"""How long a connection waits at least for another one's write, in milliseconds; a longer time of the host's is kept."""


class SQLAlchemyRepository:
    """A `Repository` on a SQLAlchemy engine, for a SQLite file.

    Each write is one transaction (`BEGIN IMMEDIATE`), each read one statement. The engine stays the host's: no event is
    registered on it, and its own transactions are as they were. Thread- and process-safe.
    """

    def __init__(self, engine: Engine, tables: Tables | None = None) -> None:
        if engine.dialect.name != "sqlite":
            raise ValueError(f"engine: {engine.dialect.name} is not supported by this version: give a SQLite engine")
        if engine.url.database in (None, "", ":memory:"):
            raise ValueError("engine: a SQLite database in memory belongs to one connection: use a file, or MemoryRepository")
        self.tables = Tables() if tables is None else tables
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._statements = Statements(self.tables)

    def create_schema(self) -> None:
        """Create what is missing of the tables and indexes; safe to call at every start. Switches the file to WAL."""
        with self._read() as connection:
            _switch_to_wal(connection)
        with self._write("schema") as connection:
            self.tables.metadata.create_all(connection, tables=self.tables.own)

    @contextmanager
    def _errors(self) -> Generator[None]:
        """A driver's error is the port's."""
        try:
            yield
        except _WithinError as error:
            raise error.cause from None
        except SQLAlchemyError as error:
            raise RepositoryError(f"the database failed, nothing was done: {_words(error)}") from error

    @contextmanager
    def _read(self) -> Generator[Connection]:
        with self._errors(), self._engine.connect() as connection:
            self._prepare(connection)
            yield connection

    @contextmanager
    def _write(self, job_id: str) -> Generator[Connection]:
        """A transaction: committed at the end, rolled back by any error, and unknown if the commit itself fails."""
        with self._read() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                yield connection
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            try:
                connection.exec_driver_sql("COMMIT")
            except DBAPIError as error:
                raise OutcomeUnknownError(job_id, f"the commit failed: {_words(error)}") from error

    @staticmethod
    def _prepare(connection: Connection) -> None:
        if not connection.info.get("jobstate"):
            if int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()) < BUSY_TIMEOUT:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            connection.info["jobstate"] = True

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Within | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        statements = self._statements
        row = row_of(job.__dict__)
        with self._write(job.id) as connection:
            if connection.execute(statements.insert_job, row).rowcount != 1:
                standing = connection.execute(statements.standing, row).mappings().one()
                return job_of(standing)
            for name in PAYLOADS:
                if getattr(job, name) is not None:
                    self._write_payload(connection, job.id, name, getattr(job, name))
            connection.execute(statements.insert_record, record_row(record))
            _call(within, connection)
        return None

    def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        statement = self._statements.load(organization_id is not None, include_request, include_response)
        known = {} if organization_id is None else {"organization_id": organization_id}
        with self._read() as connection:
            row = connection.execute(statement, {"id": job_id, **known}).mappings().first()
        if row is None:
            raise JobNotFoundError(job_id)
        return job_of(row)

    def save(self, transition: Accepted, *, within: Within | None = None) -> None:
        """As `Repository.save`."""
        with self._write(transition.job_id) as connection:
            self._apply(connection, transition)
            _call(within, connection)

    def _apply(self, connection: Connection, transition: Accepted) -> None:
        at = {"at_id": transition.job_id, "at_version": transition.version}
        row = row_of(transition.changes)
        if connection.execute(self._statements.update_job(tuple(row)), row | at).rowcount != 1:
            raise StaleJobError(transition.job_id, transition.version)
        for name in PAYLOADS & transition.changes.keys():
            self._write_payload(connection, transition.job_id, name, transition.changes[name])
        if (record := transition.record) is not None:
            connection.execute(self._statements.insert_record, record_row(record))

    def _write_payload(self, connection: Connection, job_id: str, name: str, value: Any) -> None:
        this = {"job_id": job_id, "name": name}
        if value is None:
            connection.execute(self._statements.drop_payload, this)
        else:
            connection.execute(self._statements.put_payload, this | {"data": encode_payload(name, value)})

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`: one transaction, a savepoint for each."""
        answers: list[RepositoryError | None] = []
        try:
            with self._write("several jobs") as connection:
                answers = [self._apply_alone(connection, transition) for transition in transitions]
        except OutcomeUnknownError as error:
            return [
                answer or OutcomeUnknownError(t.job_id, error.detail) for t, answer in zip(transitions, answers, strict=True)
            ]
        return answers

    def _apply_alone(self, connection: Connection, transition: Accepted) -> RepositoryError | None:
        connection.exec_driver_sql("SAVEPOINT jobstate_one")
        try:
            self._apply(connection, transition)
        except Exception as error:
            connection.exec_driver_sql("ROLLBACK TO jobstate_one")
            return error if isinstance(error, RepositoryError) else RepositoryError(f"{transition.job_id}: {_words(error)}")
        finally:
            connection.exec_driver_sql("RELEASE jobstate_one")
        return None

    def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """As `Repository.list`."""
        statement = self._statements.page(where, page.cursor, page.downwards, include_request, include_response)
        place = {} if page.cursor is None else {"cursor": page.cursor}
        with self._read() as connection:
            rows = connection.execute(statement, parameters(where) | place | {"limit": page.limit}).mappings().all()
        return Listing(*_read(rows[::-1] if page.backwards else rows))

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        place = {} if after is None else {"time": after.time, "id": after.job_id}
        statement = self._statements.due(due, after is not None)
        with self._read() as connection:
            rows = connection.execute(statement, {"until": until, "limit": limit} | place).mappings().all()
        jobs, unreadable = _read(rows)
        last = Cursor(rows[-1]["due_time"], rows[-1]["id"]) if len(rows) == limit else None
        return DuePage(jobs, last, unreadable)

    def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        with self._read() as connection:
            return int(connection.execute(self._statements.count(where), parameters(where)).scalar_one())

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        with self._read() as connection:
            rows = connection.execute(self._statements.history, {"id": job_id, "after_version": after_version}).mappings().all()
        return [record_of(row) for row in rows]

    def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        at = {"at_id": job_id, "at_version": version}
        with self._write(job_id) as connection:
            if connection.execute(self._statements.delete_job, at).rowcount != 1:
                raise StaleJobError(job_id, version)
            connection.execute(self._statements.delete_payloads, {"at_id": job_id})
            connection.execute(self._statements.delete_history, {"at_id": job_id})


def _switch_to_wal(connection: Connection) -> None:
    """SQLite does not wait for its busy timeout when two switch a file at once: so this does, as long."""
    deadline = time.monotonic() + BUSY_TIMEOUT / 1000
    while connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
        try:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


class _WithinError(Exception):
    """Carries an error of the host's part of a transaction past the mapping of the library's own."""

    def __init__(self, cause: SQLAlchemyError) -> None:
        super().__init__(cause)
        self.cause = cause


def _call(within: Within | None, connection: Connection) -> None:
    if within is not None:
        try:
            within(connection)
        except SQLAlchemyError as error:
            raise _WithinError(error) from error


def _read(rows: Sequence[RowMapping]) -> tuple[list[AnyJob], list[UnreadableJobError]]:
    """The jobs of rows, and the errors of those that cannot be read."""
    jobs: list[AnyJob] = []
    unreadable: list[UnreadableJobError] = []
    for row in rows:
        try:
            jobs.append(job_of(row))
        except UnreadableJobError as error:
            unreadable.append(error)
    return jobs, unreadable


def _words(error: Exception) -> str:
    return str(error.orig) if isinstance(error, DBAPIError) else str(error)
