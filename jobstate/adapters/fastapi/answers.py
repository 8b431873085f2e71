"""What is answered: bodies, status codes and headers."""

from __future__ import annotations

from typing import Any

from fastapi.responses import Response

from jobstate.adapters.fastapi import wire
from jobstate.adapters.fastapi.faults import Problem, answer
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.flows.whole import is_degraded
from jobstate.model import AnyJob, JobStatus
from jobstate.query import JobPage

_FINISHED = frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.EXPIRED})

RETRY_DELAYED = "Retry queued; dispatch is delayed"
"""The message of a retry that did succeed, and whose dispatch is delayed. Source: the job API's reference."""


def _headers(job: AnyJob, retry_after: int | None = None) -> dict[str, str]:
    """A job that is not shown whole has no ETag: its reader would be told later that nothing has changed."""
    headers = {} if is_degraded(job) else {"ETag": f'"{job.version}"'}
    if retry_after is not None and job.status not in _FINISHED:
        headers["Retry-After"] = str(retry_after)
    return headers


def _json(content: bytes, headers: dict[str, str], status: int = 200) -> Response:
    return Response(content, status, headers, media_type="application/json")


def is_delayed(job: AnyJob) -> bool:
    """Its caller is to be told that it is stored, queued, and not dispatched yet."""
    return job.dispatch_pending and any(warning.code == DISPATCH_DELAYED for warning in job.warnings or ())


def is_known(job: AnyJob, if_none_match: str) -> bool:
    """Whether `If-None-Match` names this version. Source: RFC 9110, 13.1.2; compared weakly."""
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return f'"{job.version}"' in tags or tags == ["*"]


def created(job: AnyJob, retry_after: int) -> Response:
    """200; 202 when its dispatch is delayed."""
    if is_delayed(job):
        return _json(wire.job_bytes(job), _headers(job, retry_after), 202)
    return done(job)


def retried(job: AnyJob, retry_after: int) -> Response:
    """200; 503 when its dispatch is delayed: the same request again dispatches the same retry."""
    if is_delayed(job):
        return answer(Problem(503, DISPATCH_DELAYED, RETRY_DELAYED, {"job_id": job.id}), retry_after)
    return done(job)


def done(job: AnyJob) -> Response:
    """The job as a command left it."""
    return _json(wire.job_bytes(job), _headers(job))


def unchanged(job: AnyJob, retry_after: int) -> Response:
    """304."""
    return Response(status_code=304, headers=_headers(job, retry_after))


def polled(job: AnyJob, if_none_match: str | None, retry_after: int, *, lifecycle: bool = False) -> Response:
    """The job, or its lifecycle only; 304 when its reader knows this version."""
    if if_none_match is not None and is_known(job, if_none_match):
        return unchanged(job, retry_after)
    content = wire.status_bytes(job) if lifecycle else wire.job_bytes(job)
    return _json(content, _headers(job, retry_after))


def page(jobs: JobPage[Any, Any]) -> Response:
    """A page of a list."""
    return _json(wire.page_bytes(jobs), {})
