"""Typed endpoints: payloads are checked when they come in, and are models when they come back."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from datetime import date
from enum import StrEnum
from math import inf, nan
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel, ConfigDict, Field

from jobstate import Endpoint, InvalidInputError, Job, JobError, JobResponse, Jobs, JobStatus, LeaseLostError
from jobstate.memory import MemoryDispatcher, MemoryRepository
from tests.support import ORG, World, make_world


class Extract(BaseModel):
    document: str
    pages: list[int] = Field(default_factory=list[int], max_length=3)


class Total(BaseModel):
    total: float
    due: date | None = None


class Split(BaseModel):
    parts: int


class Aliased(BaseModel):
    document: str = Field(alias="documentName")


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    due: date


class Endpoints(StrEnum):
    EXTRACT = "/v1/documents/extract"
    SPLIT = "/v1/documents/split"


EXTRACT = Endpoint(Endpoints.EXTRACT, request=Extract, response=Total)
SPLIT = Endpoint(Endpoints.SPLIT, request=Split, response=Split)
REQUEST = Extract(document="invoice.pdf", pages=[1, 2])
TOTAL = Total(total=1.5, due=date(2024, 2, 29))


@pytest.fixture(params=["memory", "sqlite"])
def named(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[World, Jobs]]:
    """A world, and a face on it that knows its endpoints."""
    with make_world(request.param, tmp_path) as world:
        ports = world.others._ports
        jobs = Jobs(
            ports.repository, ports.dispatcher, clock=world.clock, artifacts=ports.artifacts, endpoints=[EXTRACT, SPLIT]
        )
        yield world, jobs.for_organization(ORG)


def test_payloads_come_back_as_models_all_the_way(world: World) -> None:
    job = world.ours.create(EXTRACT, REQUEST)
    assert (job.request, job.endpoint) == (REQUEST, "/v1/documents/extract")
    assert type(job.endpoint) is str
    assert world.row(job.id).request == {"document": "invoice.pdf", "pages": [1, 2]}
    attempt = world.jobs.start(world.take(), EXTRACT)
    assert attempt.job.request == REQUEST
    assert attempt.heartbeat(0.5).request == REQUEST
    done = attempt.complete(TOTAL, status_code=201)
    assert done.response is not None
    assert (done.response.body, done.response.status_code) == (TOTAL, 201)
    assert world.row(job.id).response == JobResponse[Any](status_code=201, body={"total": 1.5, "due": "2024-02-29"})
    shown = world.ours.retrieve(job.id, EXTRACT, include_request=True, include_response=True)
    assert (shown.request, shown.response) == (REQUEST, JobResponse[Total](status_code=201, body=TOTAL))
    bare = world.ours.retrieve(job.id, EXTRACT)
    assert (bare.request, bare.response) == (None, None)


def test_a_repeated_create_answers_with_models_too(world: World) -> None:
    job = world.ours.create(EXTRACT, REQUEST, idempotency_key="inv-17")
    again = world.ours.create(EXTRACT, REQUEST, idempotency_key="inv-17")
    assert (again.id, again.request) == (job.id, REQUEST)


def test_a_face_that_knows_its_endpoints_checks_them_by_name(named: tuple[World, Jobs]) -> None:
    world, jobs = named
    job = jobs.create("/v1/documents/extract", {"document": "invoice.pdf"})
    assert job.request == {"document": "invoice.pdf", "pages": []}
    attempt = jobs.start(world.take())
    assert attempt.job.request == Extract(document="invoice.pdf")
    with pytest.raises(InvalidInputError) as refused:
        attempt.complete({"total": "much"})
    assert refused.value.field == "response.total"
    assert world.row(job.id).status is JobStatus.IN_PROGRESS
    attempt.complete({"total": "2", "due": None})
    assert world.row(job.id).response == JobResponse[Any](body={"total": 2.0, "due": None})


def test_an_unknown_endpoint_is_refused_with_the_known_ones(named: tuple[World, Jobs]) -> None:
    _, jobs = named
    with pytest.raises(InvalidInputError) as refused:
        jobs.create("/v1/documents/classify", {})
    assert refused.value.field == "endpoint"
    for known in ("/v1/documents/classify", "/v1/documents/extract", "/v1/documents/split"):
        assert known in refused.value.problem
    assert jobs.count() == 0


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        ({"document": 1}, "request.document", "string"),
        ({}, "request.document", "required"),
        ({"document": "a", "pages": [1, "x"]}, "request.pages.1", "integer"),
        ({"document": "a", "pages": [1, 2, 3, 4]}, "request.pages", "at most 3"),
        (None, "request", "Extract"),
        (Split(parts=2), "request", "Extract"),
    ],
)
def test_a_request_of_another_shape_is_refused_by_its_place(world: World, request_: Any, field: str, words: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        world.ours.create(EXTRACT, request_)
    assert refused.value.field == field
    assert words in refused.value.problem
    assert world.repository.calls == []


@pytest.mark.parametrize("model", [Aliased.model_validate({"documentName": "a"}), Strict(due=date(2024, 2, 29))])
def test_models_with_aliases_or_strict_fields_make_the_whole_way(world: World, model: BaseModel) -> None:
    endpoint = Endpoint("/v1/documents/any", request=type(model), response=type(model))
    job = world.ours.create(endpoint, model)
    assert job.request == model
    attempt = world.jobs.start(world.take(), endpoint)
    assert attempt.job.request == model
    attempt.complete(model)
    shown = world.ours.retrieve(job.id, endpoint, include_request=True, include_response=True)
    assert shown.response is not None
    assert (shown.request, shown.response.body) == (model, model)


class Loose(BaseModel):
    note: str | None = None
    values: dict[str, Any] = {}


LOOSE = Endpoint("/v1/statistics", request=Loose, response=cast("type[Any]", Any))


@pytest.mark.parametrize(
    ("values", "place", "number"),
    [
        ({"max": inf}, ".max", "inf"),
        ({"a": None, "b": [1.5, (-inf,)]}, ".b[1][0]", "-inf"),
        ({"inner": Loose(values={"mean": nan})}, ".inner.values.mean", "nan"),
    ],
)
def test_a_number_that_json_has_not_is_refused_where_the_type_says_nothing_of_it(values: Any, place: str, number: str) -> None:
    dispatcher = MemoryDispatcher()
    jobs = Jobs(MemoryRepository(), dispatcher)
    words = re.escape(f"values{place}: {number} is not a JSON number: give a finite one, or null")
    with pytest.raises(InvalidInputError, match=f"^request.{words}$"):
        jobs.create(LOOSE, Loose(values=values), organization_id="o")
    with pytest.raises(InvalidInputError, match=f"^response.{words}$"):
        LOOSE.encode_response({"values": values})
    with pytest.raises(InvalidInputError, match=r"^response: inf is not"):
        LOOSE.encode_response(inf)
    assert jobs.count() == 0
    assert LOOSE.encode_request(Loose(values={"a": None, "b": [1.5, {2}, date(2024, 2, 29)]})) == {
        "note": None,
        "values": {"a": None, "b": [1.5, [2], "2024-02-29"]},
    }


def test_a_job_is_not_read_as_one_of_another_endpoint(world: World) -> None:
    job = world.ours.create(EXTRACT, REQUEST)
    with pytest.raises(InvalidInputError) as refused:
        world.ours.retrieve(job.id, SPLIT)
    assert refused.value.field == "endpoint"
    for name in (job.id, "/v1/documents/extract", "/v1/documents/split"):
        assert name in refused.value.problem


def test_a_start_as_another_endpoint_changes_nothing(world: World) -> None:
    job = world.ours.create(EXTRACT, REQUEST)
    before = world.row(job.id), list(world.jobs.history(job.id))
    with pytest.raises(InvalidInputError) as refused:
        world.jobs.start(world.take(), SPLIT)
    assert refused.value.field == "endpoint"
    assert (world.row(job.id), list(world.jobs.history(job.id))) == before


def test_a_lost_attempt_is_told_so_in_types_too(world: World) -> None:
    job = world.ours.create(EXTRACT, REQUEST)
    attempt = world.jobs.start(world.take(), EXTRACT)
    world.others.cancel(job.id)
    with pytest.raises(LeaseLostError):
        attempt.complete(TOTAL)


def test_narrowed_jobs_and_all_their_parts_survive_pickling(world: World) -> None:
    job = world.ours.create(EXTRACT, REQUEST, metadata={"batch": "1"}, artifacts={"scan.pdf": b"scan"})
    attempt = world.jobs.start(world.take(), EXTRACT)
    answers: list[Job[Any, Any]] = [job, attempt.job, attempt.complete(TOTAL), world.row(job.id)]
    failed = world.ours.create(EXTRACT, REQUEST)
    answers.append(world.jobs.start(world.take()).fail(JobError(code="bad", message="bad", details={"pages": [1]})))
    answers.append(world.ours.retrieve(failed.id, EXTRACT, include_request=True))
    for answer in answers:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            copy = pickle.loads(pickle.dumps(answer, protocol))
            assert copy == answer
            assert type(copy) is type(answer)
            assert type(copy.request) is type(answer.request)
            assert copy.model_dump() == answer.model_dump()


def test_a_narrowed_job_comes_back_from_its_json(world: World) -> None:
    world.ours.create(EXTRACT, REQUEST)
    done = world.jobs.start(world.take(), EXTRACT).complete(TOTAL)
    assert Job[Extract, Total].model_validate_json(done.model_dump_json()) == done
    assert isinstance(done, Job)
