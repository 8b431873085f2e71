"""Typed endpoints: what a host names once, so that payloads are validated and a type checker sees their types."""

from __future__ import annotations

from functools import cached_property
from math import isfinite
from typing import Any, Generic, cast

from pydantic import TypeAdapter, ValidationError

from jobstate.errors import InvalidInputError
from jobstate.model import Job, JobResponse, RequestT, ResponseT, narrow
from jobstate.payload import encode, invalid_input, json_object, json_value, words_of


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
        return f"Endpoint({self.name!r}, request={self.request!r}, response={self.response!r})"

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

    def decode_request(self, value: Any) -> RequestT | None:
        """A stored request in its type. Raises InvalidInputError when the type cannot read it."""
        return None if value is None else _decode(self._requests, "request", value)

    def check(self, job: Job[Any, Any]) -> None:
        """Raises InvalidInputError for a job of another endpoint."""
        if job.endpoint != self.name:
            raise InvalidInputError("endpoint", f"{job.id} is a job of {job.endpoint}, not of {self.name}")

    def narrow(self, job: Job[Any, Any]) -> Job[RequestT, ResponseT]:
        """A job as it is stored, with its payloads in this endpoint's types.

        Raises InvalidInputError for a job of another endpoint, and for a payload that these types cannot read.
        """
        self.check(job)
        return self.dress(job, self.decode_request(job.request))

    def dress(self, job: Job[Any, Any], request: RequestT | None) -> Job[RequestT, ResponseT]:
        """The same with a request that was read before."""
        payloads: dict[str, Any] = {"request": request}
        if job.response is not None:
            body = _decode(self._responses, "response", job.response.body)
            payloads["response"] = self._response_type.model_construct(status_code=job.response.status_code, body=body)
        return narrow(job, self.job_type, payloads)


def _encode(adapter: TypeAdapter[Any], field: str, value: object) -> Any:
    """What is stored for a value; it is read back once, so that it can be read back later."""
    try:
        checked = adapter.validate_python(value)
        plain = adapter.dump_python(checked, mode="json", by_alias=True)
    except Exception as error:
        raise _fault(field, error) from None
    encoded = json_value(field, plain)
    text = encode(encoded)
    if "null" in text:
        json_value(field, _with_numbers(encoded, adapter.dump_python(checked, by_alias=True)))
    try:
        adapter.validate_json(text)
    except Exception as error:
        words = "what is stored could not be read back: give the type the same form for reading and writing"
        raise InvalidInputError(field, f"{words} ({_fault(field, error)})") from None
    return encoded


def _with_numbers(plain: Any, value: object) -> Any:
    """The JSON of a value, with NaN and infinities where pydantic has written null: where the type says nothing of numbers."""
    if plain is None and isinstance(value, float) and not isfinite(value):
        return value
    if isinstance(plain, dict) and isinstance(value, dict):
        pairs = zip(cast("dict[str, Any]", plain).items(), cast("Any", value).values(), strict=False)
        return {key: _with_numbers(item, each) for (key, item), each in pairs}
    if isinstance(plain, list) and isinstance(value, (list, tuple, set, frozenset)):
        return [_with_numbers(*pair) for pair in zip(cast("Any", plain), cast("Any", value), strict=False)]
    return cast("Any", plain)


def _decode(adapter: TypeAdapter[Any], field: str, value: Any) -> Any:
    try:
        return adapter.validate_json(encode(value))
    except Exception as error:
        raise _fault(field, error) from None


def _fault(field: str, error: Exception) -> InvalidInputError:
    """A host's type may raise anything from its validators."""
    return invalid_input(error, field) if isinstance(error, ValidationError) else InvalidInputError(field, words_of(error))
