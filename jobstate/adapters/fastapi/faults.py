"""What goes wrong, as HTTP says it: one table from the library's errors to status codes, and one form of body for all."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from fastapi import HTTPException
from fastapi.responses import Response

from jobstate.errors import (
    IdempotencyConflictError,
    InvalidInputError,
    JobNotFoundError,
    JobstateError,
    OutcomeUnknownError,
    StaleJobError,
    TransitionError,
    UnreadableJobError,
)
from jobstate.payload import fault_of

logger = logging.getLogger("jobstate.adapters.fastapi")

SHOWN = 20
"""How many faults of one request are told."""


class OrganizationError(JobstateError):
    """The host's dependency answered what is no organization: nothing that a caller could mend."""

    def __init__(self, organization_id: object, problem: str) -> None:
        super().__init__(
            f"organization: the dependency that jobs_router was given answered {type(organization_id).__name__} ({problem}): "
            "let it answer the caller's organization, or raise HTTPException (401, 403)"
        )


class Problem(NamedTuple):
    """What is told of an error: a status code, a stable code, a message, figures."""

    status: int
    code: str
    message: str
    details: dict[str, Any] | None = None


def _invalid(error: InvalidInputError) -> Problem:
    return invalid([error])


def invalid(faults: Sequence[InvalidInputError]) -> Problem:
    """A request with these faults. The message tells the first one, the details all of them."""
    told = [{"field": fault.field, "problem": fault.problem} for fault in faults]
    return Problem(422, "invalid_request", str(faults[0]), {"errors": told})


def _refused(error: TransitionError) -> Problem:
    details = {
        "job_id": error.job_id,
        "event": error.event,
        "status": error.status,
        "legal": list(error.legal),
        "wait_until": error.wait_until,
    }
    return Problem(400, error.code, f"{error.code.replace('_', ' ')}: {error.reason}", details)


def _raced(error: StaleJobError) -> Problem:
    words = "another transition of this job was quicker: retrieve the job, and decide again"
    return Problem(409, "conflict", words, {"job_id": error.job_id})


def _doubtful(error: OutcomeUnknownError) -> Problem:
    words = "nobody can say whether it was done: repeat the request under the same Idempotency-Key, or look for the job"
    return Problem(503, "outcome_unknown", words, {"job_id": error.job_id})


def _conflicting(error: IdempotencyConflictError) -> Problem:
    details = {"idempotency_key": error.idempotency_key, "job_id": error.job_id}
    words = f"Idempotency-Key {error.idempotency_key!r} belongs to {error.job_id}, which was created from another body"
    return Problem(409, "idempotency_conflict", f"{words}: use a new key for a new request", details)


def _unreadable(error: UnreadableJobError) -> Problem:
    return Problem(500, "unreadable_job", f"{error.job_id} cannot be read", {"job_id": error.job_id})


def _unavailable(_: JobstateError) -> Problem:
    return Problem(503, "unavailable", "a service behind this one did not answer: repeat the request later")


_TABLE: dict[type[JobstateError], Callable[[Any], Problem]] = {
    InvalidInputError: _invalid,
    TransitionError: _refused,
    JobNotFoundError: lambda error: Problem(404, "job_not_found", str(error), {"job_id": error.job_id}),
    IdempotencyConflictError: _conflicting,
    StaleJobError: _raced,
    OutcomeUnknownError: _doubtful,
    UnreadableJobError: _unreadable,
    OrganizationError: lambda _: Problem(500, "internal_error", "a fault of this service: repeating the request does not help"),
    JobstateError: _unavailable,  # the store, the dispatcher or the artifact store; their words are not for everybody
}
"""The nearest base of an error that stands here says what is told of it."""


def problem_of(error: JobstateError) -> Problem:
    """What is told of an error. One of the service's own, rather than of the request, is logged."""
    kind = next(kind for kind in type(error).__mro__ if kind in _TABLE)
    problem = _TABLE[kind](error)
    if problem.status >= 500:
        logger.error("%s", error, exc_info=error)
    return problem


class RequestError(HTTPException):
    """A request that is refused before anything reads it; passes through FastAPI as it is."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.status, problem.message)
        self.problem = problem


def answer(problem: Problem, retry_after: int) -> Response:
    """The response; with `Retry-After` (seconds) when it helps to repeat the request."""
    detail = {"code": problem.code, "message": problem.message, "details": problem.details}
    headers = {"Retry-After": str(retry_after)} if problem.status == 503 else None
    return Response(json.dumps({"detail": detail}), problem.status, headers, media_type="application/json")


def faults_of(errors: Sequence[Any]) -> list[InvalidInputError]:
    """FastAPI's faults of a request as the library's, at most SHOWN."""
    return [_fault_of(error) for error in errors[:SHOWN]]


def _fault_of(error: Any) -> InvalidInputError:
    """The path is told without where it stands (`body`, `query`, ...)."""
    if isinstance(error.get("input"), bytes):  # FastAPI does not read what is not called JSON
        return InvalidInputError("body", "JSON is needed, with the header Content-Type: application/json")
    return fault_of(error, [str(part) for part in error["loc"][1:]] or ["body"])
