"""How a job comes to be: the one thing that no row of the table does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from jobstate.errors import InvalidInputError
from jobstate.lifecycle.changes import EVERY_WRITE
from jobstate.model import PAYLOADS, AnyJob, HistoryRecord, Job, JobStatus, construct, evolve, plain_fields
from jobstate.parts import cut, part_prefix
from jobstate.payload import describe_artifacts, invalid_input, request_digest, request_prefix
from jobstate.policy import Policy, seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a caller asks for when it creates a job. `request` is checked JSON; the rest is not checked yet."""

    organization_id: str | None
    endpoint: str
    request: Any
    metadata: Any = None
    idempotency_key: str | None = None
    trace_context: Any = None
    artifacts: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    ttl: timedelta | None = None
    max_attempts: int | None = None
    available_at: Any = None
    held: bool = False


def new_job(draft: Draft, *, job_id: str, now: int, operation: str, policy: Policy, inline_limit: int | None = None) -> AnyJob:
    """The new job at version 1: queued in run 1, or validating while its host holds it or its artifacts are on their way.

    Data URLs of more than `inline_limit` bytes are cut out of its request; its digest is of the whole. Everything but the
    request is validated here. Raises InvalidInputError with the field and its limit.
    """
    if draft.organization_id is None:
        raise InvalidInputError("organization_id", "a job belongs to an organization: pass it, or use for_organization(...)")
    request, parts = cut(draft.request, inline_limit)
    waits = draft.held or bool(draft.artifacts or parts)
    ttl = _ttl(draft.ttl, policy)
    try:
        job: AnyJob = Job(
            id=job_id,
            organization_id=draft.organization_id,
            endpoint=draft.endpoint,
            metadata={} if draft.metadata is None else draft.metadata,
            idempotency_key=draft.idempotency_key,
            trace_context=draft.trace_context,
            status=JobStatus.VALIDATING if waits else JobStatus.QUEUED,
            held=draft.held,
            run=0 if waits else 1,
            operation=operation,
            available_at=draft.available_at,
            max_attempts=policy.max_attempts if draft.max_attempts is None else draft.max_attempts,
            ttl=ttl,
            created_at=now,
            updated_at=now,
            expires_at=now + ttl,
        )
    except ValidationError as error:
        raise invalid_input(error) from None
    return evolve(
        job,
        {
            "request": request,
            "request_artifacts": (
                *describe_artifacts(request_prefix(job_id), draft.artifacts),
                *describe_artifacts(part_prefix(job_id), parts),
            )
            or None,
            "request_digest": draft.idempotency_key and request_digest(draft.endpoint, draft.request, draft.artifacts),
        },
    )


def _ttl(ttl: object, policy: Policy) -> int:
    if ttl is None:
        return seconds(policy.ttl)
    if not isinstance(ttl, timedelta) or ttl.microseconds or not timedelta(0) < ttl <= timedelta(days=36_600):
        raise InvalidInputError(
            "ttl", f"a timedelta of whole seconds, more than 0 and at most 36600 days, is needed, not {ttl!r}"
        )
    return seconds(ttl)


def mark_created(job: AnyJob, task_name: str) -> AnyJob:
    """A new job whose first delivery goes out in the write that stores it."""
    return evolve(job, {"task_name": task_name, "dispatched_at": job.created_at, "dispatch_count": 1})


def creation_record(job: AnyJob, actor: str | None = None, reason: str | None = None) -> HistoryRecord:
    """The first record of a job's history: every field but the payloads."""
    return construct(
        HistoryRecord,
        job_id=job.id,
        version=job.version,
        event="created",
        source=None,
        target=job.status,
        at=job.created_at,
        attempt=0,
        operation=job.operation,
        actor=actor,
        reason=reason,
        changes=plain_fields(job.__dict__),
    )


NOT_REPLAYED = frozenset(
    {*PAYLOADS, "progress", "warnings", "lease", "task_name", "dispatched_at", "dispatch_count", *EVERY_WRITE[1:]}
)
"""What the history cannot give back: payloads, and what heartbeats and dispatch marks, which leave no record, write.

Of the lease only the end is unknown; of `version`, `operation` and `updated_at` those of writes without a record.
"""


def replay(records: list[HistoryRecord]) -> AnyJob:
    """The job as its history tells it, oldest record first; equal to the row but for NOT_REPLAYED.

    Raises ValueError for records that do not begin with a creation, or whose statuses do not join.
    """
    if not records or records[0].event != "created":
        raise ValueError("a history begins with its creation")
    fields: dict[str, Any] = {}
    status: JobStatus | None = None
    for record in records:
        if record.source is not status:
            raise ValueError(f"version {record.version}: {record.event} from {record.source}, but the job was {status}")
        fields.update(record.changes)
        status = record.target
    return Job.model_validate(fields)
