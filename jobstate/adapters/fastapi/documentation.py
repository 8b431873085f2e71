"""What the OpenAPI document says of the answers: status codes, headers, links from one call to the next."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, JsonValue

from jobstate.adapters.fastapi.wire import ErrorBody, JobList, JobObject, StatusObject

Responses = dict[int | str, dict[str, Any]]


class HostError(BaseModel):
    """The host's own answer to a caller that it does not know, or does not let in."""

    detail: JsonValue


_WORDS = {
    400: "The job's status does not allow it.",
    404: "No such job; another organization's job looks the same.",
    409: "Another transition was quicker.",
    413: "The body is too large.",
    422: "A field of the request breaks a limit: the body names it.",
    500: "The stored job is damaged, or this service is set up wrongly.",
    503: "Done or not, it is worth asking again later.",
}

_INTEGER, _STRING = {"schema": {"type": "integer"}}, {"schema": {"type": "string"}}
_ETAG = {"ETag": {"description": "The job's version; none when its request could not be restored.", **_STRING}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds until it is worth asking again.", **_INTEGER}}
_LATER = {"Retry-After": {"description": "Seconds until the next poll; only while the job is not finished.", **_INTEGER}}

_LINKS: dict[type[BaseModel], dict[str, tuple[str, dict[str, str]]]] = {
    JobObject: {
        name: (name, {"job_id": "$response.body#/id"})
        for name in ("retrieve_job", "retrieve_job_status", "cancel_job", "retry_job")
    },
    JobList: {
        "next_page": ("list_jobs", {"after": "$response.body#/last_id"}),
        "previous_page": ("list_jobs", {"before": "$response.body#/first_id"}),
        "first_job": ("retrieve_job", {"job_id": "$response.body#/first_id"}),
    },
}
"""From an answer with this body to the next call, with what it takes from there."""


def _errors(*statuses: int) -> Responses:
    hosts: Responses = {status: {"model": HostError, "description": "The host's own."} for status in (401, 403)}
    ours: Responses = {status: {"model": ErrorBody, "description": _WORDS[status]} for status in (*statuses, 422, 500, 503)}
    ours[503]["headers"] = _RETRY_AFTER
    return {**hosts, **ours}


def _job(words: str, headers: dict[str, Any] = _ETAG) -> dict[str, Any]:
    return {"model": JobObject, "description": words, "headers": headers}


_POLLED = {**_ETAG, **_LATER}
_UNCHANGED = {"description": "Nothing has changed since.", "headers": _POLLED}
_DELAYED = "The message is `Retry queued; dispatch is delayed`: the retry did succeed, poll the same id. Any other: ask again."

_ANSWERS: dict[str, Responses] = {
    "create_job": {
        200: _job("The job is queued; or the first one that was created under the same Idempotency-Key."),
        202: _job("The job is stored, its dispatch is delayed: poll it, do not create it again.", _POLLED),
        **_errors(409, 413),
    },
    "list_jobs": {200: {"model": JobList, "description": "A page of jobs."}, **_errors()},
    "retrieve_job": {200: _job("The job.", _POLLED), 304: _UNCHANGED, **_errors(404)},
    "retrieve_job_status": {
        200: {"model": StatusObject, "description": "The lifecycle.", "headers": _POLLED},
        304: _UNCHANGED,
        **_errors(404),
    },
    "cancel_job": {200: _job("The job is cancelled."), **_errors(400, 404, 409)},
    "retry_job": {200: _job("The job is queued."), **_errors(400, 404, 409)},
}
_ANSWERS["retry_job"][503]["description"] = _DELAYED


def operation(name: str, prefix: str) -> dict[str, Any]:
    """What FastAPI is told of a call: its name in the document, which begins with `prefix`, and its answers."""
    answers = {status: _linked(said, prefix) for status, said in _ANSWERS[name].items()}
    return {"operation_id": prefix + name, "responses": answers}


def _linked(said: dict[str, Any], prefix: str) -> dict[str, Any]:
    if (model := said.get("model")) not in _LINKS:
        return said
    links = {name: {"operationId": prefix + to, "parameters": given} for name, (to, given) in _LINKS[model].items()}
    return {**said, "links": links}
