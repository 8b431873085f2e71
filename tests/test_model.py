"""What comes in is checked once, where a value is built; what the library computes is not checked again."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from jobstate import Endpoint, InvalidInputError, Job, JobError, JobResponse, JobWarning, Lease, Policy
from jobstate.drivers import new_id
from jobstate.model import MAX_TIME, Artifact, evolve
from jobstate.payload import json_value
from tests.support import NOW, a_job

FULL: dict[str, Any] = {
    "trace_context": {"traceparent": "00-a"},
    "lease": Lease(token="t", expires_at=NOW),
    "request_artifacts": (Artifact(name="n", key="k", size=1, digest="d"),),
    "response": JobResponse[Any](status_code=201, body=[1, None]),
    "error": JobError(code="c", message="m", details={"a": [1]}),
    "warnings": (JobWarning(code="c", message="m"),),
    "progress": 0.5,
}


class Extract(BaseModel):
    text: str


class Extracted(BaseModel):
    words: int


class OurEndpoints(StrEnum):
    EXTRACT = "/v1/documents/extract"


class OurJob(Job[Extract, Extracted], frozen=True):
    endpoint: OurEndpoints


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("created_at", -1, "greater than or equal to 0"),
        ("created_at", 1.5, "valid integer"),
        ("created_at", True, "valid integer"),
        ("created_at", MAX_TIME + 1, f"less than or equal to {MAX_TIME}"),
        ("expires_at", datetime(2030, 1, 1), "naive datetime"),  # naive on purpose
        ("status", "paused", "'validating', 'queued', 'in_progress', 'completed', 'failed', 'cancelled' or 'expired'"),
        ("id", "job_short", "pattern"),
        ("id", "job_" + "A" * 21 + "\n", "pattern"),
        ("organization_id", "", "at least 1 character"),
        ("organization_id", "a" * 256, "at most 255 characters"),
        ("organization_id", "a\0b", "NUL"),
        ("endpoint", "/\ud800", "unicode"),
        ("metadata", {str(number): "" for number in range(17)}, "17 pairs, at most 16 are allowed"),
        ("metadata", {"k" * 65: ""}, "has 65 characters, 1 to 64 are allowed"),
        ("metadata", {"": ""}, "has 0 characters, 1 to 64 are allowed"),
        ("metadata", {"k": "v" * 513}, "has 513 characters, at most 512 are allowed"),
        ("metadata", {"k": 1}, "valid string"),
        ("progress", 1.1, "less than or equal to 1"),
        ("run", -1, "greater than or equal to 0"),
        ("max_attempts", 0, "greater than or equal to 1"),
        ("ttl", 0, "greater than or equal to 1"),
        ("surprise", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_bad_value_is_refused_with_its_field_and_its_limit(field: str, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Job.model_validate({**a_job().model_dump(), field: value})
    assert caught.value.errors()[0]["loc"][0] == field
    assert words in str(caught.value)


def test_the_limits_themselves_are_allowed() -> None:
    metadata = {f"{number:064}": "v" * 512 for number in range(16)}
    job = Job.model_validate({**a_job().model_dump(), "metadata": metadata, "created_at": 0, "expires_at": MAX_TIME})
    assert job.metadata == metadata


def test_an_aware_datetime_is_taken_as_whole_seconds_utc() -> None:
    when = datetime(2030, 1, 1, 12, 0, 0, 900_000, tzinfo=timezone(timedelta(hours=2)))
    job = Job.model_validate({**a_job().model_dump(), "available_at": when})
    assert job.available_at == int(datetime(2030, 1, 1, 10, tzinfo=UTC).timestamp())


def test_a_job_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        a_job().status = "failed"  # type: ignore[misc, assignment]  # pyright: ignore[reportAttributeAccessIssue]


def test_a_job_round_trips_through_json_and_pickle() -> None:
    job = a_job(**FULL)
    assert Job.model_validate_json(job.model_dump_json()) == job
    assert pickle.loads(pickle.dumps(job)) == job


def test_a_narrowed_job_round_trips_through_json_and_pickle_with_its_types() -> None:
    cls = Job[Extract, Extracted]
    job = cls.model_validate({**a_job().model_dump(), "request": {"text": "a"}, "response": {"body": {"words": 1}}})
    again = pickle.loads(pickle.dumps(job))
    assert type(again) is cls
    assert again == job == cls.model_validate_json(job.model_dump_json())
    assert again.response is not None
    assert again.response.body.words == 1


def test_a_host_narrows_the_endpoint_to_its_own_enum() -> None:
    fields = {**a_job().model_dump(), "request": {"text": "a"}}
    job = OurJob.model_validate(fields)
    assert job.endpoint is OurEndpoints.EXTRACT
    assert pickle.loads(pickle.dumps(job)) == job
    with pytest.raises(ValidationError, match="endpoint"):
        OurJob.model_validate({**fields, "endpoint": "/v1/other"})


def test_evolve_equals_a_copy_with_the_changes_and_leaves_the_job_alone() -> None:
    job = a_job()
    before = job.model_dump()
    assert evolve(job, FULL) == job.model_copy(update=FULL)
    assert job.model_dump() == before
    assert evolve(job, {}).model_fields_set == job.model_fields_set


def test_an_endpoint_refuses_a_wrong_payload_with_its_path() -> None:
    endpoint = Endpoint("/x", request=Extract, response=Extracted)
    with pytest.raises(InvalidInputError) as caught:
        endpoint.encode_request({"text": 1})
    assert caught.value.field == "request.text"
    with pytest.raises(InvalidInputError, match=r"response\.words"):
        endpoint.encode_response({"words": "many"})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ttl", timedelta(0)),
        ("ttl", timedelta(seconds=1.5)),
        ("max_attempts", 0),
        ("backoff_jitter", 1.1),
        ("clock_skew", timedelta(0)),
        ("lease", timedelta(0)),
        ("unknown", 1),
    ],
)
def test_a_bad_policy_is_refused_with_its_field(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate({field: value})
    assert caught.value.errors()[0]["loc"] == (field,)


def test_backoff_doubles_to_its_cap_and_is_the_same_for_the_same_run() -> None:
    policy = Policy(backoff=timedelta(seconds=10), backoff_cap=timedelta(seconds=60), backoff_jitter=0)
    assert [policy.backoff_for(a_job(attempt_count=n)) for n in (0, 1, 2, 3, 4, 5, 500)] == [10, 10, 20, 40, 60, 60, 60]
    spread = Policy(backoff=timedelta(seconds=1000), backoff_jitter=0.5)
    pauses = [spread.backoff_for(a_job(attempt_count=1, run=run)) for run in range(200)]
    assert pauses == [spread.backoff_for(a_job(attempt_count=1, run=run)) for run in range(200)]
    assert min(pauses) >= 1000
    assert max(pauses) <= 1500
    assert len(set(pauses)) > 150


ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize("milliseconds", [1_700_000_000_123, 1_700_000_000_124])
def test_an_id_is_its_milliseconds_and_seventy_eight_random_bits(milliseconds: int) -> None:
    seen = 0
    for _ in range(100):
        prefix, _, digits = new_id("op", (milliseconds + 0.5) / 1000).partition("_")
        bits = sum(ALPHABET.index(digit) << shift for digit, shift in zip(digits, range(120, -1, -6), strict=True))
        assert (prefix, bits >> 78) == ("op", milliseconds)
        seen |= bits & (1 << 78) - 1
    assert seen == (1 << 78) - 1, "a bit that is never set is not random"


def test_ids_are_ordered_by_time_and_do_not_repeat() -> None:
    ids = [new_id("job", 1_700_000_000 + step / 1000) for step in range(0, 5000, 7)]
    assert ids == sorted(ids)
    assert all(Job.model_validate({**a_job().model_dump(), "id": one}) for one in ids[:10])
    same = [new_id("job", NOW) for _ in range(10_000)]
    assert len(set(same)) == len(same)
    assert len({one[:12] for one in same}) == 1


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, {"b": float("nan")}]}, "request.a[1].b"),
        ({"a": float("inf")}, "request.a"),
        ({"a": (1, 2)}, "request.a"),
        ({"a": {1: 2}}, "request.a"),
        ({"a": b"bytes"}, "request.a"),
        ({"a": datetime(2030, 1, 1, tzinfo=UTC)}, "request.a"),
        ({"a": ["\ud800"]}, "request.a[0]"),
        ({"\ud800": 1}, "request"),
        ({"a": {1, 2}}, "request.a"),
    ],
)
def test_what_json_would_change_is_refused_with_its_place(value: object, place: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        json_value("request", value)
    assert caught.value.field == place


class Odd(dict[str, int]):
    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None


def test_a_value_that_raises_whatever_it_likes_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="it would not come back from JSON as it is"):
        json_value("request", Odd(a=1))


def test_cycles_and_depths_are_refused_and_do_not_crash() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    deep: object = 0
    for _ in range(200_000):
        deep = [deep]
    for value in (cycle, deep):
        with pytest.raises(InvalidInputError, match=r"too deeply|contains itself"):
            json_value("request", value)


def test_a_checked_payload_is_equal_and_shares_nothing() -> None:
    value: dict[str, Any] = {"a": [1, 2.5, True, None, "é\u0000"], "b": {"c": []}}
    copy = json_value("request", value)
    assert copy == value
    assert copy is not value
    assert copy["a"] is not value["a"]
