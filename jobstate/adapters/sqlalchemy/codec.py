"""Between a job and its row. What cannot be read is a named error with the job's id.

A job is read as one JSON array of its columns, since drivers describe every column of every result anew, which costs more than
reading it. Its `progress` stands apart: SQLite writes 15 digits of a float into JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from jobstate.adapters.sqlalchemy.tables import JOB_COLUMNS
from jobstate.errors import UnreadableJobError
from jobstate.lifecycle import Accepted
from jobstate.model import (
    PAYLOADS,
    Artifact,
    Event,
    HistoryRecord,
    Job,
    JobError,
    JobResponse,
    JobStatus,
    JobWarning,
    Lease,
    construct,
    plain,
    stored_job,
)
from jobstate.payload import encode

AnyJob = Job[Any, Any]
Row = dict[str, Any]

_ARTIFACTS: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])
_WARNINGS: TypeAdapter[tuple[JobWarning, ...]] = TypeAdapter(tuple[JobWarning, ...])
_TEXTS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])

_JSON: dict[str, Callable[[str], object]] = {
    "metadata": _TEXTS.validate_json,
    "trace_context": _TEXTS.validate_json,
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

_AS_IT_STANDS = len(_WHOLE) + len(_PLAIN)
_ABSENT = {"object": "job", "request": None, "response": None}

_APART = frozenset({"object", "request", "response", "lease"})
"""Fields that are no columns of the jobs table under their own name."""


def compact(value: Any) -> str:
    """JSON text of what the library itself has checked or made: quicker than what payloads need."""
    return to_json(value).decode()


def row_of(fields: Mapping[str, Any]) -> Row:
    """The columns for a job's fields, payloads left out."""
    row: Row = {}
    for name, value in fields.items():
        if name == "lease":
            row["lease_token"] = value and value.token
            row["lease_expires_at"] = value and value.expires_at
        elif name in _JSON:
            row[name] = None if value is None else compact(plain(value))
        elif name == "status":
            row[name] = value.value
        elif name not in _APART:
            row[name] = value
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
    values: list[Any] = from_json(snapshot)
    state: Row = dict(zip(SNAPSHOT, values, strict=True))
    token, end = state.pop("lease_token"), state.pop("lease_expires_at")
    state["lease"] = None if token is None else construct(Lease, token=token, expires_at=end)
    state["progress"] = progress
    state |= _ABSENT
    name = ""
    try:
        for (name, read), value in zip(_READ.items(), values[_AS_IT_STANDS:], strict=False):
            if value is not None:
                state[name] = read(value)
        for name, text in payloads.items():
            state[name] = _decode_payload(name, text)
        for name, value in zip(_WHOLE, values, strict=False):  # noqa: B007  # the error tells which
            if type(value) is not int:
                raise TypeError(f"{value!r} is not a whole number")
    except KeyError as error:
        raise UnreadableJobError(str(state["id"]), name, f"{error} is none that this version knows") from error
    except (ValueError, TypeError, LookupError) as error:
        raise UnreadableJobError(str(state["id"]), name, str(error)) from error
    return stored_job(state)


def jobs_of(rows: Sequence[Any], payloads: Sequence[str]) -> tuple[list[AnyJob], list[UnreadableJobError]]:
    """The jobs of rows (snapshot, progress, and these payloads), and the errors of those that cannot be read."""
    jobs: list[AnyJob] = []
    unreadable: list[UnreadableJobError] = []
    for row in rows:
        try:
            jobs.append(job_of(row[0], row[1], dict(zip(payloads, row[2:], strict=False))))
        except UnreadableJobError as error:
            unreadable.append(error)
    return jobs, unreadable


_RECORD = ("job_id", "version", "at", "attempt", "operation", "actor", "reason")
RECORD_COLUMNS = ("job_id", "version", "event", "source", "target", "at", "attempt", "operation", "actor", "reason", "changes")


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


Shape = tuple[tuple[str, ...], tuple[tuple[str, bool], ...], bool]
"""The columns that are written, the payloads and whether each is there, and whether there is a record."""


class Write:
    """What a store writes of a job: a new one, or a transition.

    `values` are by the names of parameters: the columns as they are called, `payload_` and `record_` before the others, and
    `at_id` and `at_version` for the row. One statement can carry all writes of one `shape`.
    """

    __slots__ = ("job_id", "shape", "values", "version")

    def __init__(self, job_id: str, version: int, fields: Mapping[str, Any], record: HistoryRecord | None) -> None:
        values = row_of(fields)
        columns = tuple(values)
        payloads = payloads_of(fields)
        for name, text in payloads.items():
            values[f"payload_{name}"] = text
        if record is not None:
            for name in _RECORD:
                values[f"record_{name}"] = getattr(record, name)
            values["record_event"] = str(record.event)
            values["record_source"] = None if record.source is None else record.source.value
            values["record_target"] = record.target.value
            values["record_changes"] = compact(record.changes)
        values["at_id"], values["at_version"] = job_id, version
        self.job_id, self.version, self.values = job_id, version, values
        self.shape: Shape = (columns, tuple((name, text is not None) for name, text in payloads.items()), record is not None)

    @classmethod
    def new(cls, job: AnyJob, record: HistoryRecord | None) -> Write:
        """A job that is to be stored, with the payloads that it has."""
        absent = {name for name in PAYLOADS if getattr(job, name) is None}
        return cls(job.id, job.version, {name: value for name, value in job.__dict__.items() if name not in absent}, record)

    @classmethod
    def moved(cls, transition: Accepted, *, recorded: bool) -> Write:
        """A transition that is to be saved, with its record if records are kept."""
        return cls(transition.job_id, transition.version, transition.changes, transition.record if recorded else None)
