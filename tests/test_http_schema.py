"""What comes in may be anything: no 500, and no answer but those in the OpenAPI document."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
import schemathesis.checks
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import BaseModel
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks

from jobstate import AsyncJobs, Endpoint, Jobs
from jobstate.memory import AsyncMemoryDispatcher, AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from tests.web import make_app

PLAIN: Any = schemathesis.checks
TOLD: Any = openapi_checks
CHECKS: list[Any] = [
    PLAIN.not_a_server_error,
    TOLD.status_code_conformance,
    TOLD.content_type_conformance,
    TOLD.response_headers_conformance,
    TOLD.response_schema_conformance,
]
OPERATIONS = [
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs"),
    ("GET", "/v1/jobs/{job_id}"),
    ("GET", "/v1/jobs/{job_id}/status"),
    ("POST", "/v1/jobs/{job_id}/cancel"),
    ("POST", "/v1/jobs/{job_id}/retry"),
]


POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [
    *((*operation, POSITIVE) for operation in OPERATIONS),
    *((*operation, NEGATIVE) for operation in OPERATIONS if not operation[1].endswith(("/status", "/cancel"))),
]
"""Where any text is a job's id, and there is no other parameter, no request is wrong."""
NAMES = [f"{method} {path} {mode.value}" for method, path, mode in CASES]


class Page(BaseModel):
    number: int
    text: str = ""


class Document(BaseModel):
    pages: list[Page]
    title: str | None = None


ENDPOINTS: list[Endpoint[Any, Any]] = [
    Endpoint("/v1/documents/extract", request=Document, response=dict[str, Any]),
    Endpoint("/v1/documents/parse", request=dict[str, Any], response=dict[str, Any]),
]


def _app(colour: str) -> FastAPI:
    if colour == "sync":
        return make_app(Jobs(MemoryRepository(), MemoryDispatcher(), endpoints=ENDPOINTS))
    return make_app(AsyncJobs(AsyncMemoryRepository(), AsyncMemoryDispatcher(), endpoints=ENDPOINTS))


def _examples(count: int) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=6,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )


class Renewed:
    """An application that can be put back to its beginning."""

    def __init__(self, colour: str) -> None:
        self._colour = colour
        self.renew()

    def renew(self) -> None:
        self._app = _app(self._colour)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


def _schema(app: Any) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", app)


def _hammer(method: str, path: str, mode: GenerationMode, colour: str, examples: int) -> None:
    operation = _schema(_app(colour))[path][method]
    checks = [*CHECKS, TOLD.negative_data_rejection if mode is NEGATIVE else TOLD.positive_data_acceptance]
    if (path, mode) == ("/v1/jobs", POSITIVE) and method == "GET":
        checks.pop()  # that a filter by metadata is JSON in a string, the document cannot say

    @_examples(examples)
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case: Any) -> None:
        response = case.call(headers={"Api-Key": "key-a"})
        case.validate_response(response, checks=checks)

    each()


@pytest.mark.parametrize(("method", "path", "mode"), CASES, ids=NAMES)
def test_no_request_gets_a_500_or_an_answer_that_is_not_in_the_document(method: str, path: str, mode: GenerationMode) -> None:
    _hammer(method, path, mode, "async", 15)


@pytest.mark.full
@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize(("method", "path", "mode"), CASES, ids=NAMES)
def test_nor_do_many_requests(method: str, path: str, mode: GenerationMode, colour: str) -> None:
    _hammer(method, path, mode, colour, 500)


def _walk(colour: str, walks: int) -> None:
    app = Renewed(colour)
    machine: Any = _schema(app).as_state_machine()

    class Walk(machine):  # type: ignore[misc]  # made at run time
        def setup(self) -> None:
            app.renew()

        def get_call_kwargs(self, case: Any) -> dict[str, Any]:
            return {"headers": {"Api-Key": "key-a"}}

        def validate_response(self, response: Any, case: Any, **options: Any) -> None:
            case.validate_response(response, checks=CHECKS)

    Walk.run(settings=_examples(walks))


def test_no_walk_along_the_links_of_the_document_does() -> None:
    _walk("async", 6)


@pytest.mark.full
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_nor_do_many_walks(colour: str) -> None:
    _walk(colour, 200)


def test_every_operation_of_the_document_is_among_these() -> None:
    document = _app("sync").openapi()
    found = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    assert found == set(OPERATIONS)
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    assert len({operation["operationId"] for operation in operations}) == len(OPERATIONS)
