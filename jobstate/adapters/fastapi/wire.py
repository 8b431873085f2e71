"""The job object on the wire: its models, which the OpenAPI document shows, and how a job becomes one.

Source of the field names: the OpenAI-style job object. Two of them are called otherwise in Python.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, JsonValue
from pydantic_core import to_json

from jobstate.model import Job, JobStatus
from jobstate.query import JobPage

EXAMPLE_ID = "job_V1StGXR8_Z5jdHi6B-myT"

JobId = Annotated[str, Field(description="`job_` and 21 URL-safe characters.", examples=[EXAMPLE_ID])]
Time = Annotated[int, Field(description="Unix seconds.", examples=[1_700_000_000])]
MaybeTime = Annotated[int | None, Field(description="Unix seconds.")]


class ProblemObject(BaseModel):
    """Why a job failed, or what its reader should know: a stable code for programs, a message for people."""

    code: str
    message: str
    details: dict[str, JsonValue] | None = None


class ResponseObject(BaseModel):
    """What the endpoint answered."""

    status_code: int
    body: Annotated[JsonValue, Field(description="An object, unless the host's handler answers with another JSON value.")]


class StatusObject(BaseModel):
    """The lifecycle of a job, without anything that can be large."""

    id: JobId
    object: Literal["job"]
    status: JobStatus
    created_at: Time
    started_at: MaybeTime
    completed_at: Annotated[int | None, Field(description="Unix seconds; set for completed, failed and cancelled.")]
    expires_at: Time
    cancelled: Annotated[bool, Field(description="The cancel flag.")]
    attempt_count: Annotated[int, Field(description="How often it was started.")]
    last_attempt_at: MaybeTime
    last_failure_code: str | None


class JobObject(StatusObject):
    """A job."""

    endpoint: str
    organization_id: str
    request: Annotated[dict[str, JsonValue] | None, Field(description="The whole request body; null when not asked for.")]
    response: Annotated[ResponseObject | None, Field(description="Only while completed, and when asked for.")]
    error: Annotated[ProblemObject | None, Field(description="Only when failed.")]
    warnings: list[ProblemObject] | None
    metadata: Annotated[dict[str, str], Field(description="At most 16 pairs; keys of 64, values of 512 characters.")]
    cloud_task_name: Annotated[str | None, Field(description="The dispatcher's name for the present task.")]
    request_gcs_paths: Annotated[list[str] | None, Field(description="Where large parts of the request were put.")]


class JobList(BaseModel):
    """A page of jobs."""

    object: Literal["list"]
    data: list[JobObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ErrorDetail(BaseModel):
    """What went wrong: a stable code for programs, a message for people, figures."""

    code: str
    message: str
    details: dict[str, JsonValue] | None = None


class ErrorBody(BaseModel):
    """The body of every error."""

    detail: ErrorDetail


_LIFECYCLE = tuple(StatusObject.model_fields)
_AS_IT_IS = (*_LIFECYCLE, "endpoint", "organization_id", "request", "response", "warnings", "metadata")


def job_object(job: Job[Any, Any]) -> dict[str, Any]:
    """A job as `JobObject` has it; its values are of the library's types."""
    state = job.__dict__
    shown = {name: state[name] for name in _AS_IT_IS}
    shown["error"] = job.error if job.status is JobStatus.FAILED else None
    shown["cloud_task_name"] = job.task_name
    artifacts = job.request_artifacts
    shown["request_gcs_paths"] = None if artifacts is None else [artifact.key for artifact in artifacts]
    return shown


def job_bytes(job: Job[Any, Any]) -> bytes:
    """A job as JSON text."""
    return to_json(job_object(job))


def status_bytes(job: Job[Any, Any]) -> bytes:
    """A job's lifecycle as JSON text."""
    state = job.__dict__
    return to_json({name: state[name] for name in _LIFECYCLE})


def page_bytes(page: JobPage[Any, Any]) -> bytes:
    """A page as JSON text."""
    data = [job_object(job) for job in page.data]
    ends = {"first_id": page.first_id, "last_id": page.last_id, "has_more": page.has_more}
    return to_json({"object": "list", "data": data, **ends})
