"""Hostile input over HTTP: a 4xx that names the fault, never a 500, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from jobstate import Jobs
from jobstate.memory import MemoryRepository
from tests.support import ENDPOINT, REQUEST
from tests.web import BODY, Documented, error, fields, make_app

JSON = {"Content-Type": "application/json"}
ODD = st.text(max_size=30) | st.sampled_from(
    ["\0", "\ud800", "job_", "job_" + "-" * 21, "../..", "%", "9" * 5000, "{", "[" * 500]
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ODD, inner, max_size=3),
    max_leaves=8,
)
MANY = settings(deadline=None, max_examples=60)


@pytest.fixture(scope="module")
def service() -> tuple[Jobs, TestClient]:
    jobs = Jobs(MemoryRepository())
    return jobs, Documented(make_app(jobs, body_limit=2_000_000), headers={"Api-Key": "key-a"})


def named(response: Any) -> None:
    """A refusal has a code and words; one of a parameter or a field names it."""
    assert 400 <= response.status_code < 500, response.text
    detail = error(response, response.status_code)
    assert detail["code"]
    assert detail["message"]
    assert response.status_code != 422 or all(fields(response))


@MANY
@given(body=VALUES)
def test_any_json_is_taken_or_refused_in_words(service: tuple[Jobs, TestClient], body: Any) -> None:
    response = service[1].post("/v1/jobs", content=json.dumps(body), headers=JSON)
    named(response)


@MANY
@given(
    endpoint=VALUES | st.just(ENDPOINT),
    request=VALUES | st.dictionaries(ODD, VALUES, max_size=3),
    metadata=VALUES | st.dictionaries(ODD, ODD, max_size=3),
)
def test_any_fields_are_taken_and_come_back_or_are_refused(
    service: tuple[Jobs, TestClient], endpoint: Any, request: Any, metadata: Any
) -> None:
    jobs, client = service
    before = jobs.count()
    body = {"endpoint": endpoint, "request": request, "metadata": metadata}
    response = client.post("/v1/jobs", content=json.dumps(body), headers=JSON)
    if response.status_code == 200:
        job = response.json()
        assert (job["endpoint"], job["request"], job["metadata"]) == (endpoint, request, metadata or {})
    else:
        named(response)
        assert jobs.count() == before


@MANY
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused_in_words(service: tuple[Jobs, TestClient], content: bytes) -> None:
    named(service[1].post("/v1/jobs", content=content, headers=JSON))


@MANY
@given(job_id=ODD, call=st.sampled_from(["GET ", "GET /status", "POST /cancel", "POST /retry"]))
def test_any_id_is_an_unknown_one(service: tuple[Jobs, TestClient], job_id: str, call: str) -> None:
    method, path = call.split(" ")
    place = quote(job_id.encode(errors="surrogatepass"), safe="")
    response = service[1].request(method, f"/v1/jobs/{place}{path}")
    if job_id not in ("", ".", "..") and "/" not in job_id:
        assert error(response, 404)["code"] == "job_not_found"
    assert response.status_code < 500


@MANY
@given(
    name=st.sampled_from(["after", "before", "id", "status", "endpoint", "from_date", "to_date", "metadata", "limit", "order"]),
    value=ODD | VALUES.map(json.dumps),
)
def test_any_parameter_of_a_list_is_taken_or_named(service: tuple[Jobs, TestClient], name: str, value: str) -> None:
    query = f"{name}={quote(value.encode(errors='surrogatepass'))}"
    response = service[1].get(f"/v1/jobs?{query}")
    if response.status_code != 200:
        assert fields(response) == [name]


@pytest.mark.parametrize(
    ("content", "field"),
    [
        ("[" * 100_000, "body"),
        ('{"a":' * 100_000, "body"),
        ("1" * 10_000, "body"),
        ('{"endpoint": "/x", "request": {"a": NaN}}', "body"),
        ('{"endpoint": "/x", "request": {"a": "\\ud800"}}', "body"),
        ('{"endpoint": "/x", "request": {"a": "\ud800"}}', "body"),
        ('{"endpoint": "/x", "request": {}, "metadata": {"a": "\\u0000"}}', "metadata.a"),
        ('{"endpoint": "/x\\u0000", "request": {}}', "endpoint"),
        (json.dumps({"endpoint": "/x", "request": {}, "metadata": {str(n): "" for n in range(17)}}), "metadata"),
        (json.dumps({"endpoint": "/x", "request": [], "metadata": {}}), "request"),
        (json.dumps({"endpoint": "/x", "metadata": {}}), "request"),
        (json.dumps({"endpoint": "/x", "request": {}, "meta": {}}), "meta"),
        (json.dumps({"endpoint": "/x", "request": {}, "metadata": {"a": 1}}), "metadata.a"),
        (json.dumps([BODY]), "body"),
        ("", "body"),
    ],
)
def test_a_bad_body_is_named_by_its_field(service: tuple[Jobs, TestClient], content: str, field: str) -> None:
    before = service[0].count()
    response = service[1].post("/v1/jobs", content=content.encode(errors="surrogatepass"), headers=JSON)
    assert fields(response) == [field]
    assert service[0].count() == before


def test_a_request_at_the_limit_of_depth_comes_back_and_one_beyond_is_refused(service: tuple[Jobs, TestClient]) -> None:
    for depth, taken in ((190, True), (250, False)):
        nested = '{"endpoint": "/x", "request": {"a": ' + "[" * depth + "]" * depth + "}}"
        response = service[1].post("/v1/jobs", content=nested, headers=JSON)
        assert response.status_code == (200 if taken else 422), response.text[:200]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", ""])
def test_a_body_that_is_not_called_json_is_refused_with_what_to_call_it(service: tuple[Jobs, TestClient], kind: str) -> None:
    response = service[1].post("/v1/jobs", content=json.dumps(BODY), headers={"Content-Type": kind})
    assert fields(response) == ["body"]
    assert "Content-Type: application/json" in response.json()["detail"]["message"]


def test_a_fault_that_repeats_what_was_sent_does_so_in_part(service: tuple[Jobs, TestClient]) -> None:
    response = service[1].post("/v1/jobs", json={"endpoint": "/x", "request": "x" * 1_000_000})
    assert len(response.content) < 1_000
    many = {"endpoint": "/x", "request": REQUEST, **{f"field-{number}": 0 for number in range(1_000)}}
    assert len(fields(service[1].post("/v1/jobs", json=many))) == 20
