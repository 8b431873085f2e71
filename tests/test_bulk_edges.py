"""The edges of a bulk command: what a dry run leaves alone, and what is known of a job whose save went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from jobstate import DispatchError, Event, IllegalTransitionError, InvalidInputError, Job, OutcomeUnknownError
from jobstate.flows import many
from jobstate.flows.many import Fate
from tests.commands import ERROR, failed
from tests.support import World, make_world

DOWN = RuntimeError("the store is down")
BROKER = DispatchError("the broker is down")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with make_world("memory", tmp_path) as made:
        made.repository.by_row = True
        yield made


def _retried_and_pending(world: World) -> Job:
    job = failed(world)
    world.dispatcher.fail("dispatch", BROKER)
    return world.ours.retry(job.id)


def test_a_dry_run_does_not_dispatch_what_is_pending(world: World) -> None:
    job = _retried_and_pending(world)
    before, waiting = world.row(job.id), len(world.dispatcher)
    [outcome] = world.ours.retry_many(ids=[job.id], dry_run=True)
    assert (outcome.job_id, outcome.fate, outcome.error) == (job.id, Fate.ALREADY, None)
    assert (len(world.dispatcher), world.row(job.id)) == (waiting, before)


def test_a_retry_that_was_made_before_is_dispatched_if_it_is_pending(world: World) -> None:
    job, waiting = _retried_and_pending(world), len(world.dispatcher)
    [outcome] = world.ours.retry_many(ids=[job.id])
    assert (outcome.fate, outcome.error) == (Fate.ALREADY, None)
    assert outcome.job is not None
    assert (outcome.job.dispatch_pending, len(world.dispatcher)) == (False, waiting + 1)


def test_a_retry_that_was_made_before_and_is_delayed_again_is_told_so(world: World) -> None:
    job = _retried_and_pending(world)
    world.dispatcher.fail("dispatch", BROKER)
    [outcome] = world.ours.retry_many(ids=[job.id])
    assert outcome.job is not None
    assert [warning.code for warning in outcome.job.warnings or ()] == ["dispatch_delayed"]


def test_the_key_of_an_earlier_retry_is_found_in_the_history_and_a_new_one_is_not(world: World) -> None:
    job = failed(world)
    for key in ("first", "second"):
        world.ours.retry(job.id, retry_key=key)
        world.start(job).fail(ERROR)
    before = world.row(job.id)
    for key in ("first", "second"):
        assert world.ours.retry(job.id, retry_key=key).status == "failed"
        [outcome] = world.jobs.retry_many(ids=[job.id], dry_run=True)
        assert outcome.fate is Fate.MOVED, "without its key it is another retry"
    assert world.row(job.id) == before
    assert world.ours.retry(job.id, retry_key="third").run == before.run + 1


def test_the_history_is_read_only_where_an_earlier_key_may_stand(world: World) -> None:
    job = failed(world)
    world.repository.calls.clear()
    world.ours.retry(job.id, retry_key="first")
    world.ours.retry(job.id, retry_key="first")
    world.start(job).fail(ERROR)
    assert "history" not in world.repository.calls
    world.ours.retry(job.id)
    assert "history" not in world.repository.calls
    world.ours.retry(job.id)
    assert "history" not in world.repository.calls
    world.ours.retry(job.id, retry_key="first")
    assert world.repository.calls.count("history") == 1


def test_an_answer_that_says_too_little_is_an_error(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    job = world.create()

    def nothing(_: object) -> list[None]:
        return []

    monkeypatch.setattr(world.repository._inner, "save_many", nothing)
    with pytest.raises(ValueError, match="shorter"):
        world.ours.cancel_many(ids=[job.id])


def test_a_job_that_cannot_be_read_after_a_conflict_is_unknown_with_the_reason(world: World) -> None:
    job = world.create()
    world.repository.stale("save_many")
    world.repository.fail("load", DOWN)
    [outcome] = world.ours.cancel_many(ids=[job.id])
    assert (outcome.job_id, outcome.fate, outcome.job) == (job.id, Fate.UNKNOWN, None)
    assert isinstance(outcome.error, OutcomeUnknownError)
    assert outcome.error.job_id == job.id
    assert outcome.error.detail.endswith("the store is down")


def test_a_job_that_another_retried_first_is_already_retried(world: World) -> None:
    job = failed(world)
    world.repository.stale("save_many", then=lambda: world.others.retry(job.id))
    [outcome] = world.ours.retry_many(ids=[job.id])
    assert (outcome.fate, outcome.error) == (Fate.ALREADY, None)
    assert outcome.job is not None
    assert (outcome.job.status, outcome.job.run) == ("queued", 2)


def test_a_retry_whose_answer_was_lost_and_that_others_made_and_began_meanwhile_is_already_made(world: World) -> None:
    job = failed(world)

    def others() -> None:
        world.others.retry(job.id)
        world.others.start(world.row(job.id).delivery)

    world.repository.drop("save_many", then=others)
    [outcome] = world.ours.retry_many(ids=[job.id])
    assert (outcome.fate, outcome.error) == (Fate.ALREADY, None)
    assert [record.event for record in world.others.history(job.id)].count(Event.RETRY) == 1


def test_a_retry_that_somebody_cancelled_since_leaves_the_task_to_who_cancelled(world: World) -> None:
    job = failed(world)

    def others_go_on() -> None:
        world.others.relay()
        world.others.cancel(job.id)

    world.repository.lose("save_many", then=others_go_on)
    [outcome] = world.ours.retry_many(ids=[job.id])
    assert outcome.job is not None
    assert (outcome.fate, outcome.job.status) == (Fate.MOVED, "cancelled")
    assert outcome.job.task_name is not None
    assert world.dispatcher.calls.count("revoke") == 0


def test_a_job_that_another_cancelled_first_is_refused_with_the_single_commands_error(world: World) -> None:
    job = world.create()
    world.repository.stale("save_many", then=lambda: world.others.cancel(job.id))
    world.repository.calls.clear()
    [outcome] = world.ours.cancel_many(ids=[job.id])
    assert (outcome.job_id, outcome.fate, outcome.job) == (job.id, Fate.REFUSED, None)
    assert isinstance(outcome.error, IllegalTransitionError)
    assert outcome.error.code == "already_cancelled"
    assert world.repository.calls == ["list", "save_many", "load"], "what met a conflict is read before it is decided again"


def test_a_page_begins_behind_the_one_before_also_when_nothing_of_that_one_left_the_filter(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "PAGE", 2)
    jobs = [world.create() for _ in range(5)]
    world.repository.fail("list", DOWN, skip=3)
    outcomes = world.ours.cancel_many(ids=[job.id for job in jobs])
    assert [outcome.job_id for outcome in outcomes] == sorted([job.id for job in jobs], reverse=True)


def test_whether_it_is_for_real_is_true_or_false(world: World) -> None:
    job = world.create()
    for bulk in (world.ours.cancel_many, world.ours.retry_many):
        with pytest.raises(InvalidInputError, match="dry_run: a boolean is needed, not str"):
            bulk(status=["queued"], dry_run=cast("Any", "no"))
    assert world.row(job.id).status == "queued"
