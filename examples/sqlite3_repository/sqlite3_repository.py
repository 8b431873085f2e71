"""A `Repository` on the standard library's sqlite3: one connection, one lock, three tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from pydantic import TypeAdapter

from jobstate.errors import (
    JobNotFoundError,
    OutcomeUnknownError,
    RepositoryError,
    StaleJobError,
    UnreadableJobError,
)
from jobstate.lifecycle import Accepted
from jobstate.model import (
    PAYLOADS,
    Artifact,
    HistoryRecord,
    Job,
    JobError,
    JobResponse,
    JobStatus,
    JobWarning,
    Lease,
    plain,
    stored_job,
)
from jobstate.payload import encode
from jobstate.ports import Within
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest

AnyJob = Job[Any, Any]
Row = Mapping[str, Any]

# Between a job and its row

_artifacts = TypeAdapter(tuple[Artifact, ...]).validate_json
_warnings = TypeAdapter(tuple[JobWarning, ...]).validate_json

_READ: dict[str, Callable[[Any], Any]] = {
    "status": JobStatus,
    "held": bool,
    "cancelled": bool,
    "metadata": json.loads,
    "trace_context": json.loads,
    "error": JobError.model_validate_json,
    "warnings": _warnings,
    "request_artifacts": _artifacts,
    "response_artifacts": _artifacts,
}
"""How a column is read that is not the field itself; None is None."""

_OPTIONAL = {name for name, field in Job.model_fields.items() if field.default is None}
_FIELDS = tuple(name for name in Job.model_fields if name not in {"object", "lease", *PAYLOADS})
_COLUMNS = (*_FIELDS, "lease_token", "lease_expires_at")
_RECORD = tuple(HistoryRecord.model_fields)


def _row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of some of a job's fields."""
    row = {name: _column(fields[name]) for name in fields if name in _FIELDS}
    if "lease" in fields:
        lease: Lease | None = fields["lease"]
        row["lease_token"], row["lease_expires_at"] = (None, None) if lease is None else (lease.token, lease.expires_at)
    return row


def _column(value: Any) -> Any:
    value = plain(value)
    return encode(value) if isinstance(value, (dict, list)) else value


def _job(row: Row) -> AnyJob:
    """The job of a row. Raises UnreadableJobError."""
    state: dict[str, Any] = {"object": "job", "request": None, "response": None, "lease": None}
    name = ""
    try:
        for name in _FIELDS:
            state[name] = _value(name, row[name])
        if row["lease_token"] is not None:
            state["lease"] = Lease.model_construct(token=row["lease_token"], expires_at=row["lease_expires_at"])
        for name in PAYLOADS & set(row.keys()):
            state[name] = _payload(name, row[name])
    except (ValueError, TypeError, LookupError) as error:
        raise UnreadableJobError(row["id"], name, str(error)) from error
    return stored_job(state)


def _value(name: str, value: Any) -> Any:
    if value is None and name not in _OPTIONAL:
        raise ValueError("it is empty")
    return _READ[name](value) if name in _READ and value is not None else value


def _payload(name: str, text: str | None) -> Any:
    value = None if text is None else json.loads(text)
    if name == "request" or value is None:
        return value
    return JobResponse[Any].model_construct(status_code=value[0], body=value[1])


def _payload_text(name: str, value: Any) -> str:
    return encode([value.status_code, value.body] if name == "response" else value)


def _record(row: Row) -> HistoryRecord:
    """The record of a row. Raises UnreadableJobError."""
    try:
        return HistoryRecord.model_validate({**row, "changes": json.loads(row["changes"])})
    except (ValueError, TypeError) as error:
        raise UnreadableJobError(row["job_id"], f"history at version {row['version']}", str(error)) from error


def _read(rows: Sequence[Row]) -> tuple[list[AnyJob], list[UnreadableJobError]]:
    jobs: list[AnyJob] = []
    unreadable: list[UnreadableJobError] = []
    for row in rows:
        try:
            jobs.append(_job(row))
        except UnreadableJobError as error:
            unreadable.append(error)
    return jobs, unreadable


# SQL

_DUE: dict[Due, tuple[str, str]] = {
    Due.PENDING: ("status = 'queued' AND dispatched_at IS NULL", "coalesce(available_at, retried_at, created_at)"),
    Due.UNSTARTED: ("status = 'queued' AND dispatched_at IS NOT NULL", "max(dispatched_at, coalesce(available_at, 0))"),
    Due.UNLEASED: ("status = 'in_progress' AND lease_expires_at IS NOT NULL", "lease_expires_at"),
    Due.EXPIRING: ("status <> 'expired'", "expires_at"),
    Due.UNCLEANED: ("status = 'expired' AND cleanup_started_at IS NULL", "expires_at"),
    Due.CLEANING: (
        "status = 'expired' AND cleanup_started_at IS NOT NULL AND cleanup_completed_at IS NULL",
        "cleanup_started_at",
    ),
    Due.CLEANED: ("status = 'expired' AND cleanup_completed_at IS NOT NULL", "cleanup_completed_at"),
}
"""The table of `Due`: which rows, and their due time."""

_CONDITIONS = {
    "organization_id": "organization_id = :organization_id",
    "ids": "id IN (SELECT value FROM json_each(:ids))",
    "statuses": "status IN (SELECT value FROM json_each(:statuses))",
    "endpoint": "endpoint = :endpoint",
    "created_from": "created_at >= :created_from",
    "created_to": "created_at < :created_to",
    "metadata": (
        "NOT EXISTS (SELECT key, value FROM json_each(:metadata) EXCEPT SELECT key, value FROM json_each(jobs.metadata))"
    ),
}

_SCHEMA = [
    f"CREATE TABLE IF NOT EXISTS jobs ({', '.join(_COLUMNS)}, PRIMARY KEY (id)) WITHOUT ROWID",
    "CREATE UNIQUE INDEX IF NOT EXISTS by_key ON jobs (organization_id, idempotency_key)",
    "CREATE TABLE IF NOT EXISTS payloads (job_id, name, data, PRIMARY KEY (job_id, name))",
    f"CREATE TABLE IF NOT EXISTS history ({', '.join(_RECORD)}, PRIMARY KEY (job_id, version))",
    *(f"CREATE INDEX IF NOT EXISTS due_{due} ON jobs ({time}, id) WHERE {where}" for due, (where, time) in _DUE.items()),
]


def _where(where: JobFilter) -> tuple[str, dict[str, Any]]:
    asked = {name: value for name in _CONDITIONS if (value := getattr(where, name)) is not None}
    return " AND ".join(["1", *(_CONDITIONS[name] for name in asked)]), {name: _column(value) for name, value in asked.items()}


def _select(request: bool, response: bool) -> str:
    wanted = [name for name, asked in (("request", request), ("response", response)) if asked]
    parts = [f"(SELECT data FROM payloads WHERE job_id = jobs.id AND name = '{name}') AS {name}" for name in wanted]
    return f"SELECT {', '.join(['jobs.*', *parts])} FROM jobs"


class SQLite3Repository:
    """A `Repository` on a SQLite file. One connection and a lock: for one process of several threads, or several processes."""

    def __init__(self, path: Path) -> None:
        self._lock = RLock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        self._connection.row_factory = sqlite3.Row
        with self._transaction("schema"):
            for statement in _SCHEMA:
                self._connection.execute(statement)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _transaction(self, job_id: str) -> Generator[sqlite3.Connection]:
        """One write: committed at the end; rolled back by any exception, which is passed on."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            try:
                self._commit()
            except sqlite3.Error as error:
                raise OutcomeUnknownError(job_id, f"the commit failed: {error}") from error

    def _commit(self) -> None:
        self._connection.execute("COMMIT")

    def _rows(self, statement: str, values: Mapping[str, Any]) -> list[Any]:
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Within | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        row = _row(job.__dict__)
        names = ", ".join(f":{name}" for name in _COLUMNS)
        with self._transaction(job.id) as connection:
            if not connection.execute(f"INSERT INTO jobs VALUES ({names}) ON CONFLICT DO NOTHING", row).rowcount:
                key = "organization_id = :organization_id AND idempotency_key = :idempotency_key"
                there = connection.execute(f"SELECT * FROM jobs WHERE id = :id OR ({key}) ORDER BY id <> :id", row)
                return _job(there.fetchone())
            self._write_payloads(connection, job.id, {name: getattr(job, name) for name in PAYLOADS})
            self._write_record(connection, record)
            if within is not None:
                within(connection)
        return None

    def _write_payloads(self, connection: sqlite3.Connection, job_id: str, changes: Mapping[str, Any]) -> None:
        for name in PAYLOADS & changes.keys():
            if changes[name] is None:
                connection.execute("DELETE FROM payloads WHERE job_id = ? AND name = ?", (job_id, name))
            else:
                connection.execute("REPLACE INTO payloads VALUES (?, ?, ?)", (job_id, name, _payload_text(name, changes[name])))

    def _write_record(self, connection: sqlite3.Connection, record: HistoryRecord | None) -> None:
        if record is not None:
            values = {name: _column(value) for name, value in record.__dict__.items()}
            connection.execute(f"INSERT INTO history VALUES ({', '.join(f':{name}' for name in _RECORD)})", values)

    def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        select = _select(include_request, include_response)
        rows = self._rows(f"{select} WHERE id = :id", {"id": job_id})
        if not rows or organization_id not in (None, rows[0]["organization_id"]):
            raise JobNotFoundError(job_id)
        return _job(rows[0])

    def save(self, transition: Accepted, *, within: Within | None = None) -> None:
        """As `Repository.save`."""
        with self._transaction(transition.job_id) as connection:
            self._apply(connection, transition)
            if within is not None:
                within(connection)

    def _apply(self, connection: sqlite3.Connection, transition: Accepted) -> None:
        row = _row(transition.changes)
        changes = ", ".join(f"{name} = :{name}" for name in row)
        at = {"at_id": transition.job_id, "at_version": transition.version}
        if not connection.execute(f"UPDATE jobs SET {changes} WHERE id = :at_id AND version = :at_version", row | at).rowcount:
            raise StaleJobError(transition.job_id, transition.version)
        self._write_payloads(connection, transition.job_id, transition.changes)
        self._write_record(connection, transition.record)

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`."""
        return [self._saved(transition) for transition in transitions]

    def _saved(self, transition: Accepted) -> RepositoryError | None:
        try:
            self.save(transition)
        except RepositoryError as error:
            return error
        except Exception as error:  # noqa: BLE001  # whatever is wrong with one, the others are saved
            return RepositoryError(f"{transition.job_id}: {error}")
        return None

    def list(
        self, where: JobFilter, page: PageRequest, *, include_request: bool = False, include_response: bool = False
    ) -> Listing:
        """As `Repository.list`."""
        conditions, values = _where(where)
        behind, order = ("<", "DESC") if page.downwards else (">", "ASC")
        if page.cursor is not None:
            conditions += f" AND id {behind} :cursor"
        select = _select(include_request, include_response)
        values |= {"cursor": page.cursor, "limit": page.limit}
        rows = self._rows(f"{select} WHERE {conditions} ORDER BY id {order} LIMIT :limit", values)
        return Listing(*_read(rows[::-1] if page.backwards else rows))

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        where, time = _DUE[due]
        where += f" AND {time} <= :until"
        if after is not None:
            where += f" AND ({time}, id) > (:time, :job_id)"
        place = {} if after is None else after._asdict()
        statement = f"SELECT *, {time} AS due_time FROM jobs WHERE {where} ORDER BY due_time, id LIMIT :limit"
        rows = self._rows(statement, {"until": until, "limit": limit, **place})
        last = Cursor(rows[-1]["due_time"], rows[-1]["id"]) if len(rows) == limit else None
        jobs, unreadable = _read(rows)
        return DuePage(jobs, last, unreadable)

    def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        conditions, values = _where(where)
        return int(self._rows(f"SELECT count(*) FROM jobs WHERE {conditions}", values)[0][0])

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        statement = "SELECT * FROM history WHERE job_id = :id AND version > :version ORDER BY version"
        rows = self._rows(statement, {"id": job_id, "version": after_version})
        return [_record(row) for row in rows]

    def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        with self._transaction(job_id) as connection:
            if not connection.execute("DELETE FROM jobs WHERE id = ? AND version = ?", (job_id, version)).rowcount:
                raise StaleJobError(job_id, version)
            connection.execute("DELETE FROM payloads WHERE job_id = ?", (job_id,))
            connection.execute("DELETE FROM history WHERE job_id = ?", (job_id,))
