"""The loop of a worker: it takes what it has hands for, hears of new jobs, survives its database, and stops in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Barrier, Event, Lock, Thread
from threading import enumerate as all_threads
from typing import Any

import pytest
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.pool import NullPool

from jobstate import (
    AsyncContext,
    AsyncJobs,
    AsyncWorker,
    Context,
    InvalidInputError,
    Job,
    Jobs,
    Policy,
    RepositoryError,
    Worker,
)
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.cli.source import handler_named
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from jobstate.testing import ManualClock
from jobstate.worker import AsyncHandler
from tests.postgresql import ASYNC, async_engine_of, emptied, engine_of
from tests.support import ENDPOINT, ORG, SOON, until

ROOT = Path(__file__).parents[1]
SELDOM = 3600.0
"""A `poll` that never comes."""


def create(jobs: Jobs, number: int = 0) -> Job:
    return jobs.create(ENDPOINT, {"number": number}, organization_id=ORG)


@contextmanager
def working(worker: Worker) -> Generator[Worker]:
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(SOON)
        assert not thread.is_alive()


def doubled(request: Any, context: Context) -> int:
    return int(request["number"]) * 2


def test_what_is_pending_runs_as_many_at_once_as_it_has_hands() -> None:
    """Four meet in their handlers, and never a fifth."""
    jobs = Jobs(MemoryRepository())
    barrier, lock = Barrier(4), Lock()
    now, most = 0, 0

    def handler(request: Any, context: Context) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        barrier.wait(SOON)
        with lock:
            now -= 1
        return int(request["number"])

    made = [create(jobs, number) for number in range(20)]
    with working(Worker(jobs, handler, concurrency=4, poll=0.01)):
        until(lambda: jobs.count(status="completed") == 20)
    assert most == 4
    shown = [jobs.retrieve(job.id, include_response=True) for job in made]
    assert [job.response and job.response.body for job in shown] == list(range(20))
    assert {job.attempt_count for job in shown} == {1}


def test_nothing_waits_under_a_lease_but_for_a_free_hand() -> None:
    jobs = Jobs(MemoryRepository())
    go, entered = Event(), Event()

    def handler(request: Any, context: Context) -> None:
        entered.set()
        assert go.wait(SOON)

    for number in range(5):
        create(jobs, number)
    with working(Worker(jobs, handler, concurrency=2, poll=0.01)):
        until(lambda: jobs.count(status="in_progress") == 2)
        assert entered.wait(SOON)
        assert jobs.count(status="queued") == 3
        go.set()
        until(lambda: jobs.count(status="completed") == 5)


class Fails(MemoryRepository):
    """The due page cannot be had, a number of times."""

    faults = 3

    def due(self, *args: Any, **options: Any) -> Any:
        if self.faults:
            self.faults -= 1
            raise RepositoryError("the database is gone")
        return super().due(*args, **options)


def test_a_database_that_fails_is_asked_again(caplog: pytest.LogCaptureFixture) -> None:
    repository = Fails()
    jobs = Jobs(repository)
    create(jobs)
    with working(Worker(jobs, doubled, poll=0.01)):
        until(lambda: jobs.count(status="completed") == 1)
    assert repository.faults == 0
    assert sum("no jobs could be taken" in record.message for record in caplog.records) == 3


def test_a_stop_lets_what_runs_finish() -> None:
    jobs = Jobs(MemoryRepository())
    entered, go, told = Event(), Event(), Event()

    def handler(request: Any, context: Context) -> str:
        entered.set()
        until(lambda: context.stopping)
        told.set()
        assert go.wait(SOON)
        return "done"

    job = create(jobs)
    worker = Worker(jobs, handler, poll=0.01, grace=SOON)
    thread = Thread(target=worker.run, daemon=True)
    thread.start()
    assert entered.wait(SOON)
    worker.stop()
    assert told.wait(SOON)
    later = create(jobs)
    go.set()
    thread.join(SOON)
    assert (jobs.retrieve(job.id).status, jobs.retrieve(later.id).status) == ("completed", "queued")


def test_what_does_not_finish_in_time_is_given_back_and_its_result_dropped() -> None:
    jobs = Jobs(MemoryRepository())
    entered, go = Event(), Event()

    def handler(request: Any, context: Context) -> str:
        entered.set()
        assert go.wait(SOON)
        return "late"

    job = create(jobs)
    with working(Worker(jobs, handler, poll=0.01, grace=0)):
        assert entered.wait(SOON)
    row = jobs.retrieve(job.id)
    assert (row.status, row.run, row.give_backs, row.attempts_used) == ("queued", 2, 1, 0)
    go.set()
    until(lambda: not any(thread.name.startswith("jobstate-") for thread in all_threads()))
    assert [record.event for record in jobs.history(job.id)] == ["created", "start", "give_back"]


# Notices, on PostgreSQL


@pytest.fixture
def engine(server: URL) -> Iterator[Engine]:
    made = engine_of(server)
    emptied(made)
    SQLAlchemyRepository(made).create_schema()
    yield made
    made.dispose()


def listeners(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        found = connection.execute(text("SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN \"jobstate%'"))
        return [pid for (pid,) in found]


def test_an_idle_worker_is_woken_by_each_thing_that_queues_a_job(engine: Engine) -> None:
    """By a create, a retry, and a commit of the host's; its own look never comes."""
    jobs = Jobs(SQLAlchemyRepository(engine), policy=Policy(max_attempts=1))
    seen: list[int] = []

    def handler(request: Any, context: Context) -> None:
        seen.append(request["number"])
        raise ValueError("fails")

    with working(Worker(jobs, handler, poll=SELDOM)):
        until(lambda: bool(listeners(engine)))
        job = create(jobs, 1)
        until(lambda: jobs.retrieve(job.id).status == "failed")
        jobs.retry(job.id)
        until(lambda: len(seen) == 2)
        with engine.begin() as connection:
            jobs.bind(connection).create(ENDPOINT, {"number": 3}, organization_id=ORG)
        until(lambda: len(seen) == 3)
    assert seen == [1, 1, 3]


def test_what_a_sweep_has_queued_is_told_too(engine: Engine) -> None:
    policy = Policy(backoff=timedelta(0))
    jobs = Jobs(SQLAlchemyRepository(engine), policy=policy)
    create(jobs)
    jobs.take(1)
    listener = jobs.listen()
    late = Jobs(SQLAlchemyRepository(engine), policy=policy, clock=ManualClock(int(time.time()) + 3600))
    assert late.rescue().moved == 1
    assert listener.wait(SOON)
    listener.close()


def test_many_creates_are_few_notices_and_all_run(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came too soon after a notice for one of its own is found by a second look; the poll never comes."""
    monkeypatch.setattr("jobstate.notices.PAUSE", SELDOM)
    monkeypatch.setattr("jobstate.loop._ECHO", 1.0)
    jobs = Jobs(SQLAlchemyRepository(engine))
    with working(Worker(jobs, doubled, poll=SELDOM, concurrency=3)):
        until(lambda: bool(listeners(engine)))
        first = create(jobs)
        until(lambda: jobs.retrieve(first.id).status == "completed")
        for number in range(20):
            create(jobs, number)
        until(lambda: jobs.count(status="completed") == 21)


def test_a_listener_that_was_cut_off_listens_again(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    jobs = Jobs(SQLAlchemyRepository(engine))
    with working(Worker(jobs, doubled, poll=SELDOM)):
        until(lambda: bool(listeners(engine)))
        (before,) = listeners(engine)
        with engine.connect() as connection:
            connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": before})
        until(lambda: bool(listeners(engine)) and listeners(engine) != [before])
        job = create(jobs)
        until(lambda: jobs.retrieve(job.id).status == "completed")
    assert any("notices of new jobs ended" in record.message for record in caplog.records)


def test_a_worker_that_has_stopped_listens_no_more(engine: Engine) -> None:
    jobs = Jobs(SQLAlchemyRepository(engine))
    with working(Worker(jobs, doubled)):
        until(lambda: bool(listeners(engine)))
    until(lambda: not listeners(engine))


def test_with_a_dispatcher_no_write_tells_anybody(engine: Engine) -> None:
    """Who has an engine pays for no notice."""
    with_one = Jobs(SQLAlchemyRepository(engine), MemoryDispatcher())
    listener = Jobs(SQLAlchemyRepository(engine)).listen()
    create(with_one)
    assert not listener.wait(0.1)
    listener.close()


# Awaited


@pytest.mark.parametrize("driver", ASYNC)
def test_the_async_worker_does_the_same(driver: str, engine: Engine) -> None:
    async def main() -> None:
        async_engine = async_engine_of(engine.url, driver)
        jobs = AsyncJobs(AsyncSQLAlchemyRepository(async_engine))
        entered = asyncio.Event()

        async def handler(request: Any, context: AsyncContext) -> int:
            if request["number"] < 0:
                entered.set()
                await asyncio.Event().wait()
            return int(request["number"])

        worker = AsyncWorker(jobs, handler, concurrency=5, poll=SELDOM, grace=0)
        running = asyncio.create_task(worker.run())
        async with asyncio.timeout(SOON):
            while not listeners(engine):
                await asyncio.sleep(0.002)
            made = [await jobs.create(ENDPOINT, {"number": number}, organization_id=ORG) for number in range(30)]
            while await jobs.count(status="completed") < 30:
                await asyncio.sleep(0.002)
            held = await jobs.create(ENDPOINT, {"number": -1}, organization_id=ORG)
            await entered.wait()
            worker.stop()
            await running
        row = await jobs.retrieve(held.id)
        assert (row.status, row.run, row.give_backs, row.attempts_used) == ("queued", 2, 1, 0)
        assert {(await jobs.retrieve(job.id)).attempt_count for job in made} == {1}
        await async_engine.dispose()

    asyncio.run(main())


def endless(entered: asyncio.Event) -> AsyncHandler:
    """A handler that says when it has begun, and never ends."""

    async def handler(request: Any, context: AsyncContext) -> None:
        entered.set()
        await asyncio.Event().wait()

    return handler


def test_a_cancelled_async_worker_gives_back_what_runs_and_goes_on_being_cancelled() -> None:
    async def main() -> None:
        jobs = AsyncJobs(AsyncMemoryRepository())
        entered = asyncio.Event()
        job = await jobs.create(ENDPOINT, {}, organization_id=ORG)
        running = asyncio.create_task(AsyncWorker(jobs, endless(entered), poll=0.01, grace=0).run())
        async with asyncio.timeout(SOON):
            await entered.wait()
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
        row = await jobs.retrieve(job.id)
        assert (row.status, row.give_backs, row.attempts_used) == ("queued", 1, 0)

    asyncio.run(main())


def test_an_async_worker_takes_for_the_hands_that_live() -> None:
    async def main() -> None:
        jobs = AsyncJobs(AsyncMemoryRepository())
        entered = asyncio.Event()
        worker = AsyncWorker(jobs, endless(entered), concurrency=2, poll=0.001, grace=0)
        async with asyncio.timeout(SOON):
            running = asyncio.create_task(worker.run())
            while not (hands := [task for task in asyncio.all_tasks() if task.get_name() == "jobstate-1-kept"]):
                await asyncio.sleep(0)
            hands[0].cancel()
            await asyncio.wait(hands)
            assert worker._idle() == 1
            await jobs.create(ENDPOINT, {}, organization_id=ORG)
            await entered.wait()
            assert worker._idle() == 0
            worker.stop()
            await running

    asyncio.run(main())


# What it is given


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1001}, "concurrency"),
        ({"concurrency": 2.0}, "concurrency"),
        ({"poll": 0}, "poll"),
        ({"poll": float("nan")}, "poll"),
        ({"grace": -1}, "grace"),
        ({"grace": "10"}, "grace"),
    ],
)
def test_a_bad_setting_is_named_with_its_limits(options: Any, field: str) -> None:
    with pytest.raises(InvalidInputError, match=rf"{field}: .* needed"):
        Worker(Jobs(MemoryRepository()), doubled, **options)


def test_an_unknown_setting_is_named() -> None:
    options: Any = {"threads": 3}
    with pytest.raises(TypeError, match="threads; known are concurrency"):
        Worker(Jobs(MemoryRepository()), doubled, **options)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("json", "package.module:function"),
        (":loads", "package.module:function"),
        ("no_such_module:f", "no_such_module"),
        ("json:nothing", "nothing"),
        ("json:__doc__", "it is str"),
        ("asyncio:open_connection", "async_work"),
    ],
)
def test_a_handler_that_cannot_be_had_is_named_with_the_reason(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        handler_named(name)


# The command

HANDLER = """
import time
from pathlib import Path

def run(request, context):
    if request["number"] < 0:
        Path(__file__).with_name("running").touch()
        time.sleep(600)
    return request["number"] * 2
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_the_command_works_until_a_signal_and_gives_back_what_runs(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / "handlers.py").write_text(HANDLER)
    database = f"sqlite:///{tmp_path / 'jobs.sqlite'}"
    if kind == "postgresql":
        url: URL = request.getfixturevalue("server")
        database = url.render_as_string(hide_password=False)
    engine = create_engine(database.replace("postgresql:", "postgresql+psycopg:"), poolclass=NullPool)
    if kind == "postgresql":
        emptied(engine)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository)
    made = [create(jobs, number) for number in range(10)]
    command = [sys.executable, "-m", "jobstate", "work", "handlers:run", "--database", database, "--grace", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        until(lambda: jobs.count(status="completed") == 10)
        held = create(jobs, -1)
        until((tmp_path / "running").exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SOON) == 0
    finally:
        process.kill()
        process.wait()
    row = jobs.retrieve(held.id)
    assert (row.status, row.run, row.give_backs, row.attempts_used) == ("queued", 2, 1, 0)
    shown = [jobs.retrieve(job.id, include_response=True) for job in made]
    assert [job.response and job.response.body for job in shown] == [2 * number for number in range(10)]


def test_the_command_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "jobstate", "work", "json:nothing", "--database", str(tmp_path / "jobs.sqlite")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "json:nothing" in done.stderr
