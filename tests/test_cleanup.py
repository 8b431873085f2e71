"""Clean-up never races a retry, leaves nothing behind, and is finished by whoever comes next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from jobstate import (
    ArtifactNotFoundError,
    GuardRefusedError,
    IdempotencyConflictError,
    InvalidInputError,
    Job,
    JobNotFoundError,
    JobResponse,
    Jobs,
    JobStatus,
    LeaseLostError,
    Policy,
)
from jobstate.effects import Flow, PutArtifact
from jobstate.flows import attempts, commands, sweeps
from jobstate.lifecycle import Accepted, Draft
from jobstate.model import Event
from tests.support import ENDPOINT, ORG, REQUEST, Actor, World, make_world

WEEK = timedelta(days=7)
DAY = timedelta(days=1)
GRACE = timedelta(seconds=310)
PARTS = {"scan.pdf": b"scan", "notes.txt": b"notes"}
Fresh = Callable[..., World]


@pytest.fixture(params=["memory", "sqlite"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fresh]:
    """A new sync world at each call."""
    numbers = count()
    with ExitStack() as stack:

        def make(policy: Policy | None = None) -> World:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            return stack.enter_context(make_world(request.param, folder, policy))

        yield make


def at_every_point(
    fresh: Fresh, arrange: Callable[[World], object], flow_of: Callable[[World], Flow[Any]]
) -> Iterator[tuple[World, Actor]]:
    """The same beginning, and a flow that stands before its first effect, its second, ..., and at its end."""
    for point in count():
        world = fresh()
        arrange(world)
        actor = Actor(flow_of(world), world.others._ports)
        for _ in range(point):
            actor.step()
        ended = actor.effect is None
        yield world, actor
        if ended:
            assert point > 2
            return


def only(world: World) -> Job:
    (job,) = world.others.list().data
    return world.row(job.id)


def completed(world: World, **options: Any) -> Job:
    job = world.create(artifacts=PARTS, **options)
    return world.start().complete({"total": 1}, artifacts={"result.csv": b"1"}).model_copy(update={"request": job.request})


def expired(world: World) -> Job:
    """A job with a result, expired, whose clean-up is due."""
    job = completed(world)
    world.clock.advance(WEEK)
    world.others.expire()
    world.clock.advance(DAY)
    return job


def begun(world: World) -> Job:
    """The same, its clean-up begun, and due to end."""
    job = expired(world)
    world.others.cleanup()
    world.clock.advance(GRACE)
    return job


def cleanup(world: World) -> Flow[Any]:
    return sweeps.cleanup(world.others._scope)


def sweep_on(world: World) -> None:
    for _ in range(3):
        world.others.sweep()
        world.clock.advance(GRACE)


def assert_whole(world: World, job: Job) -> None:
    row = world.row(job.id)
    assert (row.status, row.request) == (JobStatus.QUEUED, REQUEST)
    attempt = world.others.start(row.delivery)
    assert {name: attempt.artifact(name) for name in PARTS} == PARTS


def assert_gone(world: World, job: Job) -> None:
    row = world.row(job.id)
    assert row.cleanup_completed_at is not None
    assert (row.request, row.response, row.request_artifacts, row.response_artifacts) == (None, None, None, None)
    assert world.artifacts.keys() == []


def test_a_retry_at_any_point_of_a_clean_up_finds_everything_or_is_refused(fresh: Fresh) -> None:
    accepted: list[bool] = []
    for world, cleaner in at_every_point(fresh, expired, cleanup):
        job = only(world)
        may = world.row(job.id).cleanup_started_at is None
        accepted.append(may)
        if may:
            assert world.others.retry(job.id).status is JobStatus.QUEUED
        else:
            with pytest.raises(GuardRefusedError) as refused:
                world.others.retry(job.id)
            assert refused.value.code == "cleaned_up"
        cleaner.finish()
        world.others.cleanup()
        if may:
            assert_whole(world, job)
        else:
            sweep_on(world)
            assert_gone(world, job)
    assert accepted == sorted(accepted, reverse=True)
    assert accepted.count(True) >= 4  # where due rows are read and saved in one effect
    assert accepted.count(False) >= 3


def test_a_clean_up_at_any_point_of_a_retry_takes_all_or_nothing(fresh: Fresh) -> None:
    def retry(world: World) -> Flow[Any]:
        return commands.change(world.others._scope, only(world).id, Event.RETRY)

    ends: set[JobStatus] = set()
    for world, user in at_every_point(fresh, expired, retry):
        job = only(world)
        world.others.cleanup()
        try:
            user.finish()
            assert_whole(world, job)
        except GuardRefusedError as refused:
            assert refused.code == "cleaned_up"  # noqa: PT017
            sweep_on(world)
            assert_gone(world, job)
        ends.add(world.row(job.id).status)
    assert ends == {JobStatus.IN_PROGRESS, JobStatus.EXPIRED}


@pytest.mark.parametrize("arrange", [expired, begun])
def test_a_cleaner_killed_at_any_point_is_finished_by_the_next_sweeps(fresh: Fresh, arrange: Callable[[World], Job]) -> None:
    for world, cleaner in at_every_point(fresh, arrange, cleanup):
        cleaner.flow.close()
        sweep_on(world)
        assert_gone(world, only(world))


@pytest.mark.parametrize("arrange", [expired, begun])
def test_two_cleaners_do_the_work_of_one(fresh: Fresh, arrange: Callable[[World], Job]) -> None:
    for world, cleaner in at_every_point(fresh, arrange, cleanup):
        world.others.cleanup()
        cleaner.finish()
        sweep_on(world)
        assert_gone(world, only(world))
        events = [record.event for record in world.others.history(only(world).id)]
        assert events.count(Event.BEGIN_CLEANUP) == events.count(Event.END_CLEANUP) == 1


def completing(world: World) -> Flow[Any]:
    attempt = world.others.start(only(world).delivery)
    return attempts.complete(attempt._scope, attempt._hold, JobResponse[Any](body=1), {"a.csv": b"a", "b.csv": b"b"})


def test_nothing_is_left_of_an_attempt_that_died_at_any_point(fresh: Fresh) -> None:
    for world, worker in at_every_point(fresh, lambda world: world.create(artifacts=PARTS), completing):
        worker.flow.close()
        world.clock.advance(WEEK + DAY)
        sweep_on(world)
        assert_gone(world, only(world))


@pytest.mark.parametrize("late_steps", range(4))
def test_what_a_late_attempt_puts_between_the_beginning_and_the_end_is_removed(fresh: Fresh, late_steps: int) -> None:
    world = fresh()
    job = world.create(artifacts=PARTS)
    worker = Actor(completing(world), world.others._ports)
    while not isinstance(worker.effect, PutArtifact):
        worker.step()
    world.clock.advance(WEEK + DAY)
    world.others.sweep()
    assert world.row(job.id).cleanup_started_at is not None
    assert world.artifacts.keys() == []
    for _ in range(late_steps):
        worker.step()
    assert len(world.artifacts.keys()) == min(late_steps, 2)
    sweep_on(world)
    assert_gone(world, job)


def test_a_clean_up_begins_and_ends_in_its_time(world: World) -> None:
    job = completed(world)
    world.clock.advance(WEEK)
    world.jobs.expire()
    world.clock.advance(DAY - timedelta(seconds=1))
    assert world.jobs.cleanup().moved == 0
    assert world.row(job.id).request == REQUEST
    world.clock.advance(1)
    assert world.jobs.cleanup().moved == 1
    row = world.row(job.id)
    assert (row.request, row.response, row.cleanup_completed_at) == (None, None, None)
    assert row.request_artifacts == job.request_artifacts
    assert row.response_artifacts == job.response_artifacts
    world.clock.advance(GRACE - timedelta(seconds=1))
    assert world.jobs.cleanup().moved == 0
    assert world.row(job.id).cleanup_completed_at is None
    world.clock.advance(1)
    assert world.jobs.cleanup().moved == 1
    assert_gone(world, job)
    assert world.jobs.cleanup() == (0, 0, 0, 0, ())


def test_a_store_that_fails_delays_its_job_only(world: World) -> None:
    jobs = [completed(world)]
    world.clock.advance(1)
    jobs.append(completed(world))
    world.clock.advance(WEEK)
    world.others.expire()
    world.clock.advance(DAY)
    world.artifacts.fail("delete", OSError("the store is down"))
    assert world.jobs.cleanup().moved == 2
    assert {key.partition("/")[0] for key in list(world.artifacts.keys())} == {jobs[0].id}
    world.clock.advance(GRACE)
    world.artifacts.fail("delete", OSError("the store is down"))
    assert world.jobs.cleanup() == (1, 0, 0, 1, ())
    assert [world.row(job.id).cleanup_completed_at is None for job in jobs] == [True, False]
    assert world.row(jobs[0].id).request_artifacts is not None
    assert world.jobs.cleanup() == (1, 0, 0, 0, ())
    assert_gone(world, jobs[0])


def test_jobs_without_an_artifact_store_are_cleaned_too(world: World) -> None:
    job = world.create()
    bare = Jobs(world.others._ports.repository, clock=world.clock)
    world.clock.advance(WEEK + DAY)
    bare.sweep()
    world.clock.advance(GRACE)
    bare.sweep()
    assert_gone(world, job)


def test_an_expired_job_shows_no_response(world: World) -> None:
    job = completed(world)
    assert world.ours.retrieve(job.id, include_response=True).response == JobResponse[Any](body={"total": 1})
    world.clock.advance(WEEK)
    world.jobs.expire()
    assert world.row(job.id).response is not None
    (listed,) = world.ours.list(include_response=True).data
    for shown in (world.ours.retrieve(job.id, include_response=True), listed):
        assert shown.status is JobStatus.EXPIRED
        assert (shown.response, shown.response_artifacts) == (None, None)


def test_an_expired_job_shows_no_response_to_who_repeats_a_command(world: World) -> None:
    job = completed(world, idempotency_key="inv-17")
    world.clock.advance(WEEK)
    world.jobs.expire()
    world.jobs.retry(job.id, retry_key="again")
    world.start(job).complete({"total": 1}, artifacts={"result.csv": b"1"})
    world.clock.advance(WEEK)
    world.jobs.expire()
    created = world.create(artifacts=PARTS, idempotency_key="inv-17")
    retried = world.ours.retry(job.id, retry_key="again")
    for answer in (created, retried):
        assert (answer.id, answer.status) == (job.id, JobStatus.EXPIRED)
        assert (answer.response, answer.response_artifacts) == (None, None)


@pytest.mark.parametrize("sweeps_made", [1, 2])
def test_the_key_of_a_cleaned_job_answers_with_it_and_never_revives_it(world: World, sweeps_made: int) -> None:
    job = completed(world, idempotency_key="inv-17")
    world.clock.advance(WEEK + DAY)
    for _ in range(sweeps_made):
        world.others.sweep()
        world.clock.advance(GRACE)
    before, keys = world.row(job.id), world.artifacts.keys()
    assert before.cleanup_started_at is not None
    again = world.create(artifacts=PARTS, idempotency_key="inv-17")
    assert (again.id, again.status, again.request) == (job.id, JobStatus.EXPIRED, None)
    with pytest.raises(IdempotencyConflictError):
        world.create(idempotency_key="inv-17")
    assert (world.row(job.id), world.artifacts.keys()) == (before, keys)


DRAFT = Draft(organization_id=ORG, endpoint=ENDPOINT, request=REQUEST, artifacts=PARTS, idempotency_key="inv-17")


def creating(world: World) -> Flow[Any]:
    return commands.create(world.others._scope, DRAFT)


def nothing(world: World) -> None:
    """A world without jobs."""


def test_a_create_killed_at_any_point_is_finished_by_a_second_one_with_its_key(fresh: Fresh) -> None:
    seen: set[JobStatus] = set()
    for world, creator in at_every_point(fresh, nothing, creating):
        creator.flow.close()
        seen |= {job.status for job in world.others.list().data}
        again = world.create(artifacts=PARTS, idempotency_key="inv-17")
        assert (again.id, again.request) == (only(world).id, REQUEST)
        assert_whole(world, again)
    assert seen == {JobStatus.VALIDATING, JobStatus.QUEUED}


def test_two_creates_with_one_key_make_one_whole_job(fresh: Fresh) -> None:
    for world, creator in at_every_point(fresh, nothing, creating):
        again = world.create(artifacts=PARTS, idempotency_key="inv-17")
        creator.finish()
        assert only(world).id == again.id
        assert only(world).run == 1
        assert_whole(world, again)


def test_nothing_is_left_of_a_create_that_died_at_any_point(fresh: Fresh) -> None:
    for world, creator in at_every_point(fresh, nothing, creating):
        creator.flow.close()
        world.clock.advance(WEEK + DAY)
        sweep_on(world)
        for job in world.others.list().data:
            assert_gone(world, job)
        assert world.artifacts.keys() == []


def test_a_half_made_job_that_expired_is_not_revived(world: World) -> None:
    creator = Actor(creating(world), world.others._ports)
    while not isinstance(creator.effect, PutArtifact):
        creator.step()
    world.clock.advance(WEEK)
    world.jobs.expire()
    before = only(world)
    again = world.create(artifacts=PARTS, idempotency_key="inv-17")
    assert again.status is JobStatus.EXPIRED
    assert (only(world), world.artifacts.keys()) == (before, [])


def test_a_create_that_comes_late_takes_its_artifacts_along(world: World) -> None:
    """Its job was cleaned before it put them, and nobody would look there again."""
    creator = Actor(creating(world), world.others._ports)
    while not isinstance(creator.effect, PutArtifact):
        creator.step()
    world.clock.advance(WEEK + DAY)
    sweep_on(world)
    assert only(world).cleanup_completed_at is not None
    creator.finish()
    assert world.artifacts.keys() == []
    assert only(world).status is JobStatus.EXPIRED


def test_artifacts_have_their_job_in_their_keys_and_tell_size_and_digest(world: World) -> None:
    job = world.create(artifacts=PARTS)
    done = world.start().complete(None, artifacts={"result.csv": b"1,2"})
    told = [(part.name, part.key, part.size, part.digest) for part in job.request_artifacts or ()]
    assert told == [
        (name, f"{job.id}/request/{name}", len(data), sha256(data).hexdigest()) for name, data in sorted(PARTS.items())
    ]
    assert done.response_artifacts is not None
    (result,) = done.response_artifacts
    assert (result.name, result.key, result.size) == ("result.csv", f"{job.id}/1/result.csv", 3)
    assert world.others._ports.artifacts.get(result.key) == b"1,2"


def test_a_worker_that_misses_a_part_is_told_why(world: World) -> None:
    job = world.create(artifacts=PARTS)
    attempt = world.start()
    with pytest.raises(InvalidInputError, match=r"notes.txt, scan.pdf"):
        attempt.artifact("scan.png")
    world.others._ports.artifacts.delete(f"{job.id}/request/")
    with pytest.raises(ArtifactNotFoundError):
        attempt.artifact("scan.pdf")
    world.others.cancel(job.id)
    with pytest.raises(LeaseLostError):
        attempt.artifact("scan.pdf")


FORGETFUL = Policy(forget_after=DAY)


def test_a_cleaned_row_is_forgotten_in_its_time(fresh: Fresh) -> None:
    world = fresh(FORGETFUL)
    job = completed(world, idempotency_key="inv-17")
    world.clock.advance(WEEK + DAY)
    world.jobs.sweep()
    world.clock.advance(GRACE)
    assert world.jobs.sweep().cleanup.moved == 1
    world.clock.advance(DAY - timedelta(seconds=1))
    assert world.jobs.forget().moved == 0
    assert world.row(job.id).status is JobStatus.EXPIRED
    world.clock.advance(1)
    assert world.jobs.forget() == (1, 0, 0, 0, ())
    with pytest.raises(JobNotFoundError):
        world.jobs.retrieve(job.id)
    assert world.others._ports.repository.history(job.id) == []
    assert world.create(idempotency_key="inv-17").id != job.id


def test_without_a_term_nothing_is_forgotten(world: World) -> None:
    job = begun(world)
    sweep_on(world)
    world.clock.advance(timedelta(days=3660))
    assert world.jobs.sweep().forget.moved == 0
    assert_gone(world, job)


def test_a_row_that_moved_is_not_forgotten(fresh: Fresh) -> None:
    world = fresh(FORGETFUL)
    job = begun(world)
    sweep_on(world)
    world.clock.advance(DAY)
    row = world.row(job.id)
    touch = Accepted(
        job.id, Event.HEARTBEAT, row.status, row.status, row.version, 0, 0, "op", None, None, {"version": row.version + 1}
    )
    world.repository.then("due", lambda: world.others._ports.repository.save(touch))
    assert world.jobs.forget() == (0, 0, 1, 0, ())
    assert world.row(job.id).version == row.version + 1
    assert world.jobs.forget().moved == 1
