"""The policy's defaults and limits, each written by hand from the design."""

from __future__ import annotations

import pickle
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from jobstate import Accepted, Backoff, Event, JobStatus, Lease, Policy, decide
from tests.support import NOW, a_job

SECOND = timedelta(seconds=1)
CENTURY = timedelta(days=36_600)
NONE = timedelta(0)

DEFAULTS: dict[str, Any] = {
    "ttl": timedelta(days=7),
    "max_attempts": 3,
    "lease": timedelta(minutes=5),
    "clock_skew": timedelta(seconds=10),
    "backoff": timedelta(seconds=10),
    "backoff_cap": timedelta(hours=1),
    "backoff_jitter": 0.2,
    "endpoint_backoff": {},
    "max_give_backs": 100,
    "redispatch_after": timedelta(minutes=15),
    "resend_window": timedelta(minutes=1),
    "keep_for": None,
    "cleanup_after": timedelta(days=1),
    "forget_after": None,
    "inline_limit": None,
}

LIMITS = {
    **dict.fromkeys(("ttl", "lease", "clock_skew", "redispatch_after", "keep_for"), (NONE, SECOND, CENTURY, CENTURY + SECOND)),
    **dict.fromkeys(
        ("backoff", "backoff_cap", "resend_window", "cleanup_after", "forget_after"),
        (-SECOND, NONE, CENTURY, CENTURY + SECOND),
    ),
    "backoff_jitter": (-0.001, 0, 1, 1.001),
    "max_give_backs": (-1, 0, 1_000_000, 1_000_001),
    "max_attempts": (0, 1, 1_000_000, 1_000_001),
    "inline_limit": (-1, 0, 1_000_000_000, 1_000_000_001),
}
"""Too little, the least, the most, too much."""

DURATIONS = [field for field, (_, least, *_) in LIMITS.items() if isinstance(least, timedelta)]


def test_the_defaults_are_what_the_docs_say() -> None:
    assert Policy().model_dump() == DEFAULTS


def test_every_field_has_its_limits() -> None:
    assert set(LIMITS) | {"endpoint_backoff"} == set(Policy.model_fields)


@pytest.mark.parametrize("field", LIMITS)
def test_the_least_and_the_most_are_taken_and_nothing_beyond(field: str) -> None:
    under, least, most, over = LIMITS[field]
    for value in (least, most):
        assert getattr(Policy.model_validate({field: value}), field) == value
    for value in (under, over):
        with pytest.raises(ValidationError) as caught:
            Policy.model_validate({field: value})
        assert [error["loc"] for error in caught.value.errors()] == [(field,)]


@pytest.mark.parametrize("field", DURATIONS)
def test_a_part_of_a_second_is_refused_with_the_value(field: str) -> None:
    with pytest.raises(ValidationError, match=r"0:00:01\.500000 is not a whole number of seconds"):
        Policy.model_validate({field: timedelta(seconds=1.5)})


def test_a_policy_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Policy().ttl = SECOND  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        Backoff().first = SECOND  # type: ignore[misc]


def test_the_jitter_stretches_by_a_hash_of_id_and_run() -> None:
    """The figures are those of BLAKE2b with 4 bytes, of the id, a slash and the run."""
    policy = Policy(backoff=timedelta(seconds=1000), backoff_jitter=1)
    assert [policy.backoff_for(a_job(attempt_count=1, run=run)) for run in (1, 2, 3)] == [1302, 1987, 1284]


# Endpoints with pauses of their own

SLOW = Backoff(first=timedelta(minutes=1), cap=timedelta(minutes=3), jitter=0)
PER_ENDPOINT = Policy(backoff=timedelta(seconds=8), backoff_jitter=0, endpoint_backoff={"/v1/slow": SLOW})


def test_an_endpoint_has_its_own_pauses_and_the_others_have_the_policys() -> None:
    def pauses(endpoint: str) -> list[int]:
        return [PER_ENDPOINT.backoff_for(a_job(endpoint=endpoint, attempt_count=n)) for n in (1, 2, 3, 4)]

    assert pauses("/v1/slow") == [60, 120, 180, 180]
    assert pauses("/v1/slow/er") == [8, 16, 32, 64]


def test_what_an_endpoint_leaves_open_is_as_without_a_policy() -> None:
    own, policys = Policy(endpoint_backoff={"/v1/documents/extract": Backoff()}), Policy()
    for job in (a_job(attempt_count=n, run=run) for n in range(12) for run in range(20)):
        assert own.backoff_for(job) == policys.backoff_for(job)


def test_a_release_and_a_rescue_wait_as_long_as_the_endpoint_says() -> None:
    lease = Lease(token="t", expires_at=NOW)
    job = a_job(endpoint="/v1/slow", status=JobStatus.IN_PROGRESS, attempt_count=1, lease=lease)
    released = decide(job, Event.RELEASE, NOW, policy=PER_ENDPOINT, token="t", failure_code="busy")
    rescued = decide(job, Event.RESCUE, NOW + 20, policy=PER_ENDPOINT)
    assert isinstance(released, Accepted)
    assert isinstance(rescued, Accepted)
    assert (released.changes["available_at"], rescued.changes["available_at"]) == (NOW + 60, NOW + 80)


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"": SLOW}, ("endpoint_backoff", "", "[key]")),
        ({"/x": {"first": timedelta(seconds=-1)}}, ("endpoint_backoff", "/x", "first")),
        ({"/x": {"cap": CENTURY + SECOND}}, ("endpoint_backoff", "/x", "cap")),
        ({"/x": {"jitter": 1.1}}, ("endpoint_backoff", "/x", "jitter")),
        ({"/x": {"frist": SECOND}}, ("endpoint_backoff", "/x", "frist")),
    ],
)
def test_a_wrong_pause_of_an_endpoint_is_refused_with_its_field(value: object, field: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as caught:
        Policy.model_validate({"endpoint_backoff": value})
    assert [error["loc"] for error in caught.value.errors()] == [field]


def test_a_policy_with_pauses_of_endpoints_pickles() -> None:
    assert pickle.loads(pickle.dumps(PER_ENDPOINT)) == PER_ENDPOINT
