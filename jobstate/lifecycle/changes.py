"""What each accepted event writes, and the reset list of a retry.

A change returns exactly the fields that its row in the table says it writes, always all of them, so that a store can build
one statement for each event. What it computes is not validated again.
"""

from __future__ import annotations

from typing import Any, Final

from jobstate.lifecycle.machine import Facts
from jobstate.model import AnyJob, JobError, JobWarning, Lease, construct
from jobstate.policy import Policy, seconds

WORKER_LOST = "worker_lost"
"""The failure code of an attempt whose lease ran out."""

EVERY_WRITE: Final = ("status", "version", "operation", "updated_at")
"""Fields that each accepted event sets."""

DISPATCH_PENDING: Final[dict[str, Any]] = {"task_name": None, "dispatched_at": None, "dispatch_count": 0}
"""What a new run begins with: nobody was given it yet."""

RETRY_RESETS: Final[dict[str, Any]] = {
    "error": None,
    "response": None,
    "response_artifacts": None,
    "result_digest": None,
    "warnings": None,
    "progress": None,
    "started_at": None,
    "completed_at": None,
    **DISPATCH_PENDING,
    "dispatch_delayed_at": None,
    "available_at": None,
    "lease": None,
    "cancelled": False,
    "give_backs": 0,
}
"""The reset list: one list for every kind of retry."""

RETRY_SETS: Final = ("expires_at", "retried_at", "retry_key", "attempt_base", "run")
"""What a retry computes."""

_RETRIED: Final[dict[str, Any]] = {**RETRY_RESETS, **dict.fromkeys(RETRY_SETS)}
"""With room for what is computed: a dict that is copied whole, and does not grow, takes half the time."""

RETRY_KEEPS: Final = frozenset(
    {
        *("id", "object", "endpoint", "organization_id", "metadata", "idempotency_key", "trace_context"),
        *("request", "request_artifacts", "request_digest", "held", "created_at", "max_attempts", "ttl"),
        *("attempt_count", "last_attempt_at", "last_failure_code", "cleanup_started_at", "cleanup_completed_at"),
    }
)
"""What a retry leaves alone."""


def _kept_until(job: AnyJob, at: int, policy: Policy) -> int:
    return job.expires_at if policy.keep_for is None else max(job.expires_at, at + seconds(policy.keep_for))


def _all_warnings(job: AnyJob, facts: Facts) -> tuple[JobWarning, ...] | None:
    return (*(job.warnings or ()), *facts.get("warnings", ())) or None


def accept(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {"run": 1, **DISPATCH_PENDING}


def reject(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return _failed(job, at, policy, facts["error"])


def _failed(job: AnyJob, at: int, policy: Policy, error: JobError) -> dict[str, Any]:
    return {
        "error": error,
        "completed_at": at,
        "last_failure_code": error.code,
        "expires_at": _kept_until(job, at, policy),
    }


def dispatched(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {"task_name": facts["task_name"], "dispatched_at": at, "dispatch_count": job.dispatch_count + 1}


def delayed(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {"dispatch_delayed_at": at}


def start(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    end = None if policy.lease_seconds is None else at + policy.lease_seconds
    return {
        "attempt_count": job.attempt_count + 1,
        "started_at": at,
        "last_attempt_at": at,
        "lease": construct(Lease, token=facts["token"], expires_at=end),
    }


def heartbeat(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    lease = job.lease
    if lease is not None and lease.expires_at is not None and policy.lease_seconds is not None:
        end = max(lease.expires_at, at + policy.lease_seconds)
        lease = construct(Lease, token=lease.token, expires_at=end)
    return {"lease": lease, "progress": facts.get("progress", job.progress), "warnings": _all_warnings(job, facts)}


def complete(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {
        "response": facts["response"],
        "response_artifacts": facts.get("response_artifacts"),
        "result_digest": facts["digest"],
        "warnings": _all_warnings(job, facts),
        "completed_at": at,
        "expires_at": _kept_until(job, at, policy),
    }


def fail(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    changes = _failed(job, at, policy, facts["error"])
    return {**changes, "result_digest": facts["digest"], "warnings": _all_warnings(job, facts)}


def _requeued(job: AnyJob, failure_code: str | None, available_at: int | None) -> dict[str, Any]:
    return {
        "run": job.run + 1,
        "last_failure_code": failure_code,
        "available_at": available_at,
        **DISPATCH_PENDING,
        "started_at": None,
        "progress": None,
        "lease": None,
    }


def release(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return _requeued(job, facts["failure_code"], at + policy.backoff_for(job))


def give_back(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    spared = {"attempt_base": job.attempt_base + 1, "give_backs": job.give_backs + 1}
    return {**_requeued(job, job.last_failure_code, None), **spared}


def rescue(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return _requeued(job, WORKER_LOST, at + policy.backoff_for(job))


def give_up(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    message = f"the worker's lease ran out without a result, in attempt {job.attempt_count}"
    return _failed(job, at, policy, JobError(code=WORKER_LOST, message=message))


def cancel(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {"cancelled": True, "completed_at": at, "expires_at": _kept_until(job, at, policy)}


def retry(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    changes = _RETRIED.copy()
    changes["expires_at"] = at + job.ttl
    changes["retried_at"] = at
    changes["retry_key"] = facts.get("retry_key")
    changes["attempt_base"] = job.attempt_count
    changes["run"] = job.run + 1
    return changes


def expire(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {}


def begin_cleanup(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {"cleanup_started_at": at, "request": None, "response": None}


def end_cleanup(job: AnyJob, at: int, facts: Facts, policy: Policy) -> dict[str, Any]:
    return {"cleanup_completed_at": at, "request_artifacts": None, "response_artifacts": None}
