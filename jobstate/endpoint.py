"""Typed endpoints: what a host names once, so that payloads are validated and a type checker sees their types."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, cast

from pydantic import TypeAdapter, ValidationError

from jobstate.errors import InvalidInputError
from jobstate.model import Job, JobResponse, RequestT, ResponseT, narrow
from jobstate.payload import encode, invalid_input, json_object, json_value


class Endpoint(Generic[RequestT, ResponseT]):
    """An endpoint with the types of its request and of its response's body: pydantic models, or what pydantic can read.

    Attributes:
        name: the endpoint's name, such as `/v1/documents/extract`; a member of the host's own str enum is fine.
    """

    def __init__(self, name: str, *, request: type[RequestT], response: type[ResponseT]) -> None:
        self.name = str.__str__(name)
        self.request = request
        self.response = response

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, request={self.request.__name__}, response={self.response.__name__})"

    @cached_property
    def job_type(self) -> type[Job[RequestT, ResponseT]]:
        """The class of this endpoint's jobs."""
        return cast("type[Job[RequestT, ResponseT]]", Job[self.request, self.response])  # type: ignore[name-defined]  # made at run time

    @cached_property
    def _response_type(self) -> type[JobResponse[Any]]:
        return JobResponse[self.response]  # type: ignore[name-defined]  # made at run time

    @cached_property
    def _requests(self) -> TypeAdapter[RequestT]:
        return TypeAdapter(self.request)

    @cached_property
    def _responses(self) -> TypeAdapter[ResponseT]:
        return TypeAdapter(self.response)

    def encode_request(self, value: object) -> dict[str, Any]:
        """A request as checked JSON. Raises InvalidInputError with the field's path."""
        return json_object("request", _encode(self._requests, "request", value))

    def encode_response(self, value: object) -> Any:
        """A response's body as checked JSON. Raises InvalidInputError with the field's path."""
        return _encode(self._responses, "response", value)

    def check(self, job: Job[Any, Any]) -> None:
        """Raises InvalidInputError for a job of another endpoint."""
        if job.endpoint != self.name:
            raise InvalidInputError("endpoint", f"{job.id} is a job of {job.endpoint}, not of {self.name}")

    def narrow(self, job: Job[Any, Any]) -> Job[RequestT, ResponseT]:
        """The job with its payloads in this endpoint's types.

        Raises InvalidInputError for a job of another endpoint, and for a payload that these types cannot read.
        """
        self.check(job)
        payloads: dict[str, Any] = {}
        if job.request is not None:
            payloads["request"] = _decode(self._requests, "request", job.request, self.request)
        if job.response is not None:
            body = _decode(self._responses, "response", job.response.body, self.response)
            payloads["response"] = self._response_type.model_construct(status_code=job.response.status_code, body=body)
        return narrow(job, self.job_type, payloads)


def _encode(adapter: TypeAdapter[Any], field: str, value: object) -> Any:
    """What is stored for a value; it was read back once, so that it can be read back later."""
    try:
        checked = adapter.validate_python(value)
        encoded = json_value(field, adapter.dump_python(checked, mode="json", by_alias=True))
    except ValidationError as error:
        raise invalid_input(error, field) from None
    try:
        adapter.validate_json(encode(encoded))
    except ValidationError as error:
        words = "what is stored could not be read back: give the type the same form for reading and writing"
        raise InvalidInputError(field, f"{words} ({invalid_input(error, field)})") from None
    return encoded


def _decode(adapter: TypeAdapter[Any], field: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, type) and isinstance(value, kind) and not isinstance(value, dict):
        return value
    try:
        return adapter.validate_json(encode(value))
    except ValidationError as error:
        raise invalid_input(error, field) from None
