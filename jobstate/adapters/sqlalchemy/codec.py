"""Between a job and its row. What cannot be read is a named error with the job's id."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import TypeAdapter

from jobstate.errors import UnreadableJobError
from jobstate.model import (
    Artifact,
    Event,
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

AnyJob = Job[Any, Any]

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

_WHOLE = ("version", "run", "attempt_count", "attempt_base", "give_backs", "max_attempts", "ttl", "updated_at", "expires_at")
"""Fields that decisions count with; SQLite would keep anything in their columns."""

_APART = frozenset({"object", "request", "response", "lease"})
"""Fields that are no columns of the jobs table under their own name."""


def row_of(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The columns for a job's fields, payloads left out."""
    row: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "lease":
            row["lease_token"] = value and value.token
            row["lease_expires_at"] = value and value.expires_at
        elif name in _JSON:
            row[name] = None if value is None else encode(plain(value))
        elif name == "status":
            row[name] = value.value
        elif name not in _APART:
            row[name] = value
    return row


def encode_payload(name: str, value: Any) -> str:
    """A payload as text."""
    return encode([value.status_code, value.body] if name == "response" else value)


def _decode_payload(name: str, text: str | None) -> Any:
    if text is None:
        return None
    value = json.loads(text)
    return JobResponse[Any].model_construct(status_code=value[0], body=value[1]) if name == "response" else value


def job_of(row: Mapping[Any, Any]) -> AnyJob:
    """The job of a row. Raises UnreadableJobError."""
    state: dict[str, Any] = {"object": "job", "request": None, "response": None}
    name = ""
    try:
        for name, value in row.items():
            if name == "due_time":
                continue
            if name in _JSON:
                state[name] = None if value is None else _JSON[name](value)
            elif name in ("request", "response"):
                state[name] = _decode_payload(name, value)
            elif name == "status":
                state[name] = JobStatus(value)
            else:
                state[name] = value
        if name := next((name for name in _WHOLE if type(state[name]) is not int), ""):
            raise TypeError(f"{state[name]!r} is not a whole number")
        name = "lease"
        token, end = state.pop("lease_token"), state.pop("lease_expires_at")
        state["lease"] = None if token is None else Lease.model_construct(token=token, expires_at=end)
    except (ValueError, TypeError, LookupError) as error:
        raise UnreadableJobError(str(row["id"]), name, str(error)) from error
    return stored_job(state)


def record_row(record: HistoryRecord) -> dict[str, Any]:
    """The row of a history record."""
    row = dict(record.__dict__)
    row["event"] = str(record.event)
    row["source"] = None if record.source is None else record.source.value
    row["target"] = record.target.value
    row["changes"] = encode(record.changes)
    return row


def record_of(row: Mapping[Any, Any]) -> HistoryRecord:
    """The history record of a row. Raises UnreadableJobError."""
    try:
        fields = dict(row)
        fields["event"] = "created" if row["event"] == "created" else Event(row["event"])
        fields["source"] = None if row["source"] is None else JobStatus(row["source"])
        fields["target"] = JobStatus(row["target"])
        fields["changes"] = json.loads(row["changes"])
    except (ValueError, TypeError) as error:
        raise UnreadableJobError(str(row["job_id"]), f"history at version {row['version']}", str(error)) from error
    return HistoryRecord.model_construct(**fields)
