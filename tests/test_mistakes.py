"""A newcomer's mistakes: each ends in an error that says what to do, or in a warning where nothing is wrong yet.

This is the list of them. One that cost somebody an hour is added here.
"""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic import BaseModel
from sqlalchemy import URL, NullPool, create_engine
from sqlalchemy.ext.asyncio import create_async_engine

from jobstate import (
    AsyncJobs,
    AsyncWorker,
    Context,
    Endpoint,
    Event,
    InvalidInputError,
    Job,
    JobError,
    Jobs,
    Policy,
    RepositoryError,
    TransitionError,
    Worker,
    async_run_job,
    decide,
    run_job,
)
from jobstate import overdue as overdue_of
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.inprocess import ThreadDispatcher
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from jobstate.overdue import LATE, LOOK_EVERY, Overdue
from jobstate.testing import ManualClock
from tests.postgresql import emptied, engine_of
from tests.support import NOW, ORG, a_job


def handle(request: Any, context: Context) -> dict[str, int]:
    return {"done": 1}


async def ahandle(request: Any, context: Any) -> dict[str, int]:
    return {"done": 1}


class Called:
    """A handler that is an object."""

    async def __call__(self, request: Any, context: Any) -> None:
        raise AssertionError("it was called")


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
    (lambda: Jobs(cast("Any", None)), "repository: NoneType has no method 'load': it is no repository"),
    (lambda: Jobs(cast("Any", MemoryDispatcher())), "repository: MemoryDispatcher has no method 'load'"),
    (
        lambda: Jobs(MemoryRepository()).create("/x", {}, **cast("Any", {"organisation_id": "o"})),
        "unknown argument organisation_id",
    ),
    (lambda: Jobs(MemoryRepository()).list(**cast("Any", {"state": "queued"})), "unknown argument state; known are status"),
    (
        lambda: Jobs(cast("Any", create_engine("sqlite://"))),
        "repository: Engine has no method 'load': it is no repository",
    ),
    (lambda: Jobs(MemoryRepository()).bind(None), "MemoryRepository has no method 'bind': it cannot write in a transaction"),
    (
        lambda: Worker(Jobs(MemoryRepository()), cast("Any", ahandle)),
        "handler: it is async, .* use AsyncJobs",
    ),
    (lambda: Worker(Jobs(MemoryRepository()), cast("Any", Called())), "handler: it is async"),
    (lambda: Worker(Jobs(MemoryRepository()), cast("Any", None)), "handler: a function of a request and a context is needed"),
    (
        lambda: Worker(Jobs(MemoryRepository()), handle, **cast("Any", {"threads": 3})),
        "unknown argument threads; known",
    ),
    (
        lambda: run_job(Jobs(MemoryRepository()), a_job().delivery, cast("Any", ahandle)),
        "handler: it is async, .* use AsyncJobs",
    ),
    (
        lambda: ThreadDispatcher(workers=1).start(Jobs(MemoryRepository()), cast("Any", ahandle)),
        "handler: it is async, .* use AsyncJobs",
    ),
]


@pytest.mark.parametrize(("call", "words"), AT_THE_FACE, ids=[words[:20] for _, words in AT_THE_FACE])
def test_the_face_says_what_it_needs(call: Callable[[], object], words: str) -> None:
    with pytest.raises(TypeError, match=words):
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


# What is put in


class Model(BaseModel):
    """A request that nobody declared."""

    text: str


def plain(**options: Any) -> Job[Any, Any]:
    return Jobs(MemoryRepository()).create("/x", {}, organization_id=ORG, **options)


PUT_IN: list[tuple[Callable[[], object], str]] = [
    (lambda: Jobs(MemoryRepository()).create("/x", {}), "organization_id"),
    (lambda: plain(available_at=datetime(2026, 1, 1)), "available_at: a naive datetime has no place in time: give it a tzinfo"),
    (
        lambda: Jobs(MemoryRepository()).list(created_from=datetime(2026, 1, 1)),
        "created_from: a naive datetime has no place in time: give it a tzinfo",
    ),
    (lambda: Jobs(MemoryRepository()).list(status="done"), "status: .*queued"),
    (lambda: Jobs(MemoryRepository()).list(limit=5000), "limit: 1 to 1000 jobs are possible on a page"),
    (
        lambda: Jobs(MemoryRepository()).create("/x", cast("Any", Model(text="a")), organization_id=ORG),
        "request: a JSON object .* is needed, not Model",
    ),
    (lambda: plain(artifacts={"a": b"1"}), "artifacts: there is no artifact store: pass artifacts=... to the constructor"),
    (lambda: Jobs(MemoryRepository(), policy=Policy(inline_limit=9)), "inline_limit: there is no artifact store"),
    (lambda: plain(metadata={"n": cast("Any", 1)}), "metadata"),
    (lambda: Jobs(MemoryRepository()).retry_many(), "filter: retry of all jobs is not done: give a status"),
    (lambda: Jobs(MemoryRepository()).for_organization(ORG).sweep(), "sweeps run for all organizations: call them on the unsc"),
    (
        lambda: Worker(Jobs(MemoryRepository(), MemoryDispatcher()), handle).run(),
        "dispatcher: it carries the jobs: Jobs without one takes them from the repository",
    ),
    (lambda: Worker(Jobs(MemoryRepository()).for_organization(ORG), handle).run(), "call them on the unscoped face"),
    (lambda: Worker(Jobs(MemoryRepository()), handle, concurrency=0), "concurrency: a whole number from 1"),
]


@pytest.mark.parametrize(("call", "words"), PUT_IN, ids=[words[:20] for _, words in PUT_IN])
def test_what_is_put_in_is_checked_before_anything_is_done(call: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        call()


def test_an_async_worker_on_jobs_with_a_dispatcher_says_so_too() -> None:
    from jobstate.memory import AsyncMemoryDispatcher

    jobs = AsyncJobs(AsyncMemoryRepository(), AsyncMemoryDispatcher())
    with pytest.raises(InvalidInputError, match="dispatcher: it carries the jobs"):
        asyncio.run(AsyncWorker(jobs, ahandle).run())


# Handlers

WORDS = Endpoint("/v1/words", request=Model, response=Model)


def test_a_handler_that_returns_a_wrong_type_fails_its_job_with_what_is_wrong() -> None:
    jobs = Jobs(MemoryRepository(), endpoints=[WORDS])
    job = jobs.create(WORDS, Model(text="a"), organization_id=ORG)
    run_job(jobs, job.delivery, handle)
    error = jobs.retrieve(job.id).error
    assert error is not None
    assert error.code == "invalid_result"
    assert "text: Field required" in error.message


def test_a_handler_that_returns_what_is_no_json_fails_its_job_with_what_is_wrong() -> None:
    jobs = Jobs(MemoryRepository())
    job = jobs.create("/x", {}, organization_id=ORG)
    run_job(jobs, job.delivery, lambda request, context: {1, 2})
    error = jobs.retrieve(job.id).error
    assert error is not None
    assert (error.code, "set" in error.message) == ("invalid_result", True)


def test_a_sync_handler_of_async_jobs_fails_its_job_with_what_to_do() -> None:
    async def go() -> JobError | None:
        jobs = AsyncJobs(AsyncMemoryRepository(), policy=Policy(max_attempts=1))
        job = await jobs.create("/x", {}, organization_id=ORG)
        await async_run_job(jobs, job.delivery, cast("Any", handle))
        return (await jobs.retrieve(job.id)).error

    error = asyncio.run(go())
    assert error is not None
    assert "it is not async: use `async def`, or Jobs, and run_job or Worker" in error.message


# Two workers with one token


def test_a_delivery_that_is_started_twice_tells_the_second_that_there_is_a_first() -> None:
    jobs = Jobs(MemoryRepository())
    job = jobs.create("/x", {}, organization_id=ORG)
    jobs.start(job.delivery)
    with pytest.raises(TransitionError, match=r"\[already_started\]: another attempt of run 1 began at"):
        jobs.start(job.delivery)


def test_two_workers_with_one_attempt_bring_one_result_and_the_second_is_told() -> None:
    """As when a process forks while it works: both hold the token."""
    repository = MemoryRepository()
    jobs = Jobs(repository)
    attempt = jobs.start(jobs.create("/x", {}, organization_id=ORG).delivery)
    twin = type(attempt)(attempt._ports, attempt._scope, attempt._hold, None)
    attempt.complete({"by": "the first"})
    with pytest.raises(TransitionError, match=r"\[already_finished\]: this attempt ended the job before"):
        twin.complete({"by": "the second"})
    response = jobs.retrieve(attempt.job_id, include_response=True).response
    assert response is not None
    assert response.body == {"by": "the first"}


# The database


def test_a_database_in_memory_and_an_engine_of_the_wrong_colour_are_told() -> None:
    with pytest.raises(ValueError, match="a SQLite database in memory belongs to one connection: use a file, or MemoryRepos"):
        SQLAlchemyRepository(create_engine("sqlite://"))
    with pytest.raises(TypeError, match="other colour there is AsyncSQLAlchemyRepository"):
        SQLAlchemyRepository(cast("Any", create_async_engine("sqlite+aiosqlite:///x.sqlite")))
    with pytest.raises(TypeError, match="other colour there is SQLAlchemyRepository"):
        AsyncSQLAlchemyRepository(cast("Any", create_engine("sqlite:///x.sqlite")))


NO_TABLES = r"jobstate_jobs.*: call create_schema\(\), or run the migration that makes the tables"


def _asks(repository: SQLAlchemyRepository) -> list[Callable[[], object]]:
    jobs = Jobs(repository)
    return [lambda: jobs.create("/x", {}, organization_id=ORG), lambda: jobs.list(), lambda: jobs.take(1)]


def test_a_forgotten_create_schema_is_named(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'new.sqlite'}", poolclass=NullPool)
    for ask in _asks(SQLAlchemyRepository(engine)):
        with pytest.raises(RepositoryError, match=f"(?s){NO_TABLES}"):
            ask()


def test_a_forgotten_create_schema_is_named_on_postgresql(server: URL) -> None:
    engine = engine_of(server, poolclass=NullPool)
    emptied(engine)
    for ask in _asks(SQLAlchemyRepository(engine)):
        with pytest.raises(RepositoryError, match=f"(?s){NO_TABLES}"):
            ask()


# A forgotten sweep


class Stopping(Worker):
    """Stops before it waits."""

    def _wait(self) -> None:
        self.stop()


def _left_behind(clock: ManualClock) -> Jobs:
    """A job whose worker was killed."""
    jobs = Jobs(MemoryRepository(), clock=clock, policy=Policy(lease=timedelta(seconds=60), clock_skew=timedelta(seconds=10)))
    jobs.start(jobs.create("/x", {}, organization_id=ORG).delivery)
    return jobs


def test_the_lag_of_sweeps_is_how_long_a_rescue_or_an_expiry_waits() -> None:
    clock = ManualClock(NOW)
    jobs = _left_behind(clock)
    clock.advance(70)
    assert jobs.sweep_lag() == 0
    clock.advance(7)
    assert jobs.sweep_lag() == 7
    jobs.sweep()
    assert jobs.sweep_lag() == 0
    clock.advance(7 * 86_400)
    assert jobs.sweep_lag() > 0
    jobs.sweep()
    assert jobs.sweep_lag() == 0


def test_a_long_job_under_a_live_lease_is_no_lag_though_its_time_is_over() -> None:
    clock = ManualClock(NOW)
    jobs = Jobs(MemoryRepository(), clock=clock, policy=Policy(ttl=timedelta(seconds=60), lease=timedelta(hours=1)))
    jobs.start(jobs.create("/x", {}, organization_id=ORG).delivery)
    clock.advance(1000)
    assert jobs.sweep_lag() == 0


@pytest.mark.parametrize(("late", "told"), [(LATE, 1), (LATE - 1, 0)])
def test_a_worker_warns_that_nobody_sweeps(
    late: int, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overdue_of, "LOOK_EVERY", 0.0)
    clock = ManualClock(NOW)
    jobs = _left_behind(clock)
    clock.advance(70 + late)
    with caplog.at_level(logging.WARNING, "jobstate.overdue"):
        Stopping(jobs, handle).run()
    assert len(caplog.messages) == told
    assert all(f"jobs have waited {late} s to be rescued or expired: is there a sweep?" in words for words in caplog.messages)


def test_an_async_worker_warns_that_nobody_sweeps(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(overdue_of, "LOOK_EVERY", 0.0)

    class AsyncStopping(AsyncWorker):
        async def _wait(self) -> None:
            self.stop()

    async def go() -> None:
        clock = ManualClock(NOW)
        jobs = AsyncJobs(AsyncMemoryRepository(), clock=clock)
        job = await jobs.create("/x", {}, organization_id=ORG, ttl=timedelta(seconds=1))
        await jobs.cancel(job.id)
        clock.advance(1 + LATE)
        await AsyncStopping(jobs, ahandle).run()

    asyncio.run(go())
    assert f"jobs have waited {LATE} s" in caplog.text


def test_a_worker_looks_at_the_sweeps_now_and_then_and_not_at_its_start() -> None:
    times = iter((0, LOOK_EVERY - 1, LOOK_EVERY, LOOK_EVERY, LOOK_EVERY + 1, 5 * LOOK_EVERY, 5 * LOOK_EVERY, 5.5 * LOOK_EVERY))
    overdue = Overdue(clock=lambda: next(times))  # who looks, reads the clock once more
    assert [overdue.is_time() for _ in range(5)] == [False, True, False, True, False]


# What is installed

EXTRAS = [
    ("jobstate.adapters.sqlalchemy", "sqlalchemy", "sqlalchemy"),
    ("jobstate.adapters.fastapi", "fastapi", "fastapi"),
    ("jobstate.adapters.celery", "celery", "celery"),
    ("jobstate.adapters.dramatiq", "dramatiq", "dramatiq"),
    ("jobstate.adapters.rq", "rq", "rq"),
    ("jobstate.adapters.procrastinate", "procrastinate", "procrastinate"),
    ("jobstate.adapters.cloud_tasks", "google.cloud.tasks_v2", "cloud_tasks"),
    ("jobstate.adapters.fsspec", "fsspec", "fsspec"),
    ("jobstate.testing.strategies", "hypothesis", "testing"),
]


MISSING = """
import sys
class Missing:
    def __init__(self, name):
        self.name = name
    def find_spec(self, name, *_):
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
"""


@pytest.mark.parametrize(("module", "missing", "extra"), EXTRAS, ids=[module for module, _, _ in EXTRAS])
def test_an_adapter_without_its_extra_says_which(module: str, missing: str, extra: str) -> None:
    code = f"{MISSING}\nsys.meta_path.insert(0, Missing({missing!r}))\nimport {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == (f"ModuleNotFoundError: {missing} is not installed: pip install 'jobstate[{extra}]'")
