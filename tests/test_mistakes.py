"""A newcomer's mistakes: each ends in an error that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import pytest

from jobstate import AsyncJobs, Endpoint, Event, InvalidInputError, JobError, Jobs, decide
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from tests.support import NOW, a_job

IN_THE_CORE: list[tuple[Callable[[], object], str]] = [
    (lambda: decide(a_job(), Event.CANCEL, cast("Any", 1.5)), "now: whole Unix seconds"),
    (lambda: decide(a_job(), Event.CANCEL, -1), "now: whole Unix seconds"),
    (lambda: decide(a_job(), cast("Any", "cancel"), NOW), r"a jobstate.Event is needed, not 'cancel': write Event\('cancel'\)"),
    (lambda: decide(a_job(), Event.CANCEL, NOW, **cast("Any", {"tokn": "x"})), "there is no fact 'tokn'; known are token"),
    (lambda: decide(a_job(), Event.START, NOW, token="t", run=cast("Any", "1")), "run must be int, not str"),
    (lambda: decide(a_job(), Event.START, NOW, token="t"), "start needs token, run: run is missing"),
    (lambda: decide(a_job(), Event.REJECT, NOW, error=cast("Any", {"code": "x"})), "error must be JobError, not dict"),
]


@pytest.mark.parametrize(("call", "words"), IN_THE_CORE, ids=[words[:20] for _, words in IN_THE_CORE])
def test_the_core_says_what_it_needs(call: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        call()


AT_THE_FACE: list[tuple[Callable[[], object], str]] = [
    (
        lambda: AsyncJobs(cast("Any", MemoryRepository())),
        "AsyncJobs needs a port with async methods, MemoryRepository is not: use Jobs",
    ),
    (lambda: Jobs(cast("Any", AsyncMemoryRepository())), "Jobs needs a port with sync methods"),
    (lambda: Jobs(MemoryRepository(), cast("Any", MemoryRepository())), "dispatcher"),
    (lambda: Jobs(cast("Any", MemoryDispatcher())), "repository: MemoryDispatcher has no method 'load'"),
    (
        lambda: Jobs(MemoryRepository()).create("/x", {}, **cast("Any", {"organisation_id": "o"})),
        "unknown argument organisation_id",
    ),
    (lambda: Jobs(MemoryRepository()).list(**cast("Any", {"state": "queued"})), "unknown argument state; known are status"),
]


@pytest.mark.parametrize(("call", "words"), AT_THE_FACE, ids=[words[:20] for _, words in AT_THE_FACE])
def test_the_face_says_what_it_needs(call: Callable[[], object], words: str) -> None:
    with pytest.raises((TypeError, AttributeError), match=words):
        call()


def test_an_endpoint_that_nobody_named_is_refused_with_those_that_are() -> None:
    jobs = Jobs(MemoryRepository(), endpoints=[Endpoint("/v1/parse", request=dict, response=dict)])
    with pytest.raises(InvalidInputError, match="endpoint: '/v1/prase' is unknown; known are /v1/parse"):
        jobs.create("/v1/prase", {}, organization_id="o")
    assert jobs.create("/v1/parse", {}, organization_id="o").status == "queued"


def test_a_scoped_face_leads_to_no_other_organization() -> None:
    ours = Jobs(MemoryRepository()).for_organization("ours")
    with pytest.raises(InvalidInputError, match="belongs to 'ours'"):
        ours.for_organization("theirs")
    assert ours.for_organization("ours").organization_id == "ours"


def test_a_reject_needs_an_error_of_ours() -> None:
    jobs = Jobs(MemoryRepository())
    job = jobs.create("/x", {}, organization_id="o", validating=True)
    with pytest.raises(InvalidInputError, match="error: a JobError is needed, not str"):
        jobs.reject(job.id, cast("Any", "no"))
    assert jobs.reject(job.id, JobError(code="unwanted", message="no")).status == "failed"
