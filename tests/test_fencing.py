"""Whoever lost the job can never change it again, and is told so; whoever finished it is not told that it lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jobstate import (
    ArtifactConflictError,
    Attempt,
    GuardRefusedError,
    HistoryRecord,
    IllegalTransitionError,
    Job,
    JobError,
    JobNotFoundError,
    JobResponse,
    Jobs,
    JobStatus,
    JobWarning,
    LeaseLostError,
    OutcomeUnknownError,
    Policy,
)
from tests.support import WORLDS, World, make_world

Held = Attempt[Any, Any]
Step = Callable[[Held], Job]
Ending = Callable[[World, str], object]

LEASE = 300
SKEW = 10
WEEK = timedelta(days=7)
BAD = JobError(code="bad_page", message="page 2 cannot be read")
WORSE = JobError(code="bad_page", message="page 3 cannot be read")

COMMANDS: dict[str, Step] = {
    "heartbeat": lambda held: held.heartbeat(0.5, warnings=[JobWarning(code="slow", message="it is slow")]),
    "complete": lambda held: held.complete({"total": 1}),
    "complete with artifacts": lambda held: held.complete({"total": 1}, artifacts={"late.txt": b"late"}),
    "fail": lambda held: held.fail(BAD),
    "fail retryable": lambda held: held.fail(BAD, retryable=True),
    "give back": lambda held: held.give_back(),
}


def rescued(world: World, job_id: str) -> None:
    world.clock.advance(LEASE + SKEW)
    assert world.others.rescue().moved == 1


def started_again(world: World, job_id: str) -> None:
    rescued(world, job_id)
    world.clock.advance(60)
    world.others.start(world.row(job_id).delivery)


def completed_by_another(world: World, job_id: str) -> None:
    rescued(world, job_id)
    world.clock.advance(60)
    world.others.start(world.row(job_id).delivery).complete({"total": 1}, artifacts={"late.txt": b"late"})


def cancelled(world: World, job_id: str) -> None:
    world.others.cancel(job_id)


def retried(world: World, job_id: str) -> None:
    world.others.cancel(job_id)
    world.others.retry(job_id)


def retried_and_started(world: World, job_id: str) -> None:
    retried(world, job_id)
    world.others.start(world.row(job_id).delivery)


def expired(world: World, job_id: str) -> None:
    world.clock.advance(WEEK)
    assert world.others.expire().moved == 1


def expired_and_retried(world: World, job_id: str) -> None:
    expired(world, job_id)
    world.others.retry(job_id)


def cleaned(world: World, job_id: str) -> None:
    expired(world, job_id)
    for _ in range(3):
        world.clock.advance(timedelta(days=1))
        world.others.cleanup()
    assert world.row(job_id).cleanup_completed_at is not None


ENDINGS: dict[str, Ending] = {
    ending.__name__: ending
    for ending in (
        rescued,
        started_again,
        completed_by_another,
        cancelled,
        retried,
        retried_and_started,
        expired,
        expired_and_retried,
        cleaned,
    )
}


def look(world: World, job_id: str) -> tuple[Job, list[HistoryRecord], list[str]]:
    return world.row(job_id), list(world.others.history(job_id)), world.artifacts.keys()


def all_lost(world: World, attempt: Held) -> None:
    """Every command of the attempt is told that it lost the job, and changes nothing."""
    before = look(world, attempt.job.id)
    told: dict[str, str] = {}
    for name, command in COMMANDS.items():
        try:
            told[name] = command(attempt).status
        except LeaseLostError as lost:
            told[name] = f"{lost.code} {lost.job_id}"
    assert told == dict.fromkeys(COMMANDS, f"lease_lost {attempt.job.id}")
    assert look(world, attempt.job.id) == before


@pytest.fixture(params=WORLDS)
def world_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[Policy], World]]:
    """A world with a policy of one's own."""
    with ExitStack() as stack:
        yield lambda policy: stack.enter_context(make_world(request.param, tmp_path, policy))


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_command_of_a_lost_attempt_is_told_so_and_changes_nothing(world: World, ending: str) -> None:
    job = world.create(artifacts={"scan.pdf": b"scan"})
    attempt = world.start()
    ENDINGS[ending](world, job.id)
    all_lost(world, attempt)


def test_an_attempt_that_a_sweep_gave_up_is_lost_and_not_finished(world: World) -> None:
    job = world.create(max_attempts=1)
    attempt = world.start()
    rescued(world, job.id)
    assert world.row(job.id).status is JobStatus.FAILED
    all_lost(world, attempt)


@pytest.mark.parametrize("end", ["give back", "fail retryable"])
def test_an_attempt_that_went_back_to_the_queue_is_over(world: World, end: str) -> None:
    job = world.create()
    attempt = world.start()
    COMMANDS[end](attempt)
    all_lost(world, attempt)
    world.clock.advance(60)
    world.others.start(world.row(job.id).delivery)
    all_lost(world, attempt)


@pytest.mark.parametrize("result", ["complete", "fail"])
def test_an_attempt_that_finished_is_lost_once_its_job_is_retried(world: World, result: str) -> None:
    job = world.create()
    attempt = world.start()
    COMMANDS[result](attempt)
    expired_and_retried(world, job.id)
    all_lost(world, attempt)


def test_a_worker_that_loses_the_job_while_it_stores_removes_its_own_artifacts_only(world: World) -> None:
    job = world.create(artifacts={"scan.pdf": b"scan"})
    attempt = world.start()
    store = world.others._ports.artifacts
    foreign = [f"{job.id}/11/x", f"{job.id}/1x/x", f"{job.id[:-1]}/1/x"]
    for key in foreign:
        store.put(key, b"not mine")
    world.artifacts.then("put", lambda: completed_by_another(world, job.id), skip=1)
    with pytest.raises(LeaseLostError):
        attempt.complete({"total": 1}, artifacts={"a.txt": b"a", "late.txt": b"mine"})
    assert world.artifacts.keys() == sorted([*foreign, f"{job.id}/request/scan.pdf", f"{job.id}/2/late.txt"])
    assert store.get(f"{job.id}/2/late.txt") == b"late"
    shown = world.row(job.id).response_artifacts or ()
    assert [artifact.key for artifact in shown] == [f"{job.id}/2/late.txt"]


def test_a_lost_worker_is_told_so_also_when_its_artifacts_cannot_be_removed(world: World) -> None:
    job = world.create()
    attempt = world.start()
    world.artifacts.then("put", lambda: cancelled(world, job.id))
    world.artifacts.fail("delete", OSError("the store is down"))
    with pytest.raises(LeaseLostError):
        attempt.complete({"total": 1}, artifacts={"a.txt": b"a"})
    assert world.artifacts.keys() == [f"{job.id}/1/a.txt"]


def test_a_worker_whose_job_is_forgotten_leaves_nothing_behind(world: World) -> None:
    job = world.create()
    attempt = world.start()
    repository = world.others._ports.repository
    world.artifacts.then("put", lambda: repository.delete(job.id, world.row(job.id).version))
    with pytest.raises(JobNotFoundError):
        attempt.complete({"total": 1}, artifacts={"a.txt": b"a"})
    assert world.artifacts.keys() == []


def test_nothing_is_deleted_while_nobody_knows_whether_it_was_saved(world: World) -> None:
    job = world.create()
    attempt = world.start()
    world.repository.lose("save", skip=1)
    world.repository.fail("load", OSError("the database is down"))
    with pytest.raises(OutcomeUnknownError):
        attempt.complete({"total": 1}, artifacts={"a.txt": b"a"})
    assert world.artifacts.keys() == [f"{job.id}/1/a.txt"]
    assert attempt.complete({"total": 1}, artifacts={"a.txt": b"a"}).status is JobStatus.COMPLETED
    assert world.artifacts.keys() == [f"{job.id}/1/a.txt"]


def test_an_artifact_is_written_once_in_an_attempt(world: World) -> None:
    job = world.create()
    attempt = world.start()
    world.repository.fail("save", OSError("the database is down"), skip=1)
    with pytest.raises(OSError, match="database"):
        attempt.complete({"total": 1}, artifacts={"a.txt": b"first"})
    with pytest.raises(ArtifactConflictError) as conflict:
        attempt.complete({"total": 1}, artifacts={"a.txt": b"second"})
    assert conflict.value.key == f"{job.id}/1/a.txt"
    assert world.row(job.id).status is JobStatus.IN_PROGRESS
    assert attempt.complete({"total": 1}, artifacts={"a.txt": b"first"}).status is JobStatus.COMPLETED
    assert world.others._ports.artifacts.get(f"{job.id}/1/a.txt") == b"first"


RESULTS: dict[str, Step] = {
    "complete": lambda held: held.complete({"total": 1}),
    "complete with artifacts": lambda held: held.complete({"total": 1}, artifacts={"late.txt": b"late"}),
    "complete with a status code": lambda held: held.complete(JobResponse[Any](status_code=207, body=[])),
    "fail": lambda held: held.fail(BAD),
}
LAST = "the last retryable failure"

OTHERWISE: dict[str, Step] = {
    "complete": lambda held: held.complete({"total": 2}),
    "complete with another status code": lambda held: held.complete({"total": 1}, status_code=201),
    "complete with artifacts": lambda held: held.complete({"total": 1}, artifacts={"other.txt": b"other"}),
    "complete with other bytes": lambda held: held.complete({"total": 1}, artifacts={"late.txt": b"other"}),
    "fail": lambda held: held.fail(WORSE),
    "fail retryable": lambda held: held.fail(WORSE, retryable=True),
    "give back": lambda held: held.give_back(),
}

LATER: dict[str, Ending] = {"at once": lambda world, job_id: None, "expired": expired, "cleaned": cleaned}


def finished(world: World, result: str, later: str, answer: str) -> Held:
    """An attempt that finished its job, and knows it or had its answer lost."""
    step = RESULTS.get(result, COMMANDS["fail retryable"])
    job = world.create(max_attempts=1)
    attempt = world.start()
    if answer == "known":
        step(attempt)
    else:
        down = partial(world.repository.fail, "load", OSError("the database is down"))
        world.repository.lose("save", then=down, skip=int("artifacts" in result))
        with pytest.raises(OutcomeUnknownError):
            step(attempt)
    LATER[later](world, job.id)
    assert world.row(job.id).result_digest is not None
    return attempt


@pytest.mark.parametrize("answer", ["known", "lost"])
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("result", RESULTS)
def test_the_same_result_and_a_late_heartbeat_are_fine_and_change_nothing(
    world: World, result: str, later: str, answer: str
) -> None:
    attempt = finished(world, result, later, answer)
    before = look(world, attempt.job.id)
    assert attempt.heartbeat(0.9).id == attempt.job.id
    assert RESULTS[result](attempt).id == attempt.job.id
    assert look(world, attempt.job.id) == before


@pytest.mark.parametrize("answer", ["known", "lost"])
def test_the_same_retryable_failure_of_a_last_attempt_is_fine(world: World, answer: str) -> None:
    attempt = finished(world, LAST, "at once", answer)
    before = look(world, attempt.job.id)
    assert attempt.fail(BAD, retryable=True).status is JobStatus.FAILED
    assert look(world, attempt.job.id) == before


@pytest.mark.parametrize("answer", ["known", "lost"])
@pytest.mark.parametrize("later", LATER)
@pytest.mark.parametrize("result", ["complete", "complete with artifacts", "fail", LAST])
def test_any_other_command_of_who_finished_is_already_finished_and_deletes_nothing(
    world: World, result: str, later: str, answer: str
) -> None:
    attempt = finished(world, result, later, answer)
    before = look(world, attempt.job.id)
    for command in OTHERWISE.values():
        with pytest.raises(IllegalTransitionError) as refused:
            command(attempt)
        assert refused.value.code == "already_finished"
    assert look(world, attempt.job.id) == before


def test_a_delivery_starts_one_attempt_however_often_it_comes(world: World) -> None:
    job = world.create()
    delivery = world.take()
    attempt = world.jobs.start(delivery)
    with pytest.raises(IllegalTransitionError) as repeated:
        world.jobs.start(delivery)
    assert repeated.value.code == "already_started"
    attempt.give_back()
    with pytest.raises(GuardRefusedError) as late:
        world.jobs.start(delivery)
    assert late.value.code == "run_over"
    assert world.row(job.id).attempt_count == 1
    with pytest.raises(GuardRefusedError) as early:
        world.jobs.start(delivery.model_copy(update={"run": 3}))
    assert early.value.code == "run_not_reached"
    world.start(job).complete(None)
    with pytest.raises(IllegalTransitionError):
        world.jobs.start(world.row(job.id).delivery)
    assert world.row(job.id).attempt_count == 2


@pytest.mark.parametrize("margin", [1, 2, 30])
def test_a_live_lease_is_never_rescued(world_of: Callable[[Policy], World], margin: int) -> None:
    world = world_of(Policy(lease=timedelta(seconds=60), clock_skew=timedelta(seconds=margin)))
    job = world.create()
    attempt = world.start()
    world.clock.advance(45)
    attempt.heartbeat()
    world.clock.advance(60 + margin - 1)
    assert world.jobs.rescue().moved == 0
    assert world.row(job.id).status is JobStatus.IN_PROGRESS
    world.clock.advance(1)
    assert world.jobs.rescue().moved == 1
    assert world.row(job.id).status is JobStatus.QUEUED


def test_a_worker_whose_lease_ran_out_unnoticed_may_still_finish(world: World) -> None:
    world.create()
    attempt = world.start()
    world.clock.advance(LEASE * 10)
    assert attempt.complete({"total": 1}).status is JobStatus.COMPLETED


def test_a_heartbeat_never_shortens_a_lease(world: World) -> None:
    job = world.create()
    attempt = world.start()
    brief = Jobs(world.others._ports.repository, policy=Policy(lease=timedelta(seconds=5)), clock=world.clock)
    for face in (brief, world.others):
        Attempt(face._ports, face._scope, attempt._hold, None).heartbeat()
        world.clock.advance(-200)
    lease = world.row(job.id).lease
    assert lease is not None
    assert lease.expires_at == job.created_at + LEASE


def test_without_leases_nothing_is_rescued_and_a_long_attempt_expires(world_of: Callable[[Policy], World]) -> None:
    world = world_of(Policy(lease=None))
    job = world.create()
    attempt = world.start()
    world.clock.advance(WEEK - timedelta(seconds=1))
    assert world.jobs.sweep().rescue.moved == 0
    attempt.heartbeat()
    assert world.row(job.id).status is JobStatus.IN_PROGRESS
    world.clock.advance(1)
    report = world.jobs.sweep()
    assert (report.expire.moved, report.rescue.moved) == (1, 0)
    with pytest.raises(LeaseLostError):
        attempt.heartbeat()
    assert world.row(job.id).status is JobStatus.EXPIRED


def test_a_lost_worker_has_used_up_its_attempt(world: World) -> None:
    job = world.create(max_attempts=2)
    for number in (1, 2):
        assert world.start(job).number == number
        rescued(world, job.id)
        assert world.row(job.id).attempt_count == number
        world.clock.advance(60)
    row = world.row(job.id)
    assert row.status is JobStatus.FAILED
    assert row.error is not None
    assert row.error.code == row.last_failure_code == "worker_lost"


def test_a_job_that_may_run_once_is_never_run_again_by_a_sweep(world: World) -> None:
    job = world.create(max_attempts=1)
    world.start()
    for _ in range(20):
        world.clock.advance(timedelta(hours=1))
        world.jobs.sweep()
    row = world.row(job.id)
    assert (row.status, row.last_failure_code, row.attempt_count, row.run) == (JobStatus.FAILED, "worker_lost", 1, 1)
    assert len(world.dispatcher) == 0


def test_no_two_attempts_have_the_same_number_or_token(world: World) -> None:
    job = world.create(max_attempts=2)
    attempts: list[Held] = []
    ends: list[Callable[[Held], object]] = [
        lambda held: held.give_back(),
        lambda held: held.fail(BAD, retryable=True),
        lambda held: rescued(world, job.id),
        lambda held: world.others.retry(job.id),
        lambda held: retried(world, job.id),
        lambda held: held.complete(None),
    ]
    for end in ends:
        if world.row(job.id).status is JobStatus.QUEUED:
            attempts.append(world.start(job))
        end(attempts[-1])
        world.clock.advance(120)
    assert [attempt.number for attempt in attempts] == [1, 2, 3, 4, 5]
    assert len({attempt.token for attempt in attempts}) == 5
    assert world.row(job.id).attempt_count == 5
