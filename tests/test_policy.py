"""The policy's defaults and limits, each written by hand from the design."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from jobstate import Policy
from tests.support import a_job

SECOND = timedelta(seconds=1)
CENTURY = timedelta(days=36_600)
NONE = timedelta(0)

DEFAULTS = {
    "ttl": timedelta(days=7),
    "max_attempts": 3,
    "lease": timedelta(minutes=5),
    "clock_skew": timedelta(seconds=10),
    "backoff": timedelta(seconds=10),
    "backoff_cap": timedelta(hours=1),
    "backoff_jitter": 0.2,
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
    assert set(LIMITS) == set(Policy.model_fields)


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


def test_the_jitter_stretches_by_a_hash_of_id_and_run() -> None:
    """The figures are those of BLAKE2b with 4 bytes, of the id, a slash and the run."""
    policy = Policy(backoff=timedelta(seconds=1000), backoff_jitter=1)
    assert [policy.backoff_for(a_job(attempt_count=1, run=run)) for run in (1, 2, 3)] == [1302, 1987, 1284]
