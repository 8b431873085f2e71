"""Jobs to test with: one that has something in every field, so that a field that is lost, reset or touched shows."""

from __future__ import annotations

from typing import Any

from jobstate.model import Artifact, Job, JobError, JobResponse, JobStatus, JobWarning, Lease

T = 1_000_000
"""When the filled job was created (Unix seconds)."""

TOKEN = "tok-own"
"""Its lease token."""


def _artifact(name: str) -> tuple[Artifact, ...]:
    return (Artifact(name=name, key=f"job/{name}", size=3, digest="d"),)


def filled_job(status: JobStatus, **fields: Any) -> Job:
    """Validated. No field has its default but the two clean-up times; no two times are equal."""
    values: dict[str, Any] = {
        "id": "job_" + "B" * 21,
        "organization_id": "org_b",
        "endpoint": "/v1/documents/parse",
        "metadata": {"batch": "b-1"},
        "idempotency_key": "inv-17",
        "request_digest": "request-digest",
        "trace_context": {"traceparent": "00-1-2-01"},
        "status": status,
        "held": True,
        "version": 9,
        "run": 4,
        "operation": "op-before",
        "lease": Lease(token=TOKEN, expires_at=T + 1_200),
        "available_at": T + 30,
        "retried_at": T + 20,
        "retry_key": "key-before",
        "task_name": "task-before",
        "dispatched_at": T + 31,
        "dispatch_count": 2,
        "dispatch_delayed_at": T + 21,
        "request": {"document": "a.pdf"},
        "request_artifacts": _artifact("in"),
        "response": JobResponse[Any](status_code=201, body={"pages": 2}),
        "response_artifacts": _artifact("out"),
        "result_digest": "result-before",
        "error": JobError(code="error_before", message="before"),
        "warnings": (JobWarning(code="warning_before", message="before"),),
        "progress": 0.5,
        "attempt_count": 7,
        "attempt_base": 5,
        "give_backs": 1,
        "max_attempts": 6,
        "ttl": 5_000,
        "last_attempt_at": T + 40,
        "last_failure_code": "failure_before",
        "cancelled": True,
        "created_at": T,
        "updated_at": T + 60,
        "started_at": T + 41,
        "completed_at": T + 50,
        "expires_at": T + 5_020,
    }
    return Job.model_validate({**values, **fields})
