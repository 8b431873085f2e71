"""What comes in: the parameters of the calls, checked before any store is asked."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, cast

from fastapi import Header, Query
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema, from_json

from jobstate.endpoint import Endpoint
from jobstate.errors import InvalidInputError
from jobstate.face import Filter
from jobstate.model import JOB_ID, MAX_TIME, METADATA_KEY, METADATA_PAIRS, METADATA_VALUE, JobStatus, Metadata
from jobstate.payload import invalid_input

_DAY = 86_400
_WITHOUT_NUL = r"^[^\u0000]*$"
METADATA_SCHEMA = {
    "type": "object",
    "description": "What the caller keeps with the job.",
    "maxProperties": METADATA_PAIRS,
    "propertyNames": {"minLength": 1, "maxLength": METADATA_KEY, "pattern": _WITHOUT_NUL},
    "additionalProperties": {"type": "string", "maxLength": METADATA_VALUE, "pattern": _WITHOUT_NUL},
}
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


class Names:
    """The names of endpoints: these and no others, or any when there are none. Checks, and says so in a schema."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = [str.__str__(name) for name in names]

    def check(self, name: str) -> str:
        """The name. Raises InvalidInputError for an unknown one."""
        if self.names and name not in self.names:
            raise InvalidInputError("endpoint", f"{name[:80]!r} is unknown; known are {', '.join(self.names)}")
        return name

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Checked where it stands in a type."""
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def _checked(self, name: str) -> str:
        try:
            return self.check(name)
        except InvalidInputError as error:
            raise ValueError(error.problem) from None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The names as an enum."""
        return {**handler(schema), "enum": self.names} if self.names else handler(schema)


class CreateJob(BaseModel):
    """The body of a create."""

    model_config = ConfigDict(extra="forbid")

    endpoint: Annotated[str, Field(min_length=1, max_length=255, examples=["/v1/documents/extract"])]
    request: Annotated[dict[str, Any], Field(description="The whole request body for the endpoint.")]
    metadata: Annotated[
        Annotated[Metadata, WithJsonSchema(METADATA_SCHEMA)] | None, Field(examples=[{"batch_id": "batch_001"}])
    ] = None


class Bodies:
    """Says in the schema of `CreateJob` which request belongs to which endpoint."""

    def __init__(self, names: Names, endpoints: Mapping[str, Endpoint[Any, Any]]) -> None:
        self._names = names
        self._endpoints = endpoints

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """One alternative for each endpoint; the plain schema where there is no endpoint."""
        shown = handler(schema)
        if not self._names.names:
            return shown
        plain = handler.resolve_ref_schema(shown)
        return {**plain, "oneOf": [self._alternative(name, handler) for name in self._names.names]}

    def _alternative(self, name: str, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        properties: dict[str, Any] = {"endpoint": {"const": name}}
        if name in self._endpoints:
            properties["request"] = handler(TypeAdapter(self._endpoints[name].request).core_schema)
        return {"title": name, "properties": properties}
