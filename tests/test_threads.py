"""Eight threads and one legal move: one of them makes it, and the others are told what happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobstate import Attempt, Delivery, IllegalTransitionError, Job, JobError, JobStatus, LeaseLostError, TransitionError
from jobstate.flows.many import Fate
from jobstate.flows.sweeps import Swept
from jobstate.lifecycle import NOT_REPLAYED, replay
from tests.support import REQUEST, World, at_once, make_world, meeting

BAD = JobError(code="bad_page", message="page 2 cannot be read")
Held = Attempt[Any, Any]


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """A world whose store many threads share."""
    with make_world(request.param, tmp_path) as made:
        yield made


def consistent(world: World, job_id: str, *ends: str) -> Job:
    """The row, which its history tells too, and whose history ends with these events."""
    row, history = world.row(job_id), list(world.others.history(job_id))
    versions = [record.version for record in history]
    assert versions == sorted(set(versions))
    told = replay(history)
    assert told.model_dump(exclude=set(NOT_REPLAYED)) == row.model_dump(exclude=set(NOT_REPLAYED))
    assert [str(record.event) for record in history][-len(ends) :] == list(ends)
    return row


def codes(answers: list[Any]) -> list[str]:
    """The refusals among the answers."""
    return [answer.code for answer in answers if isinstance(answer, TransitionError)]


def jobs_of(answers: list[Any]) -> list[Job]:
    return [answer for answer in answers if isinstance(answer, Job)]


def held_by(world: World, methods: str, parties: int) -> tuple[Held, Any]:
    """An attempt whose commands meet others, and the face where they do."""
    face = meeting(world, methods, parties)
    attempt = world.others.start(world.create().delivery)
    return Attempt(face._ports, face._scope, attempt._hold, None), face


def test_one_delivery_starts_once(world: World) -> None:
    job = world.create()
    delivery = world.take()
    face = meeting(world, "save", 8)
    start: Callable[[Delivery], Held] = face.start
    answers = at_once([partial(start, delivery)] * 8)
    (attempt,) = [answer for answer in answers if isinstance(answer, Attempt)]
    assert codes(answers) == ["already_started"] * 7
    row = consistent(world, job.id, "created", "start")
    assert (row.attempt_count, row.lease and row.lease.token, attempt.number) == (1, attempt.token, 1)
    assert attempt.job.request == REQUEST
    assert world.others.cancel(job.id).status is JobStatus.CANCELLED


def test_one_job_is_cancelled_once(world: World) -> None:
    job = world.create()
    face = meeting(world, "save", 8)
    answers = at_once([lambda: face.cancel(job.id)] * 8)
    assert [done.status for done in jobs_of(answers)] == [JobStatus.CANCELLED]
    assert codes(answers) == ["already_cancelled"] * 7
    consistent(world, job.id, "created", "cancel")
    assert len(world.dispatcher) == 0


@pytest.mark.parametrize("retry_key", [None, "again"])
def test_one_retry_sent_eight_times_is_one_retry(world: World, retry_key: str | None) -> None:
    job = world.create()
    world.start().fail(BAD)
    face = meeting(world, "save", 8)
    answers = at_once([lambda: face.retry(job.id, retry_key=retry_key)] * 8)
    assert [(done.status, done.run) for done in jobs_of(answers)] == [(JobStatus.QUEUED, 2)] * 8
    row = consistent(world, job.id, "start", "fail", "retry")
    assert (row.run, row.retry_key, row.dispatch_pending, row.request) == (2, retry_key, False, REQUEST)
    deliveries = [world.take() for _ in range(len(world.dispatcher))]
    starts = at_once([partial(world.others.start, delivery) for delivery in deliveries])
    assert [start.number for start in starts if isinstance(start, Attempt)] == [2]


def test_of_eight_retries_under_keys_of_their_own_one_is_accepted(world: World) -> None:
    job = world.create()
    world.start().fail(BAD)
    face = meeting(world, "save", 8)
    answers = at_once([partial(face.retry, job.id, retry_key=f"key {number}") for number in range(8)])
    (winner,) = [number for number, answer in enumerate(answers) if isinstance(answer, Job)]
    assert codes(answers) == ["illegal_transition"] * 7
    row = consistent(world, job.id, "fail", "retry")
    assert (row.run, row.retry_key) == (2, f"key {winner}")


def test_one_held_job_is_accepted_or_rejected_once(world: World) -> None:
    job = world.create(validating=True)
    face = meeting(world, "save", 8)
    answers = at_once([lambda: face.accept(job.id)] * 4 + [lambda: face.reject(job.id, BAD)] * 4)
    (done,) = jobs_of(answers)
    assert codes(answers) == ["illegal_transition"] * 7
    row = consistent(world, job.id, "created", "accept" if done.status is JobStatus.QUEUED else "reject")
    assert row.status is done.status


def test_one_attempt_is_given_back_once(world: World) -> None:
    attempt, _ = held_by(world, "save", 8)
    answers = at_once([attempt.give_back] * 8)
    assert len(jobs_of(answers)) == 1
    assert [type(answer) for answer in answers if not isinstance(answer, Job)] == [LeaseLostError] * 7
    row = consistent(world, attempt.job.id, "start", "give_back")
    assert (row.run, row.give_backs, row.attempt_base) == (2, 1, 1)


def test_eight_heartbeats_at_once_all_hold(world: World) -> None:
    attempt, _ = held_by(world, "save", 8)
    before = world.row(attempt.job.id).version
    answers = at_once([partial(attempt.heartbeat, number / 10) for number in range(8)])
    assert len(jobs_of(answers)) == 8
    assert consistent(world, attempt.job.id, "created", "start").version == before + 8


@pytest.mark.parametrize("turn", range(5))
def test_whichever_of_complete_cancel_and_rescue_is_saved_first_wins(world: World, turn: int) -> None:
    attempt, face = held_by(world, "save save_many", 8)
    world.clock.advance(timedelta(minutes=6))
    complete = partial(attempt.complete, {"total": 1})
    cancel = partial(face.cancel, attempt.job.id)
    calls: list[Callable[[], Any]] = [complete, cancel, face.rescue, complete, cancel, face.rescue, complete, cancel]
    answers = at_once(calls[turn:] + calls[:turn])
    done, swept = jobs_of(answers), [answer for answer in answers if isinstance(answer, Swept)]
    rescued = sum(one.moved for one in swept)
    row = world.row(attempt.job.id)
    assert (len(swept), rescued + sum(one.lost for one in swept)) == (2, 2)
    if row.status is JobStatus.COMPLETED:
        consistent(world, row.id, "start", "complete")
        assert [(one.id, one.status) for one in done] == [(row.id, JobStatus.COMPLETED)] * 3
        assert codes(answers) == ["illegal_transition"] * 3
        assert rescued == 0
    else:
        consistent(world, row.id, *(("start", "rescue", "cancel") if rescued else ("start", "cancel")))
        assert [(one.id, one.status) for one in done] == [(row.id, JobStatus.CANCELLED)]
        assert sorted(codes(answers)) == ["already_cancelled"] * 2 + ["lease_lost"] * 3
        assert rescued in (0, 1)


def test_of_two_results_at_once_one_stands(world: World) -> None:
    attempt, _ = held_by(world, "save", 8)
    calls: list[Callable[[], Job]] = [partial(attempt.complete, {"total": 1}), partial(attempt.fail, BAD)]
    answers = at_once(calls * 4)
    done = jobs_of(answers)
    assert len(done) == 4
    assert len({one.status for one in done}) == 1
    assert codes(answers) == ["already_finished"] * 4
    assert not any(isinstance(answer, LeaseLostError) for answer in answers)
    consistent(world, attempt.job.id, "start", "complete" if done[0].status is JobStatus.COMPLETED else "fail")


def test_a_retry_and_a_clean_up_at_once_do_not_both_win(world: World) -> None:
    job = world.create(artifacts={"scan.pdf": b"scan"})
    world.clock.advance(timedelta(days=7))
    world.others.expire()
    world.clock.advance(timedelta(days=1))
    face = meeting(world, "save save_many", 8)
    answers = at_once([lambda: face.retry(job.id)] * 4 + [face.cleanup] * 4)
    row = world.row(job.id)
    moved = sum(answer.moved for answer in answers if isinstance(answer, Swept))
    if row.cleanup_started_at is None:
        assert (len(jobs_of(answers)), moved) == (4, 0)
        consistent(world, job.id, "expire", "retry")
        assert (row.request, world.start(job).artifact("scan.pdf")) == (REQUEST, b"scan")
    else:
        assert (codes(answers), moved) == (["cleaned_up"] * 4, 1)
        consistent(world, job.id, "expire", "begin_cleanup")
        assert (row.request, world.artifacts.keys()) == (None, [])


def test_eight_bulk_cancels_at_once_cancel_each_job_once(world: World) -> None:
    jobs = [world.create() for _ in range(5)]
    face = meeting(world, "save_many", 8)
    answers = at_once([lambda: face.cancel_many(status="queued")] * 8)
    outcomes = [outcome for answer in answers if not isinstance(answer, Exception) for outcome in answer]
    assert len(outcomes) == 40
    for job in jobs:
        fates = [outcome.fate for outcome in outcomes if outcome.job_id == job.id]
        assert sorted(fates) == sorted([Fate.MOVED] + [Fate.REFUSED] * 7)
        consistent(world, job.id, "created", "cancel")
    refusals = [outcome.error for outcome in outcomes if outcome.fate is Fate.REFUSED]
    assert all(isinstance(error, IllegalTransitionError) for error in refusals)
