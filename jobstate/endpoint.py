"""Typed endpoints: what a host names once, so that payloads are validated and a type checker sees their types."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, cast

from pydantic import TypeAdapter, ValidationError

from jobstate.errors import InvalidInputError
from jobstate.model import Job, JobResponse, RequestT, ResponseT, narrow
from jobstate.payload import invalid_input, json_object, json_value


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
        try:
            request = self._requests.validate_python(value)
        except ValidationError as error:
            raise invalid_input(error, "request") from None
        return json_object("request", self._requests.dump_python(request, mode="json"))

    def encode_response(self, value: object) -> Any:
        """A response's body as checked JSON. Raises InvalidInputError with the field's path."""
        try:
            body = self._responses.validate_python(value)
        except ValidationError as error:
            raise invalid_input(error, "response") from None
        return json_value("response", self._responses.dump_python(body, mode="json"))

    def narrow(self, job: Job[Any, Any]) -> Job[RequestT, ResponseT]:
        """The job with its payloads in this endpoint's types. Raises InvalidInputError for a job of another endpoint."""
        if job.endpoint != self.name:
            raise InvalidInputError("endpoint", f"{job.id} is a job of {job.endpoint}, not of {self.name}")
        payloads: dict[str, Any] = {}
        if job.request is not None:
            payloads["request"] = self._requests.validate_python(job.request)
        if job.response is not None:
            body = self._responses.validate_python(job.response.body)
            payloads["response"] = self._response_type.model_construct(status_code=job.response.status_code, body=body)
        return narrow(job, self.job_type, payloads)
