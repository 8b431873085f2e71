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
    503: "Done or not, it is worth asking again later.",
}

_INTEGER, _STRING = {"schema": {"type": "integer"}}, {"schema": {"type": "string"}}
_ETAG = {"ETag": {"description": "The job's version.", **_STRING}}
_RETRY_AFTER = {"Retry-After": {"description": "Seconds until it is worth asking again.", **_INTEGER}}
_LATER = {"Retry-After": {"description": "Seconds until the next poll; only while the job is not finished.", **_INTEGER}}

_FOLLOWING = ("retrieve_job", "retrieve_job_status", "cancel_job", "retry_job")
_LINKS: dict[str, Any] = {name: {"operationId": name, "parameters": {"job_id": "$response.body#/id"}} for name in _FOLLOWING}
_PAGE_LINKS: dict[str, Any] = {
    "next_page": {"operationId": "list_jobs", "parameters": {"after": "$response.body#/last_id"}},
    "previous_page": {"operationId": "list_jobs", "parameters": {"before": "$response.body#/first_id"}},
    "first_job": {"operationId": "retrieve_job", "parameters": {"job_id": "$response.body#/first_id"}},
}


def _errors(*statuses: int) -> Responses:
    hosts: Responses = {status: {"model": HostError, "description": "The host's own."} for status in (401, 403)}
    ours: Responses = {status: {"model": ErrorBody, "description": _WORDS[status]} for status in (*statuses, 422, 503)}
    ours[503]["headers"] = _RETRY_AFTER
    return {**hosts, **ours}


def _job(words: str) -> dict[str, Any]:
    return {"model": JobObject, "description": words, "headers": _ETAG, "links": _LINKS}


_UNCHANGED = {"description": "Nothing has changed since.", "headers": {**_ETAG, **_LATER}}
_DELAYED = "The message is `Retry queued; dispatch is delayed`: the retry did succeed, poll the same id. Any other: ask again."

CREATE: Responses = {
    200: _job("The job is queued; or the first one that was created under the same Idempotency-Key."),
    202: {
        **_job("The job is stored, its dispatch is delayed: poll it, do not create it again."),
        "headers": {**_ETAG, **_LATER},
    },
    **_errors(409, 413),
}
RETRIEVE: Responses = {200: {**_job("The job."), "headers": {**_ETAG, **_LATER}}, 304: _UNCHANGED, **_errors(404)}
STATUS: Responses = {
    200: {"model": StatusObject, "description": "The lifecycle.", "headers": {**_ETAG, **_LATER}},
    304: _UNCHANGED,
    **_errors(404),
}
LIST: Responses = {200: {"model": JobList, "description": "A page of jobs.", "links": _PAGE_LINKS}, **_errors()}
CANCEL: Responses = {200: _job("The job is cancelled."), **_errors(400, 404, 409)}
RETRY: Responses = {200: _job("The job is queued."), **_errors(400, 404, 409)}
RETRY[503] = {**RETRY[503], "description": _DELAYED}
