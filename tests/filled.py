"""What the tests of changes need: a filled job, and facts of which none is what it holds already."""

from __future__ import annotations

from typing import Any

from jobstate import JobError, JobResponse, JobWarning
from jobstate.lifecycle import Facts
from jobstate.testing.examples import TOKEN, T, filled_job
from jobstate.testing.examples import _artifact as _artifact

__all__ = ["AT", "TOKEN", "T", "facts_for", "filled_job"]

AT = T + 1_000
"""A time after all that happened to the filled job, and before it expires."""


def facts_for(*names: str) -> Facts:
    """Facts by name, none of which is what the filled job holds already, but for its own token and run."""
    facts: Facts = {
        "token": TOKEN,
        "run": 4,
        "task_name": "task-now",
        "response": JobResponse[Any](body={"pages": 3}),
        "response_artifacts": _artifact("out-now"),
        "error": JobError(code="error_now", message="now"),
        "digest": "result-now",
        "failure_code": "failure_now",
        "progress": 0.75,
        "warnings": (JobWarning(code="warning_now", message="now"),),
        "retry_key": "key-now",
        "past_retry_keys": frozenset(),
    }
    unwanted = set(facts) - set(names)
    for name in unwanted:
        facts.pop(name)  # type: ignore[misc]  # a name of the same dict
    return facts
