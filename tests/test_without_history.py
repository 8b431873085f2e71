"""`history=False`: every command works, no record is kept, and only the last retry is recognised by its key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from jobstate import Attempt, Job, JobError, Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.testing import ManualClock
from tests.support import NOW

Engines = Callable[[], Engine]
LONG = 10**9


def face(engines: Engines, *, history: bool = False) -> tuple[Jobs, ManualClock]:
    repository = SQLAlchemyRepository(engines(), history=history)
    repository.create_schema()
    clock = ManualClock(NOW)
    return Jobs(repository, clock=clock).for_organization("org"), clock


def start(jobs: Jobs, job: Job) -> Attempt:
    return jobs.start(jobs.retrieve(job.id).delivery)


def fail(jobs: Jobs, job: Job) -> None:
    start(jobs, job).fail(JobError(code="broken", message="so"), retryable=False)


def test_a_job_goes_its_whole_way_and_leaves_no_record(engines: Engines) -> None:
    jobs, clock = face(engines)
    job = jobs.create("/x", {"a": 1}, idempotency_key="k")
    assert jobs.create("/x", {"a": 1}, idempotency_key="k").id == job.id
    fail(jobs, job)
    assert jobs.retry(job.id).run == 2
    attempt = start(jobs, job)
    attempt.heartbeat(progress=0.5)
    assert attempt.complete({"b": 2}).version == attempt.complete({"b": 2}).version
    done = jobs.retrieve(job.id, include_request=True, include_response=True)
    assert (done.status, done.attempt_count, done.request) == ("completed", 2, {"a": 1})
    assert done.response is not None
    assert done.response.body == {"b": 2}
    others = [jobs.create("/x", {}) for _ in range(3)]
    assert len(jobs.cancel_many(status="queued")) == len(jobs.retry_many(status="cancelled")) == 3
    jobs.cancel(others[0].id)
    everybody = Jobs(jobs._ports.repository, clock=clock)
    clock.advance(LONG)
    assert everybody.expire().moved == 4
    assert everybody.cleanup().moved == 4
    assert [list(jobs.history(one.id)) for one in (job, *others)] == [[]] * 4
    with engines().connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobstate_history")).scalar_one() == 0


@pytest.mark.parametrize(("history", "run"), [(True, 3), (False, 4)])
def test_a_retry_that_another_has_followed_is_recognised_by_the_history_alone(
    engines: Engines, history: bool, run: int
) -> None:
    jobs, _ = face(engines, history=history)
    job = jobs.create("/x", {})
    for key in ("one", "two"):
        fail(jobs, job)
        first = jobs.retry(job.id, retry_key=key)
        assert jobs.retry(job.id, retry_key=key).version == first.version
    fail(jobs, job)
    assert jobs.retry(job.id, retry_key="two").run == 3, "the last one stands in the row"
    assert jobs.retry(job.id, retry_key="one").run == run


def test_a_repository_without_history_still_shows_what_another_has_written(engines: Engines) -> None:
    with_history, _ = face(engines, history=True)
    without, _ = face(engines)
    job = with_history.create("/x", {})
    without.cancel(job.id)
    assert [str(record.event) for record in without.history(job.id)] == ["created"]
    with engines().begin() as connection:
        without.bind(connection).retry(job.id)
    assert (with_history.retrieve(job.id).status, len(with_history.history(job.id))) == ("queued", 1)
