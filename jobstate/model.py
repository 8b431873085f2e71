"""The values: a job, its parts, and what is said about it. All frozen.

What comes from outside is validated here, once, when a value is built. `evolve` makes a changed copy of what the library
computed itself, and validates nothing. This module knows no rule of the lifecycle and no port.

Source of the field names and limits: the OpenAI-style job object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeAlias, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, JsonValue, StringConstraints
from pydantic_core import from_json
from typing_extensions import TypeVar

MAX_TIME = 253_402_300_799
"""The last second of the year 9999: what every store and `datetime` can hold."""

METADATA_PAIRS, METADATA_KEY, METADATA_VALUE = 16, 64, 512
"""Limits on metadata: pairs, characters in a key, characters in a value."""

JOB_ID = re.compile(r"job_[0-9A-Za-z_-]{21}")


class JobStatus(StrEnum):
    """Where a job stands."""

    VALIDATING = "validating"
    QUEUED = "queued"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class Event(StrEnum):
    """What can be asked of a job; the table in `jobstate.lifecycle` says what follows."""

    ACCEPT = "accept"
    REJECT = "reject"
    DISPATCHED = "dispatched"
    DELAYED = "delayed"
    START = "start"
    HEARTBEAT = "heartbeat"
    COMPLETE = "complete"
    FAIL = "fail"
    RELEASE = "release"
    GIVE_BACK = "give_back"
    RESCUE = "rescue"
    CANCEL = "cancel"
    RETRY = "retry"
    EXPIRE = "expire"
    BEGIN_CLEANUP = "begin_cleanup"
    END_CLEANUP = "end_cleanup"


def unix_seconds(value: object) -> object:
    """Whole Unix seconds of an aware datetime; anything else but a naive datetime is passed on to the validator."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError("a naive datetime has no place in time: give it a tzinfo, or give whole Unix seconds")
        return int(value.timestamp() // 1)
    return value


def _plain_text(value: str) -> str:
    if "\0" in value:
        raise ValueError("the NUL character cannot be stored: remove it")
    return str.__str__(_unicode(value))


def _unicode(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"character {error.start} is half of a surrogate pair: give valid Unicode") from None
    return value


def _storable(value: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
    try:
        from_json(json.dumps([[[value]]], ensure_ascii=False, allow_nan=False))  # three deep, as in a row or a record
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"this is not JSON that every store can hold: {error}") from None
    return value


def _metadata(value: dict[str, str]) -> dict[str, str]:
    if len(value) > METADATA_PAIRS:
        raise ValueError(f"{len(value)} pairs, at most {METADATA_PAIRS} are allowed")
    for key, text in value.items():
        if not 1 <= len(key) <= METADATA_KEY:
            raise ValueError(f"key {key[:80]!r} has {len(key)} characters, 1 to {METADATA_KEY} are allowed")
        if len(text) > METADATA_VALUE:
            raise ValueError(f"value of {key!r} has {len(text)} characters, at most {METADATA_VALUE} are allowed")
    return value


JobId = Annotated[str, StringConstraints(pattern=f"^{JOB_ID.pattern}$")]
Text = Annotated[str, StringConstraints(strict=True), AfterValidator(_plain_text)]
Name = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=255), AfterValidator(_plain_text)]
Code = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=128), AfterValidator(_plain_text)]
UnixSeconds = Annotated[int, BeforeValidator(unix_seconds), Field(strict=True, ge=0, le=MAX_TIME)]
Seconds = Annotated[int, Field(strict=True, ge=1, le=MAX_TIME)]
Count = Annotated[int, Field(strict=True, ge=0)]
Limit = Annotated[int, Field(strict=True, ge=1, le=1_000_000)]
Message = Annotated[str, StringConstraints(strict=True), AfterValidator(_unicode)]
Details = Annotated[dict[str, JsonValue] | None, AfterValidator(_storable)]
Metadata = Annotated[dict[Text, Text], AfterValidator(_metadata)]

RequestT = TypeVar("RequestT", default=dict[str, Any])
ResponseT = TypeVar("ResponseT", default=Any)


class Value(BaseModel, frozen=True, extra="forbid"):
    """Base of all values: frozen, and picklable also when narrowed."""

    def __reduce__(self) -> tuple[Any, ...]:
        generic = type(self).__pydantic_generic_metadata__
        return _restore, (generic["origin"] or type(self), generic["args"] if generic["origin"] else (), self.__dict__)


class JobError(Value, frozen=True):
    """Why a job failed: a stable code for programs, a message for people."""

    code: Code
    message: Message
    details: Details = None


class JobWarning(Value, frozen=True):
    """Something the reader of a job should know, of the same shape as an error."""

    code: Code
    message: Message
    details: Details = None


class JobResponse(Value, Generic[ResponseT], frozen=True):
    """What the endpoint would have answered: an HTTP status code and a body."""

    status_code: Annotated[int, Field(strict=True, ge=100, le=599)] = 200
    body: ResponseT


class Lease(Value, frozen=True):
    """Who executes the job now.

    `token` was minted for one start. `expires_at` is in Unix seconds; None for a lease without end (`Policy.lease` none).
    """

    token: Name
    expires_at: UnixSeconds | None = None


class Artifact(Value, frozen=True):
    """A reference to bytes in an artifact store: `size` in bytes, `digest` their SHA-256 in hex."""

    name: Name
    key: Name
    size: Count
    digest: str


class Delivery(Value, frozen=True):
    """The message that a dispatcher carries to a worker: which job, and which of its runs. Nothing else."""

    job_id: Name
    run: Count


class Job(Value, Generic[RequestT, ResponseT], frozen=True):
    """One job at one version. Times are Unix seconds, UTC.

    Narrow it for a type checker and for validation: `Job[ExtractRequest, ExtractResult]`; an own endpoint enum: a subclass
    with `endpoint: OurEndpoints`. `request` and `response` are None also when they were not asked for.
    """

    # Identity
    id: JobId
    object: Literal["job"] = "job"
    organization_id: Name
    endpoint: Name
    metadata: Metadata = Field(default_factory=dict[str, str])
    idempotency_key: Name | None = None
    request_digest: str | None = None
    trace_context: dict[Text, Text] | None = None
    # State
    status: JobStatus = JobStatus.VALIDATING
    held: bool = False
    version: Count = 1
    run: Count = 0
    operation: str = ""
    lease: Lease | None = None
    available_at: UnixSeconds | None = None
    retried_at: UnixSeconds | None = None
    retry_key: Name | None = None
    task_name: str | None = None
    dispatched_at: UnixSeconds | None = None
    dispatch_count: Count = 0
    dispatch_delayed_at: UnixSeconds | None = None
    # Results
    request: RequestT | None = None
    request_artifacts: tuple[Artifact, ...] | None = None
    response: JobResponse[ResponseT] | None = None
    response_artifacts: tuple[Artifact, ...] | None = None
    result_digest: str | None = None
    error: JobError | None = None
    warnings: tuple[JobWarning, ...] | None = None
    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    # Counting
    attempt_count: Count = 0
    attempt_base: Count = 0
    give_backs: Count = 0
    max_attempts: Limit = 1
    ttl: Seconds
    last_attempt_at: UnixSeconds | None = None
    last_failure_code: Code | None = None
    cancelled: bool = False
    # Times
    created_at: UnixSeconds
    updated_at: UnixSeconds
    started_at: UnixSeconds | None = None
    completed_at: UnixSeconds | None = None
    expires_at: UnixSeconds
    cleanup_started_at: UnixSeconds | None = None
    cleanup_completed_at: UnixSeconds | None = None

    @property
    def dispatch_pending(self) -> bool:
        """Queued, and no dispatcher has taken it yet: the row is its own outbox."""
        return self.status is JobStatus.QUEUED and self.dispatched_at is None

    @property
    def ready_at(self) -> int:
        """Since when, or from when on, this run may start (Unix seconds): the order of a fair queue."""
        if self.available_at is not None:
            return self.available_at
        return self.created_at if self.retried_at is None else self.retried_at

    def is_available(self, now: int) -> bool:
        """Whether this run may start at `now` (Unix seconds) as far as `available_at` goes."""
        return self.available_at is None or self.available_at <= max(now, self.updated_at)

    @property
    def attempts_used(self) -> int:
        """How many attempts of the present budget are spent."""
        return self.attempt_count - self.attempt_base

    @property
    def delivery(self) -> Delivery:
        """The message for this run."""
        return construct(Delivery, job_id=self.id, run=self.run)


AnyJob: TypeAlias = "Job[Any, Any]"
"""A job with whatever payloads. In quotes, for pydantic would build one more class, and its schema, to name it."""

_V = TypeVar("_V", bound=Value)
_Job = TypeVar("_Job", bound=AnyJob)

PAYLOADS = frozenset({"request", "response"})
"""The fields that can be megabytes: never in a history record, and loaded only when asked for."""


def _restore(origin: Any, args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """Unpickle: a narrowed class is made again from its parts, since it has no name that could be imported."""
    cls = origin[args] if args else origin
    return _make(cls, state, set(state))


_new_object = object.__new__
_set_state, _set_fields_set, _set_extra, _set_private = (
    vars(BaseModel)[slot].__set__  # values are frozen, and this is two thirds of the time of `object.__setattr__`
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)


def _make(cls: type[_V], state: dict[str, Any], fields_set: set[str]) -> _V:
    value = _new_object(cls)
    _set_state(value, state)
    _set_fields_set(value, fields_set)
    _set_extra(value, None)
    _set_private(value, None)
    return value


def construct(cls: type[_V], **fields: Any) -> _V:
    """A value that the library computed itself, from all of its fields; nothing is validated.

    Equal to `cls.model_construct(**fields)`, which looks for defaults first.
    """
    return _make(cls, fields, set(fields))


def evolve(job: _Job, changes: dict[str, Any]) -> _Job:
    """The same job with other values in some fields, not validated: for what the library computed itself.

    Equal to `job.model_copy(update=changes)`, without its copy of the set of fields; payloads are shared, not copied.
    """
    value = _new_object(type(job))
    _set_state(value, {**job.__dict__, **changes})
    _set_fields_set(value, job.__pydantic_fields_set__)
    _set_extra(value, None)
    _set_private(value, None)
    return value


def narrow(job: Job[Any, Any], cls: type[_Job], changes: dict[str, Any]) -> _Job:
    """The same job as another class of job, with other payloads; nothing is validated."""
    return _make(cls, {**job.__dict__, **changes}, job.__pydantic_fields_set__)


_ALL_FIELDS = set(Job.model_fields)


def stored_job(state: dict[str, Any]) -> Job[Any, Any]:
    """A job from all of its fields as a store has kept them; what was validated when it came in is not validated again."""
    return _make(Job, state, _ALL_FIELDS)


class HistoryRecord(Value, frozen=True):
    """What one save did, written with it.

    `version` is the version that the save made; `changes` are the fields it set, payloads left out, as JSON values.
    `source` is None for the record of a creation. `attempt` is the job's `attempt_count` after the save.
    """

    job_id: str
    version: int
    event: Event | Literal["created"]
    source: JobStatus | None
    target: JobStatus
    at: int
    attempt: int
    operation: str
    actor: str | None = None
    reason: str | None = None
    changes: dict[str, JsonValue]


_PLAIN = frozenset({str, int, bool, float})


def plain(value: Any) -> JsonValue:
    """A field's value as JSON values, as it stands in a history record."""
    as_it_is: JsonValue = value
    if value is None or type(value) in _PLAIN:
        return as_it_is
    if isinstance(value, StrEnum):
        return str(value)  # a third of the time of `value.value`
    if isinstance(value, BaseModel):
        dumped: JsonValue = value.model_dump(mode="json")
        return dumped
    if isinstance(value, dict):
        return dict(cast(dict[str, JsonValue], value))  # a record shares nothing with the job
    if isinstance(value, tuple):
        return [plain(item) for item in cast(tuple[object, ...], value)]
    return as_it_is


def plain_fields(fields: Mapping[str, Any]) -> dict[str, JsonValue]:
    """Fields as they stand in a history record: payloads left out."""
    return {
        name: value if value is None or type(value) in _PLAIN else plain(value)
        for name, value in fields.items()
        if name not in PAYLOADS
    }
