"""Between a job and its row. What cannot be read is a named error with the job's id.

A job is read as one JSON array of its columns, since drivers describe every column of every result anew, which costs more than
reading it. Its `progress` stands apart: SQLite writes 15 digits of a float into JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from jobstate.adapters.sqlalchemy.tables import JOB_COLUMNS
from jobstate.errors import UnreadableJobError
from jobstate.lifecycle import Accepted
from jobstate.model import (
    PAYLOADS,
    AnyJob,
    Artifact,
    Event,
    HistoryRecord,
    JobError,
    JobResponse,
    JobStatus,
    JobWarning,
    Lease,
    construct,
    stored_job,
)
from jobstate.payload import encode

Row = dict[str, Any]

_ARTIFACTS: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])
_WARNINGS: TypeAdapter[tuple[JobWarning, ...]] = TypeAdapter(tuple[JobWarning, ...])
_TEXTS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])


def _texts(text: str) -> dict[str, str]:
    return {} if text == "{}" else _TEXTS.validate_json(text)


_JSON: dict[str, Callable[[str], object]] = {
    "metadata": _texts,
    "trace_context": _texts,
    "request_artifacts": _ARTIFACTS.validate_json,
    "response_artifacts": _ARTIFACTS.validate_json,
    "error": JobError.model_validate_json,
    "warnings": _WARNINGS.validate_json,
}
"""Fields that are kept as JSON text, and how each is read."""

_STATUSES = {status.value: status for status in JobStatus}

_READ: dict[str, Callable[[Any], object]] = {**_JSON, "status": _STATUSES.__getitem__, "held": bool, "cancelled": bool}
"""Columns that are not the field's value as they stand."""

_WHOLE = ("version", "run", "attempt_count", "attempt_base", "give_backs", "max_attempts", "ttl", "updated_at", "expires_at")
"""Fields that decisions count with; SQLite would keep anything in their columns."""

_LEASE = ("lease_token", "lease_expires_at")
_PLAIN = tuple(name for name in JOB_COLUMNS if name not in {*_WHOLE, *_READ, *_LEASE, "progress"})

SNAPSHOT = (*_WHOLE, *_PLAIN, *_READ, *_LEASE)
"""The columns of the JSON array, in order: those together that are read in one way."""

_ARE_WHOLE = [int] * len(_WHOLE)
_READ_FROM = len(_WHOLE) + len(_PLAIN)
_READERS = tuple(_READ.items())
_FIELDS = (*SNAPSHOT[: -len(_LEASE)], "lease", "progress", "object", "request", "response")
"""The fields of a job, in the order in which they are put together."""

_CHANGEABLE = frozenset({*_JSON, "lease"})
"""Fields whose values are made anew for each job."""

_NO_COLUMNS = ("object", *PAYLOADS)
"""Fields that the table of jobs does not have."""

AS_IT_STANDS = frozenset(JOB_COLUMNS) - {*_JSON, "status"}
"""Columns that are the field's value as it stands."""


def compact(value: Any) -> str:
    """JSON text of what the library itself has checked or made: quicker than what payloads need."""
    return to_json(value).decode()


def row_of(fields: Mapping[str, Any]) -> Row:
    """The columns for a job's fields, payloads left out."""
    row: Row = {**fields}  # in place, which takes a third of the time of building it
    for name in _JSON:
        if (value := row.get(name)) is not None:
            row[name] = compact(value)
    for name in _NO_COLUMNS:
        _ = row.pop(name, None)
    if "status" in row:
        row["status"] = str(row["status"])  # a third of the time of `value.value`
    if "lease" in row:
        lease = row.pop("lease")
        row["lease_token"] = lease and lease.token
        row["lease_expires_at"] = lease and lease.expires_at
    return row


def payloads_of(fields: Mapping[str, Any]) -> dict[str, str | None]:
    """The payloads among a job's fields, as text; None for one that is to be removed."""
    if PAYLOADS.isdisjoint(fields):
        return {}
    return {name: _encode_payload(name, fields[name]) for name in sorted(PAYLOADS & fields.keys())}


def _encode_payload(name: str, value: Any) -> str | None:
    if value is None:
        return None
    return encode([value.status_code, value.body] if name == "response" else value)


def _decode_payload(name: str, text: str | None) -> Any:
    if text is None:
        return None
    value = json.loads(text)
    return construct(JobResponse[Any], status_code=value[0], body=value[1]) if name == "response" else value


def job_of(snapshot: str, progress: float | None, payloads: Mapping[str, str | None]) -> AnyJob:
    """The job of a row: its JSON array, and the payloads that were asked for. Raises UnreadableJobError."""
    return _job(from_json(snapshot), progress, payloads)


def _job(values: list[Any], progress: float | None, payloads: Mapping[str, str | None]) -> AnyJob:
    token, end = values[-2:]
    values[-2:] = [None if token is None else construct(Lease, token=token, expires_at=end), progress, "job", None, None]
    state: Row = dict(zip(_FIELDS, values, strict=True))
    name = ""
    try:
        for (name, read), value in zip(_READERS, values[_READ_FROM:], strict=False):
            if value is not None:
                state[name] = read(value)
        for name, text in payloads.items():
            state[name] = _decode_payload(name, text)
        if list(map(type, values[: len(_WHOLE)])) != _ARE_WHOLE:
            name, value = next((name, state[name]) for name in _WHOLE if type(state[name]) is not int)
            raise TypeError(f"{value!r} is not a whole number")
    except KeyError as error:
        raise UnreadableJobError(str(state["id"]), name, f"{error} is none that this version knows") from error
    except (ValueError, TypeError, LookupError) as error:
        raise UnreadableJobError(str(state["id"]), name, str(error)) from error
    return stored_job(state)


Read = tuple[list[AnyJob], list[UnreadableJobError]]
"""The jobs of some rows, and the errors of those that cannot be read."""


def jobs_of(rows: Sequence[Any], payloads: Sequence[str]) -> Read:
    """Of rows that are: snapshot, progress, these payloads."""
    return _each(partial(job_of, row[0], row[1], dict(zip(payloads, row[2:], strict=False))) for row in rows)


def jobs_of_many(rows: Sequence[Any]) -> Read:
    """Of rows that are: the columns of the snapshot, progress. In half the time, while each of them can be read."""
    try:
        return _together(rows), []
    except (ValueError, TypeError, LookupError):
        return _each(partial(_job, list(row[: len(SNAPSHOT)]), row[len(SNAPSHOT)], {}) for row in rows)


def _each(readings: Iterable[Callable[[], AnyJob]]) -> Read:
    jobs: list[AnyJob] = []
    unreadable: list[UnreadableJobError] = []
    for read in readings:
        try:
            jobs.append(read())
        except UnreadableJobError as error:
            unreadable.append(error)
    return jobs, unreadable


def _together(rows: Sequence[Any]) -> list[AnyJob]:
    """Column by column: what all rows share is read and put in once."""
    if not rows:
        return []
    columns: dict[str, Sequence[Any]] = dict(zip((*SNAPSHOT, "progress"), zip(*rows, strict=True), strict=False))
    if any(set(map(type, columns[name])) != {int} for name in _WHOLE):
        raise TypeError("not a whole number")
    for name, read in _READERS:
        columns[name] = [None if value is None else read(value) for value in columns[name]]
    leases = zip(*(columns.pop(name) for name in _LEASE), strict=True)
    columns["lease"] = [None if token is None else construct(Lease, token=token, expires_at=end) for token, end in leases]
    return _put_together(columns)


def _put_together(columns: Mapping[str, Sequence[Any]]) -> list[AnyJob]:
    """A job for each row. Values that somebody could change belong to one job alone."""
    common = {**dict.fromkeys(_FIELDS), "object": "job"}
    own: list[str] = []
    for name, values in columns.items():
        first = values[0]
        if values.count(first) == len(values) and (first is None or name not in _CHANGEABLE):
            common[name] = first
        else:
            own.append(name)
    jobs: list[AnyJob] = []
    for row in zip(*(columns[name] for name in own), strict=True):
        state = common.copy()
        state.update(zip(own, row, strict=True))
        jobs.append(stored_job(state))
    return jobs


RECORD_COLUMNS = ("job_id", "version", "event", "source", "target", "at", "attempt", "operation", "actor", "reason", "changes")
_RECORD_NAMES = tuple(f"record_{name}" for name in RECORD_COLUMNS)


def record_of(row: Sequence[Any]) -> HistoryRecord:
    """The history record of a row, its columns in order. Raises UnreadableJobError."""
    fields: Row = dict(zip(RECORD_COLUMNS, row, strict=True))
    try:
        fields["event"] = "created" if fields["event"] == "created" else Event(fields["event"])
        fields["source"] = None if fields["source"] is None else JobStatus(fields["source"])
        fields["target"] = JobStatus(fields["target"])
        fields["changes"] = json.loads(fields["changes"])
    except (ValueError, TypeError) as error:
        raise UnreadableJobError(str(fields["job_id"]), f"history at version {fields['version']}", str(error)) from error
    return construct(HistoryRecord, **fields)


def _record_values(fields: Mapping[str, Any]) -> Row:
    """The columns of a history record, by the names of their parameters."""
    values = dict(zip(_RECORD_NAMES, map(fields.__getitem__, RECORD_COLUMNS), strict=True))
    source = fields["source"]
    values["record_event"] = str(fields["event"])
    values["record_source"] = None if source is None else str(source)
    values["record_target"] = str(fields["target"])
    values["record_changes"] = compact(fields["changes"])
    return values


Shape = tuple[tuple[str, ...], tuple[tuple[str, bool], ...], bool]
"""The columns that are written, the payloads and whether each is there, and whether there is a record."""


class Write:
    """What a store writes of a job: a new one, or a transition.

    `values` are by the names of parameters: the columns as they are called, `payload_` and `record_` before the others, and
    `at_id` and `at_version` for the row. One statement can carry all writes of one `shape`.
    """

    __slots__ = ("job_id", "shape", "values", "version")

    def __init__(self, job_id: str, version: int, fields: Mapping[str, Any], record: Mapping[str, Any] | None) -> None:
        values = row_of(fields)
        columns = tuple(values)
        payloads = payloads_of(fields)
        for name, text in payloads.items():
            values[f"payload_{name}"] = text
        if record is not None:
            values |= _record_values(record)
        values["at_id"], values["at_version"] = job_id, version
        self.job_id, self.version, self.values = job_id, version, values
        self.shape: Shape = (columns, tuple((name, text is not None) for name, text in payloads.items()), record is not None)

    @classmethod
    def new(cls, job: AnyJob, record: HistoryRecord | None) -> Write:
        """A job that is to be stored, with the payloads that it has."""
        fields = {**job.__dict__}
        for name in PAYLOADS:
            if fields[name] is None:
                del fields[name]
        return cls(job.id, job.version, fields, None if record is None else record.__dict__)

    @classmethod
    def moved(cls, transition: Accepted, *, recorded: bool) -> Write:
        """A transition that is to be saved, with its record if records are kept."""
        return cls(transition.job_id, transition.version, transition.changes, transition.record_fields if recorded else None)
