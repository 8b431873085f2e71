"""Time may step back, differ, or run out: it delays, and breaks no rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstate import Attempt, Job, JobError, Jobs, JobstateError, JobStatus, Policy
from jobstate.lifecycle import replay
from tests.support import ENDPOINT, ORG, REQUEST, World, make_world

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


def test_a_job_is_not_expired_under_a_live_lease(world: World) -> None:
    job = world.create(ttl=100 * SECOND)
    attempt = world.start()
    world.clock.advance(250)
    attempt.heartbeat()
    world.clock.advance(309)
    assert world.jobs.sweep().expire.moved == 0
    world.clock.advance(1)
    report = world.jobs.sweep()
    assert (report.expire.moved, report.rescue.moved, world.row(job.id).status) == (1, 0, JobStatus.EXPIRED)


def test_a_long_attempt_may_finish_behind_its_jobs_time(world: World) -> None:
    world.create(ttl=100 * SECOND)
    attempt = world.start()
    world.clock.advance(200)
    world.jobs.sweep()
    assert attempt.complete({"total": 1}).status is JobStatus.COMPLETED


BAD = JobError(code="bad_page", message="page 2 cannot be read")


def ended(world: World, end: str, ttl: timedelta) -> Job:
    job = world.create(ttl=ttl, max_attempts=1, validating=end == "reject")
    if end in ("reject", "cancel"):
        return world.jobs.reject(job.id, BAD) if end == "reject" else world.jobs.cancel(job.id)
    attempt = world.start(job)
    world.clock.advance(400)
    if end == "rescue":
        world.jobs.rescue()
        return world.row(job.id)
    return attempt.complete({"total": 1}) if end == "complete" else attempt.fail(BAD)


@pytest.mark.parametrize("end", ["complete", "fail", "reject", "cancel", "rescue"])
def test_what_ended_is_kept_for_its_time(end: str, tmp_path: Path) -> None:
    for keep, ttl, kept in ((HOUR, 500, 3600), (HOUR, 7200, 0), (None, 500, 0)):
        with make_world("memory", tmp_path, Policy(keep_for=keep)) as world:
            job = ended(world, end, timedelta(seconds=ttl))
            assert job.completed_at is not None
            assert job.expires_at == (job.completed_at + kept if kept else job.created_at + ttl)
            world.clock.time = job.expires_at - 1
            assert world.jobs.expire().moved == 0
            world.clock.advance(1)
            assert world.jobs.expire().moved == 1


def test_a_clock_ahead_within_the_margin_takes_over_no_live_worker(world: World) -> None:
    world.create()
    attempt = world.start()
    world.clock.advance(300 - 1 + 10)
    assert world.jobs.sweep().rescue.moved == 0
    world.clock.advance(-10)
    assert attempt.heartbeat().status is JobStatus.IN_PROGRESS


@pytest.mark.parametrize("step", [1, 3600, 10**9])
def test_a_clock_that_stepped_back_delays_and_breaks_nothing(world: World, step: int) -> None:
    job = Jobs(world.others._ports.repository, clock=world.clock).create(ENDPOINT, REQUEST, organization_id=ORG)
    world.clock.advance(-step)
    assert world.jobs.sweep().relay.moved == 0
    world.clock.advance(step)
    assert world.jobs.relay().moved == 1
    attempt = world.start()
    world.clock.advance(-step)
    attempt.heartbeat(0.5)
    assert world.jobs.sweep().rescue.moved == 0
    attempt.give_back()
    done = world.start(job).complete({"total": 1})
    assert done.started_at == done.completed_at == job.created_at
    assert [record.at for record in world.jobs.history(job.id)] == [job.created_at] * 5


STEPS: dict[str, Callable[[World, str, Attempt[Any, Any]], object]] = {
    "start": lambda world, job_id, attempt: world.start(world.row(job_id)),
    "heartbeat": lambda world, job_id, attempt: attempt.heartbeat(),
    "complete": lambda world, job_id, attempt: attempt.complete(None),
    "fail": lambda world, job_id, attempt: attempt.fail(BAD, retryable=True),
    "give back": lambda world, job_id, attempt: attempt.give_back(),
    "cancel": lambda world, job_id, attempt: world.jobs.cancel(job_id),
    "retry": lambda world, job_id, attempt: world.jobs.retry(job_id),
    "sweep": lambda world, job_id, attempt: world.jobs.sweep(),
}
JUMPS = st.sampled_from([-(10**6), -3600, -60, -1, 0, 1, 60, 400, 3600, 10**6])


@settings(deadline=None, max_examples=100)
@given(steps=st.lists(st.tuples(st.sampled_from(sorted(STEPS)), JUMPS), max_size=30))
def test_on_one_row_time_never_runs_backwards(steps: list[tuple[str, int]]) -> None:
    with make_world("memory", Path(), Policy(keep_for=HOUR)) as world:
        job_id = world.create().id
        attempt = world.start()
        for name, jump in steps:
            world.clock.advance(jump)
            before = world.row(job_id)
            try:
                answer = STEPS[name](world, job_id, attempt)
                attempt = cast("Attempt[Any, Any]", answer) if name == "start" else attempt
            except JobstateError:
                assert world.row(job_id) == before
            row = world.row(job_id)
            assert (row.version, row.updated_at, row.run, row.attempt_count) >= (before.version, before.updated_at, 1, 1)
            assert row.updated_at >= before.updated_at
            assert row.attempt_count - before.attempt_count == (name == "start" and row.version > before.version)
        history = list(world.jobs.history(job_id))
        times = [record.at for record in history]
        assert times == sorted(times)
        assert replay(history).status is world.row(job_id).status
