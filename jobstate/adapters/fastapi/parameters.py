"""What comes in beside a body: the parameters of the calls, checked before any store is asked."""

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, cast

from fastapi import Header, Query
from pydantic import AfterValidator, TypeAdapter, ValidationError
from pydantic_core import from_json

from jobstate.face import Filter
from jobstate.model import JOB_ID, MAX_TIME, JobStatus, Metadata
from jobstate.payload import invalid_input

_DAY = 86_400
_METADATA: TypeAdapter[dict[str, str]] = TypeAdapter(Metadata)

IncludeRequest = Annotated[bool, Query(description="Answer with the request; without it polling is light.")]
IncludeResponse = Annotated[bool, Query(description="Answer with the response; without it polling is light.")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        alias="Idempotency-Key",
        description="The same key and request again answer with what the first one did.",
    ),
]
IfNoneMatch = Annotated[str | None, Header(description="The ETag of the last answer: 304 when nothing has changed since.")]
Limit = Annotated[int, Query(ge=1, le=100, description="The most jobs on the page.")]
Order = Annotated[Literal["asc", "desc"], Query(description="By creation: newest first (desc), or oldest first (asc).")]
_ID = f"^{JOB_ID.pattern}$"
Id = Annotated[str | None, Query(pattern=_ID, description="Only the job with this id.")]
After = Annotated[str | None, Query(pattern=_ID, description="A job's id: the page that lies behind it.")]
Before = Annotated[str | None, Query(pattern=_ID, description="A job's id: the page that lies before it.")]
Status = Annotated[JobStatus | None, Query(description="Only jobs in this status.")]


def _day(value: str | None) -> str | None:
    if value is not None:
        try:
            date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"YYYY-MM-DD is needed: {error}") from None
    return value


def _pairs(value: str | None) -> str | None:
    if value is not None:
        metadata_of(value)
    return value


def metadata_of(text: str) -> dict[str, str]:
    """The pairs in a filter by metadata. Raises ValueError."""
    try:
        return _METADATA.validate_python(from_json(text, allow_inf_nan=False))
    except ValidationError as error:
        raise ValueError(str(invalid_input(error))) from None
    except ValueError as error:
        raise ValueError(f"a JSON object of strings is needed: {error}") from None


_DATE = Query(pattern=r"^\d{4}-\d{2}-\d{2}$", json_schema_extra={"format": "date", "examples": ["2026-01-31"]})
FromDate = Annotated[str | None, _DATE, AfterValidator(_day)]
ToDate = Annotated[str | None, _DATE, AfterValidator(_day)]
MetadataPairs = Annotated[
    str | None,
    Query(description="A JSON object of strings: pairs that must match exactly.", examples=['{"batch_id": "batch_001"}']),
    AfterValidator(_pairs),
]


def midnight(day: str, *, after: bool = False) -> int:
    """Unix seconds at the beginning of a day in UTC, or `after` it; in the range that a job's times have."""
    moment = int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())
    return min(max(moment + _DAY * after, 0), MAX_TIME)


def conditions(
    job_id: str | None,
    status: JobStatus | None,
    endpoint: str | None,
    from_date: str | None,
    to_date: str | None,
    metadata: str | None,
) -> Filter:
    """The parameters of a list as the service's conditions."""
    asked: dict[str, Any] = {
        "ids": job_id and [job_id],
        "status": status,
        "endpoint": endpoint,
        "created_from": from_date and midnight(from_date),
        "created_to": to_date and midnight(to_date, after=True),
        "metadata": metadata and metadata_of(metadata),
    }
    return cast("Filter", {name: value for name, value in asked.items() if value is not None})


def both(ours: Filter, hosts: Filter) -> Filter:
    """The conditions of both: pairs of metadata, ids and other conditions that contradict each other find nothing."""
    merged: dict[str, Any] = {name: value for name, value in hosts.items() if value is not None}
    for name, value in cast("dict[str, Any]", ours).items():
        there = merged.get(name, value)
        if name == "metadata":
            if any(there.get(key, pair) != pair for key, pair in value.items()):
                return Filter(ids=[])
            merged[name] = {**there, **value}
        elif name == "ids":
            merged[name] = [job_id for job_id in value if job_id in there]
        elif there != value:
            return Filter(ids=[])
        else:
            merged[name] = value
    return cast("Filter", merged)
