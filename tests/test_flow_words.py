"""What the service says when it cannot do what is asked, whole: which field, which job, which figures, and what to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jobstate import (
    ArtifactError,
    Attempt,
    Delivery,
    Event,
    IdempotencyConflictError,
    InvalidInputError,
    JobError,
    JobNotFoundError,
    Jobs,
    JobWarning,
    OutcomeUnknownError,
    Policy,
    StaleJobError,
)
from jobstate.effects import Load
from jobstate.errors import BulkStoppedError, UnreadableJobError
from jobstate.flows import attempts, commands, many
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.flows.settle import TRIES, Dispatching, Scope
from jobstate.memory import MemoryRepository
from jobstate.payload import artifact_prefix
from jobstate.query import Listing
from jobstate.testing import ManualClock
from tests.support import ENDPOINT, NOW, ORG, REQUEST, World, make_world

DOWN = RuntimeError("the store is down")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world("memory", tmp_path) as made:
        yield made


Ask = Callable[[World], object]

REFUSED: dict[str, tuple[Ask, str]] = {
    "too few on a page": (lambda w: w.ours.list(limit=0), "limit: 1 to 1000 jobs are possible on a page, not 0"),
    "too many on a page": (lambda w: w.ours.list(limit=1001), "limit: 1 to 1000 jobs are possible on a page, not 1001"),
    "part of a job on a page": (lambda w: w.ours.list(limit=True), "limit: 1 to 1000 jobs are possible on a page, not True"),
    "both directions": (
        lambda w: w.ours.list(after="job_" + "A" * 21, before="job_" + "B" * 21),
        "before: a page lies after one job, or before one: give only one of the two",
    ),
    "all of them": (
        lambda w: w.jobs.cancel_many(),
        "filter: cancel of all jobs is not done: give a status, ids, an endpoint, a time or metadata",
    ),
    "a part that the request has not": (
        lambda w: w.start(w.create(artifacts={"a.pdf": b"a", "b.pdf": b"b"})).artifact("c.pdf"),
        "name: the request has no artifact 'c.pdf'; it has a.pdf, b.pdf",
    ),
    "a part of a request without any": (
        lambda w: w.start(w.create()).artifact("c.pdf"),
        "name: the request has no artifact 'c.pdf'; it has none",
    ),
}


@pytest.mark.parametrize(("ask", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_asked_is_refused_with_its_field_and_its_limit(world: World, ask: Ask, words: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ask(world)
    assert str(caught.value) == words


@pytest.mark.parametrize("limit", [1, 1000])
def test_the_shortest_and_the_longest_page_are_given(world: World, limit: int) -> None:
    job = world.create()
    assert [one.id for one in world.ours.list(limit=limit).data] == [job.id]


WITH_ARTIFACTS: list[Callable[[Attempt[Any, Any]], object]] = [
    lambda attempt: attempt.artifact("a"),
    lambda attempt: attempt.complete(1, artifacts={"a": b""}),
]


@pytest.mark.parametrize("ask", WITH_ARTIFACTS)
def test_without_a_store_there_are_no_artifacts_and_it_is_said_how_there_would_be(ask: Callable[[Any], object]) -> None:
    jobs = Jobs(MemoryRepository(), clock=ManualClock(NOW))
    job = jobs.for_organization(ORG).create(ENDPOINT, REQUEST)
    with pytest.raises(InvalidInputError) as caught:
        ask(jobs.start(job.delivery))
    assert str(caught.value) == "artifacts: there is no artifact store: pass artifacts=... to Jobs"


def test_a_delayed_dispatch_is_told_in_one_warning_that_comes_last(world: World) -> None:
    world.dispatcher.fail("dispatch", DOWN)
    message = "The job is stored and queued; its dispatch is delayed and made by a later sweep. Do not send it again."
    assert world.create().warnings == (JobWarning(code=DISPATCH_DELAYED, message=message),)
    assert DISPATCH_DELAYED == "dispatch_delayed"


def test_a_key_of_another_request_is_refused_with_the_key_and_its_job(world: World) -> None:
    job = world.create(idempotency_key="inv-17")
    with pytest.raises(IdempotencyConflictError) as caught:
        world.ours.create(ENDPOINT, {"document": "other.pdf"}, idempotency_key="inv-17")
    assert (caught.value.idempotency_key, caught.value.job_id) == ("inv-17", job.id)


def test_a_store_that_fails_is_an_artifact_error_of_the_key(world: World) -> None:
    attempt = world.start(world.create())
    world.artifacts.fail("put", DOWN)
    with pytest.raises(ArtifactError) as caught:
        attempt.complete(1, artifacts={"a": b"1"})
    assert caught.value.key == artifact_prefix(attempt.job.id, 1) + "a"
    assert caught.value.__cause__ is DOWN


def test_a_create_whose_answers_are_all_lost_is_unknown_with_the_last_detail(world: World) -> None:
    for _ in range(TRIES):
        world.repository.drop("insert")
    with pytest.raises(OutcomeUnknownError) as caught:
        world.create()
    assert caught.value.detail == "the answer was lost"
    assert caught.value.job_id.startswith("job_")
    assert world.repository.calls.count("insert") == TRIES == 10
    assert world.others.list().data == []


def test_a_create_that_fails_after_a_lost_answer_is_unknown_and_says_both(world: World) -> None:
    world.repository.drop("insert")
    world.repository.fail("insert", DOWN)
    with pytest.raises(OutcomeUnknownError) as caught:
        world.create()
    assert caught.value.detail == "an answer was lost, then: the store is down"
    assert caught.value.job_id.startswith("job_")
    assert caught.value.__cause__ is DOWN


def test_a_create_that_fails_says_why_itself(world: World) -> None:
    world.repository.fail("insert", DOWN)
    with pytest.raises(RuntimeError) as caught:
        world.create()
    assert caught.value is DOWN


def test_a_command_that_fails_after_a_lost_answer_is_unknown_and_says_both(world: World) -> None:
    job = world.create()
    world.repository.drop("save")
    world.repository.fail("load", DOWN, skip=1)
    with pytest.raises(OutcomeUnknownError) as caught:
        world.ours.cancel(job.id)
    assert (caught.value.job_id, caught.value.detail) == (job.id, "the answer of a save was lost, then: the store is down")
    assert caught.value.__cause__ is DOWN


def test_a_command_that_nobody_can_answer_for_is_unknown_with_both_versions(world: World) -> None:
    attempt = world.start(world.create())
    job = world.row(attempt.job.id)

    def others() -> None:
        world.others.cancel(job.id)
        world.others.retry(job.id)

    world.repository.drop("save", then=others)
    with pytest.raises(OutcomeUnknownError) as caught:
        attempt.complete(1)
    now = world.row(job.id).version
    words = f"the answer of a save at version {job.version} was lost, the job is at {now} now"
    assert (caught.value.job_id, caught.value.detail) == (job.id, words)


def test_a_command_that_others_are_always_quicker_than_is_stale_with_the_last_version(world: World) -> None:
    job = world.create()
    for _ in range(TRIES):
        world.repository.stale("save")
    with pytest.raises(StaleJobError) as caught:
        world.ours.cancel(job.id)
    assert (caught.value.job_id, caught.value.version) == (job.id, world.row(job.id).version)
    assert world.repository.calls.count("save") == 1 + TRIES  # the mark of the create's dispatch is the first


def test_a_row_that_was_moved_is_stale_at_the_version_that_was_spoken_of(world: World) -> None:
    job = world.create()
    with pytest.raises(StaleJobError) as caught:
        world.repository.delete(job.id, job.version + 5)
    assert (caught.value.job_id, caught.value.version) == (job.id, job.version + 5)


def test_sweeps_that_fail_are_told_together_after_the_others_were_made(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, Policy(forget_after=timedelta(0))) as world:
        world.repository.fail("due", DOWN)
        world.repository.fail("due", DOWN, skip=1)
        with pytest.raises(ExceptionGroup) as caught:
            world.jobs.sweep()
    assert caught.value.message == "2 of 5 sweeps met an error of a port; the others were made"
    assert caught.value.exceptions == (DOWN, DOWN)


def test_a_bulk_command_that_stops_says_what_was_made_and_why(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PAGE", 2)
    made = sorted((world.create().id for _ in range(3)), reverse=True)
    world.repository.fail("list", DOWN, skip=1)
    with pytest.raises(BulkStoppedError) as caught:
        world.ours.cancel_many(ids=made)
    assert caught.value.event == "cancel"
    assert caught.value.outcomes == ((made[0], "moved"), (made[1], "moved"))
    assert "the store is down" in caught.value.detail
    assert caught.value.__cause__ is DOWN


def test_a_scope_has_no_more_ports_than_it_is_told() -> None:
    none: dict[str, bool] = dict.fromkeys(["has_artifacts", "shares_sweeps", "delays", "bound"], False)
    assert Scope(Policy()) == Scope(Policy(), None, Dispatching.NEVER, **none)


def test_what_became_of_a_job_is_told_in_these_words() -> None:
    assert list(many.Fate) == ["moved", "already", "refused", "unknown"]


def test_a_history_of_a_job_that_is_not_there_is_not_found(world: World) -> None:
    with pytest.raises(JobNotFoundError):
        world.ours.history("job_" + "Z" * 21)


def test_a_failure_that_ends_the_budget_is_for_good(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, Policy(max_attempts=1)) as world:
        job = world.start(world.create()).fail(JobError(code="broken", message="it broke"), retryable=True)
    assert (job.status, job.last_failure_code) == ("failed", "broken")


@pytest.mark.parametrize("asked", [True, False])
def test_a_command_answers_with_the_request_if_it_is_asked_for(world: World, asked: bool) -> None:
    expected = REQUEST if asked else None
    job = world.create()
    assert world.ours.cancel(job.id, include_request=asked).request == expected
    assert world.ours.retry(job.id, include_request=asked).request == expected
    assert world.jobs.start(world.row(job.id).delivery, include_request=asked).job.request == expected


def test_flows_that_are_not_told_load_a_request_only_for_who_will_run_it() -> None:
    scope = Scope(Policy(), ORG)
    assert next(commands.change(scope, "job", Event.CANCEL)) == Load("job", ORG, include_request=False)
    assert next(attempts.start(scope, Delivery(job_id="job", run=1), lambda job: None)) == Load(
        "job", ORG, include_request=True
    )


@pytest.mark.parametrize(("request_too", "response_too"), [(True, False), (False, True)])
def test_a_page_holds_the_payloads_that_are_asked_for(world: World, request_too: bool, response_too: bool) -> None:
    world.start(world.create()).complete({"pages": 2})
    [job] = world.ours.list(include_request=request_too, include_response=response_too).data
    assert job.request == (REQUEST if request_too else None)
    assert (job.response and job.response.body) == ({"pages": 2} if response_too else None)


def test_a_history_is_told_from_a_version_on(world: World) -> None:
    job = world.start(world.create()).complete(1)
    whole = world.ours.history(job.id)
    assert [record.version for record in whole] == [1, 3, 4]
    assert world.ours.history(job.id, after_version=1) == whole[1:]
    assert world.ours.history(job.id, after_version=4) == []


@pytest.mark.parametrize("artifacts", [{}, {"out.txt": b"out"}])
def test_an_expired_job_shows_no_response_and_no_artifacts_of_one(world: World, artifacts: dict[str, bytes]) -> None:
    job = world.start(world.create()).complete(1, artifacts=artifacts)
    shown = world.ours.retrieve(job.id, include_response=True)
    assert shown.response is not None
    assert [artifact.name for artifact in shown.response_artifacts or ()] == list(artifacts)
    world.clock.advance(timedelta(days=7))
    world.others.expire()
    assert world.row(job.id).response is not None, "the row keeps it until clean-up"
    for expired in (world.ours.retrieve(job.id, include_response=True), world.ours.list(include_response=True).data[0]):
        assert (expired.status, expired.response, expired.response_artifacts) == ("expired", None, None)


def test_a_page_with_a_row_that_cannot_be_read_is_that_rows_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    error = UnreadableJobError("job_" + "A" * 21, "status", "no such status")

    def unreadable(*_: object, **__: object) -> Listing:
        return Listing([], [error])

    monkeypatch.setattr(world.repository._inner, "list", unreadable)
    with pytest.raises(UnreadableJobError) as caught:
        world.ours.list()
    assert caught.value is error


def test_a_lost_save_that_lands_before_the_next_try_is_found_behind_anothers_write(world: World) -> None:
    """The conflict of the second try does not end the doubt about the first: else it would be done twice."""
    job = world.create()
    world.repository.late("save", until="save", then=lambda: world.others.retry(job.id))
    world.ours.cancel(job.id)
    assert [record.event for record in world.others.history(job.id)] == ["created", "cancel", "retry"]
    assert world.row(job.id).status == "queued"
