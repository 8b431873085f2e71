"""A job with something in every field, so that a field that is reset, forgotten or touched shows."""

from __future__ import annotations

from typing import Any

from jobstate import Job, JobError, JobResponse, JobStatus, JobWarning
from jobstate.lifecycle import Facts
from jobstate.model import Artifact, Lease

T = 1_000_000
"""When the filled job was created."""

AT = T + 1_000
"""A time after all that happened to it, and before it expires."""

TOKEN = "tok-own"


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


def facts_for(*names: str) -> Facts:
    """Facts by name, none of which is what the filled job holds already, but for its own token and run."""
    facts: Facts = {
        "token": TOKEN,
        "run": 4,
        "task_name": "task-now",
        "response": JobResponse[Any](body={"pages": 3}),
        "response_artifacts": _artifact("out-now"),
        "error": JobError(code="error_now", message="now"),
        "digest": "result-now",
        "failure_code": "failure_now",
        "progress": 0.75,
        "warnings": (JobWarning(code="warning_now", message="now"),),
        "retry_key": "key-now",
        "past_retry_keys": frozenset(),
    }
    unwanted = set(facts) - set(names)
    for name in unwanted:
        facts.pop(name)  # type: ignore[misc]  # a name of the same dict
    return facts
