"""Creating a job: what is kept, what is refused and by which name, and what one idempotency key stands for."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstate import (
    GuardRefusedError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidInputError,
    Job,
    JobError,
    Jobs,
    JobStatus,
    Policy,
)
from jobstate.model import JOB_ID
from tests.support import ENDPOINT, NOW, ORG, REQUEST, World, at_once, make_world, meeting

PARTS = {"scan.pdf": b"scan"}
BAD = JobError(code="bad_page", message="page 2 cannot be read")


@pytest.fixture(params=["memory", "sqlite"])
def threaded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world for threads."""
    with make_world(request.param, tmp_path) as made:
        yield made


def test_a_job_is_made_as_it_was_asked_for(world: World) -> None:
    metadata = {"k" * 64: "v" * 512, **{str(number): "" for number in range(15)}}
    job = world.create(
        metadata=metadata,
        idempotency_key="k" * 255,
        artifacts={"a" * 128: b"", "b.pdf": b"b"},
        ttl=timedelta(seconds=90),
        max_attempts=7,
        available_at=NOW + 30,
        trace_context={"traceparent": "00-1-2-01"},
        actor="ann",
    )
    row = world.row(job.id)
    assert row == job
    assert (row.status, row.run, row.attempt_count, row.held, row.organization_id) == (JobStatus.QUEUED, 1, 0, False, ORG)
    assert (row.endpoint, row.request, row.metadata, row.idempotency_key) == (ENDPOINT, REQUEST, metadata, "k" * 255)
    assert (row.ttl, row.max_attempts, row.available_at) == (90, 7, NOW + 30)
    assert (row.created_at, row.expires_at) == (NOW, NOW + 90)
    assert row.trace_context == {"traceparent": "00-1-2-01"}
    created = world.ours.history(job.id)[0]
    assert (created.event, created.actor, created.source, created.target) == ("created", "ann", None, JobStatus.VALIDATING)


def test_the_policy_gives_what_was_not_asked_for(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, Policy(ttl=timedelta(hours=1), max_attempts=5)) as world:
        job = world.create()
    assert (job.ttl, job.expires_at, job.max_attempts) == (3600, NOW + 3600, 5)
    assert (job.metadata, job.idempotency_key, job.available_at, job.trace_context) == ({}, None, None, None)


def test_ids_are_of_one_form_and_ordered_by_time(world: World) -> None:
    ids: list[str] = []
    for _ in range(50):
        ids.append(world.create().id)
        world.clock.advance(0.01)
    assert ids == sorted(set(ids))
    assert all(JOB_ID.fullmatch(job_id) for job_id in ids)


@pytest.mark.parametrize(
    "available_at",
    [
        NOW + 60,
        datetime.fromtimestamp(NOW + 60, UTC),
        datetime.fromtimestamp(NOW + 60.9, timezone(timedelta(hours=-7))),
    ],
)
def test_a_job_for_later_waits_for_its_time(world: World, available_at: int | datetime) -> None:
    job = world.create(available_at=available_at)
    assert (job.available_at, job.dispatch_pending, len(world.dispatcher)) == (NOW + 60, True, 0)
    with pytest.raises(GuardRefusedError) as early:
        world.start(job)
    assert (early.value.code, early.value.wait_until) == ("not_available", NOW + 60)
    world.clock.advance(60)
    assert world.jobs.relay().moved == 1
    assert world.start().job.id == job.id


@pytest.mark.parametrize("available_at", [0, NOW - 1, NOW])
def test_a_job_whose_time_has_come_is_dispatched_at_once(world: World, available_at: int) -> None:
    job = world.create(available_at=available_at)
    assert (job.dispatch_pending, job.dispatch_count, len(world.dispatcher)) == (False, 1, 1)


def test_a_held_job_waits_for_its_host(world: World) -> None:
    job = world.create(validating=True, idempotency_key="inv-17")
    assert (job.status, job.run, job.held, len(world.dispatcher)) == (JobStatus.VALIDATING, 0, True, 0)
    assert world.create(idempotency_key="inv-17").status is JobStatus.VALIDATING
    with pytest.raises(IllegalTransitionError):
        world.start(job)
    accepted = world.jobs.accept(job.id, actor="ann", reason="it is fine")
    assert (accepted.status, accepted.run, len(world.dispatcher)) == (JobStatus.QUEUED, 1, 1)
    record = world.jobs.history(job.id)[-1]
    assert (record.event, record.actor, record.reason) == ("accept", "ann", "it is fine")
    with pytest.raises(IllegalTransitionError):
        world.jobs.accept(job.id)
    assert world.start().job.request == REQUEST


def test_a_held_job_that_is_turned_down_never_runs(world: World) -> None:
    job = world.create(validating=True)
    rejected = world.jobs.reject(job.id, BAD, actor="ann", reason="two pages are missing")
    assert (rejected.status, rejected.error, rejected.last_failure_code) == (JobStatus.FAILED, BAD, "bad_page")
    with pytest.raises(GuardRefusedError) as refused:
        world.jobs.retry(job.id)
    assert refused.value.code == "never_accepted"
    assert len(world.dispatcher) == 0


def test_a_held_job_has_its_artifacts_when_it_is_accepted(world: World) -> None:
    job = world.create(validating=True, artifacts=PARTS)
    assert (job.status, len(world.dispatcher)) == (JobStatus.VALIDATING, 0)
    world.jobs.accept(job.id)
    assert world.start().artifact("scan.pdf") == b"scan"


def test_one_key_is_one_job(world: World) -> None:
    job = world.create(idempotency_key="inv-17", artifacts=PARTS)
    before = world.row(job.id)
    again = world.ours.create(ENDPOINT, dict(reversed(REQUEST.items())), idempotency_key="inv-17", artifacts=PARTS)
    assert (again.id, again.request) == (job.id, REQUEST)
    assert (world.row(job.id), world.jobs.count(), len(world.dispatcher)) == (before, 1, 1)
    assert world.create().id != world.create().id


def test_a_lost_answer_of_a_create_is_found_again(world: World) -> None:
    world.repository.lose("insert")
    job = world.create()
    assert (job.status, world.jobs.count(), len(world.dispatcher)) == (JobStatus.QUEUED, 1, 1)


OTHERWISE: dict[str, dict[str, Any]] = {
    "request": {"request": {**REQUEST, "pages": [1]}},
    "endpoint": {"endpoint": "/v1/documents/parse"},
    "bytes": {"artifacts": {"scan.pdf": b"other"}},
    "name": {"artifacts": {"scan.png": b"scan"}},
    "artifacts": {"artifacts": None},
    "more artifacts": {"artifacts": {**PARTS, "b": b""}},
}


@pytest.mark.parametrize("otherwise", OTHERWISE)
def test_a_key_of_another_request_is_a_conflict(world: World, otherwise: str) -> None:
    job = world.create(idempotency_key="inv-17", artifacts=PARTS)
    before = world.row(job.id), world.artifacts.keys()
    asked: dict[str, Any] = {"endpoint": ENDPOINT, "request": REQUEST, "artifacts": PARTS, **OTHERWISE[otherwise]}
    with pytest.raises(IdempotencyConflictError) as conflict:
        world.ours.create(idempotency_key="inv-17", **asked)
    assert (conflict.value.idempotency_key, conflict.value.job_id) == ("inv-17", job.id)
    assert "inv-17" in str(conflict.value)
    assert job.id in str(conflict.value)
    assert (world.row(job.id), world.artifacts.keys()) == before
    assert (world.jobs.count(), len(world.dispatcher)) == (1, 1)


@pytest.mark.parametrize("artifacts", [None, PARTS])
def test_eight_creates_at_once_under_one_key_make_one_job(threaded: World, artifacts: dict[str, bytes] | None) -> None:
    jobs = meeting(threaded, "insert", 8).for_organization(ORG)
    answers = at_once([lambda: jobs.create(ENDPOINT, REQUEST, idempotency_key="inv-17", artifacts=artifacts)] * 8)
    found = [answer for answer in answers if isinstance(answer, Job)]
    assert answers == found
    (row,) = threaded.jobs.list(include_request=True).data
    assert {job.id for job in found} == {row.id}
    assert all(job.request == row.request == REQUEST for job in found)
    assert (row.status, row.run, row.dispatch_pending) == (JobStatus.QUEUED, 1, False)
    events = [record.event for record in threaded.jobs.history(row.id)]
    assert events == (["created"] if artifacts is None else ["created", "accept"])
    attempt = threaded.start()
    assert all(attempt.artifact(name) == data for name, data in (artifacts or {}).items())


def test_eight_requests_at_once_under_one_key_make_one_job_and_seven_conflicts(threaded: World) -> None:
    jobs = meeting(threaded, "insert", 8).for_organization(ORG)

    def create(number: int) -> Callable[[], Job]:
        return lambda: jobs.create(ENDPOINT, {"number": number}, idempotency_key="inv-17")

    answers = at_once([create(number) for number in range(8)])
    (row,) = threaded.jobs.list(include_request=True).data
    (winner,) = [number for number, answer in enumerate(answers) if isinstance(answer, Job)]
    assert row.request == {"number": winner}
    conflicts = [answer for answer in answers if isinstance(answer, IdempotencyConflictError)]
    assert [conflict.job_id for conflict in conflicts] == [row.id] * 7


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["self"] = [value]
    return value


BAD_REQUESTS: dict[str, tuple[Any, str, str]] = {
    "nan": ({"a": [1, float("nan")]}, "request.a[1]", "finite"),
    "infinity": ({"a": float("-inf")}, "request.a", "finite"),
    "surrogate": ({"a": {"b": "\ud800"}}, "request.a.b", "surrogate"),
    "surrogate key": ({"a": {"\udfff": 1}}, "request.a", "surrogate"),
    "bytes": ({"a": b"x"}, "request.a", "bytes is not a JSON type"),
    "tuple": ({"a": (1, 2)}, "request.a", "tuple is not a JSON type"),
    "set": ({"a": {1}}, "request.a", "set is not a JSON type"),
    "datetime": ({"a": datetime.now(UTC)}, "request.a", "datetime is not a JSON type"),
    "object": ({"a": object()}, "request.a", "object is not a JSON type"),
    "int key": ({"a": {1: 2}}, "request.a", "strings as keys"),
    "none key": ({None: 2}, "request", "strings as keys"),
    "cycle": (cycle(), "request", "contains itself"),
    "depth": (nested(100_000), "request", "nested"),
    "list": ([1], "request", "JSON object"),
    "text": ("{}", "request", "JSON object"),
    "none": (None, "request", "JSON object"),
    "endless int": ({"a": 10**5000}, "request.a", "more than 4300 digits: give a string"),
}

BAD_OPTIONS: list[tuple[str, Any, str, str]] = [
    ("available_at", datetime(2030, 1, 1), "available_at", "naive"),
    ("available_at", -1, "available_at", "greater than or equal to 0"),
    ("available_at", 2**60, "available_at", "less than or equal"),
    ("available_at", 1.5, "available_at", "integer"),
    ("available_at", True, "available_at", "integer"),
    ("available_at", "tomorrow", "available_at", "integer"),
    ("metadata", {str(number): "" for number in range(17)}, "metadata", "at most 16"),
    ("metadata", {"k" * 65: ""}, "metadata", "1 to 64"),
    ("metadata", {"": ""}, "metadata", "1 to 64"),
    ("metadata", {"k": "v" * 513}, "metadata", "at most 512"),
    ("metadata", {"k": "a\0b"}, "metadata.k", "NUL"),
    ("metadata", {"k\0": "b"}, "metadata.k\0", "NUL"),
    ("metadata", {"k": "\ud800"}, "metadata.k", ""),
    ("metadata", {"k": 1}, "metadata.k", "string"),
    ("metadata", {"k": None}, "metadata.k", "string"),
    ("metadata", {1: "v"}, "metadata.1", "string"),
    ("trace_context", {"traceparent": "\0"}, "trace_context.traceparent", "NUL"),
    ("trace_context", {"traceparent": 1}, "trace_context.traceparent", "string"),
    ("idempotency_key", "", "idempotency_key", "1 character"),
    ("idempotency_key", "k" * 256, "idempotency_key", "255"),
    ("idempotency_key", "a\0", "idempotency_key", "NUL"),
    ("idempotency_key", 17, "idempotency_key", "string"),
    ("artifacts", {"a/b": b""}, "artifacts", "1 to 128"),
    ("artifacts", {".hidden": b""}, "artifacts", "not '.' first"),
    ("artifacts", {"..": b""}, "artifacts", "'..'"),
    ("artifacts", {"": b""}, "artifacts", "1 to 128"),
    ("artifacts", {"x" * 129: b""}, "artifacts", "1 to 128"),
    ("artifacts", {"a\n": b""}, "artifacts", "1 to 128"),
    ("artifacts", {"ä": b""}, "artifacts", "letters"),
    ("artifacts", {1: b""}, "artifacts", "name 1"),
    ("artifacts", {"a": "text"}, "artifacts.a", "bytes are needed"),
    ("max_attempts", 0, "max_attempts", "greater than or equal to 1"),
    ("max_attempts", -1, "max_attempts", "greater than or equal to 1"),
    ("max_attempts", 2.0, "max_attempts", "integer"),
    ("max_attempts", True, "max_attempts", "integer"),
    ("max_attempts", 1_000_001, "max_attempts", "1000000"),
    ("ttl", timedelta(0), "ttl", "more than 0"),
    ("ttl", timedelta(seconds=-1), "ttl", "more than 0"),
    ("ttl", timedelta(seconds=1.5), "ttl", "whole seconds"),
    ("ttl", timedelta(days=36_601), "ttl", "36600 days"),
    ("ttl", 3600, "ttl", "timedelta"),
    ("validating", "perhaps", "validating", "boolean"),
    ("actor", "a\0", "actor", "NUL"),
    ("actor", "\ud800", "actor", ""),
    ("actor", 17, "actor", "string"),
    ("metadata", 5, "metadata", ""),
    ("metadata", "batch", "metadata", ""),
    ("trace_context", "00-1-2-01", "trace_context", ""),
    ("artifacts", ["scan.pdf"], "artifacts", ""),
    ("artifacts", b"scan", "artifacts", ""),
]


def refused(world: World, create: Callable[[], object]) -> InvalidInputError:
    """The error of a create that stores nothing, and asks no port for anything."""
    with pytest.raises(InvalidInputError) as error:
        create()
    assert (world.repository.calls, world.artifacts.calls, world.dispatcher.calls) == ([], [], [])
    assert world.jobs.count() == 0
    return error.value


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_request_that_would_not_come_back_is_refused_by_its_place(world: World, name: str) -> None:
    request, place, words = BAD_REQUESTS[name]
    error = refused(world, lambda: world.ours.create(ENDPOINT, request))
    assert error.field == place
    assert words in error.problem


@pytest.mark.parametrize(("option", "value", "field", "words"), BAD_OPTIONS)
def test_an_option_beyond_its_limit_is_refused_by_its_name(
    world: World, option: str, value: Any, field: str, words: str
) -> None:
    error = refused(world, lambda: world.create(**{option: value}))
    assert error.field.startswith(field)
    assert words in error.problem


@pytest.mark.parametrize("endpoint", ["", "e" * 256, "e\0", "\ud800", None, 17])
def test_an_endpoint_without_a_proper_name_is_refused(world: World, endpoint: Any) -> None:
    assert refused(world, lambda: world.ours.create(endpoint, REQUEST)).field == "endpoint"


def test_an_unknown_argument_is_refused_by_its_name(world: World) -> None:
    with pytest.raises(TypeError, match="max_atempts"):
        world.create(max_atempts=1)
    assert world.jobs.count() == 0


def test_artifacts_need_a_store(world: World) -> None:
    bare = Jobs(world.others._ports.repository, clock=world.clock)
    error = refused(world, lambda: bare.create(ENDPOINT, REQUEST, organization_id=ORG, artifacts=PARTS))
    assert error.field == "artifacts"


def test_a_request_of_any_depth_is_refused_or_comes_back(tmp_path: Path) -> None:
    with make_world("memory", tmp_path) as world:
        limit = sys.getrecursionlimit()
        for depth in (*range(150, 250), *range(limit - 250, limit)):
            stored = world.jobs.count()
            try:
                job = world.ours.create(ENDPOINT, nested(depth), idempotency_key=f"depth {depth}")
            except InvalidInputError:
                assert world.jobs.count() == stored
            else:
                text = json.dumps(world.ours.retrieve(job.id, include_request=True).request)
                assert text.count("a") == depth


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None, max_examples=30)
@given(request=st.dictionaries(st.text(), JSON, max_size=5))
def test_a_request_that_is_taken_comes_back_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, request: dict[str, Any]
) -> None:
    with ExitStack() as stack:
        for kind in ("memory", "sqlite"):
            world = stack.enter_context(make_world(kind, tmp_path_factory.mktemp("jobs")))
            job = world.ours.create(ENDPOINT, request, idempotency_key="inv-17")
            assert repr(job.request) == repr(world.start().job.request) == repr(request)


def test_what_is_stored_and_returned_shares_nothing_with_the_caller(world: World) -> None:
    request: dict[str, Any] = {"pages": [1, {"deep": [2]}]}
    metadata, trace = {"batch": "1"}, {"traceparent": "00"}
    job = world.ours.create(ENDPOINT, request, metadata=metadata, trace_context=trace)
    before = world.row(job.id).model_dump()
    request["pages"][1]["deep"].append(3)
    metadata["batch"] = trace["traceparent"] = "changed"
    assert job.request == {"pages": [1, {"deep": [2]}]}
    assert (job.metadata, job.trace_context) == ({"batch": "1"}, {"traceparent": "00"})
    for answer in (job, world.ours.retrieve(job.id, include_request=True)):
        assert answer.request is not None
        answer.request["pages"].clear()
        answer.metadata.clear()
    assert world.row(job.id).model_dump() == before


def test_an_error_that_is_stored_shares_nothing_with_the_caller(world: World) -> None:
    details: dict[str, Any] = {"pages": [2]}
    error = JobError(code="bad_page", message="page 2 cannot be read", details=details)
    job = world.create(validating=True)
    rejected = world.jobs.reject(job.id, error)
    details["pages"].append(3)
    for known in (error, rejected.error):
        assert known is not None
        assert known.details is not None
        known.details["pages"] = []
    stored = world.row(job.id).error
    assert stored is not None
    assert stored.details == {"pages": [2]}
