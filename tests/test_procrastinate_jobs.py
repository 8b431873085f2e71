"""Jobs on procrastinate: one transaction for both, times, aborts, stops, and what a killed worker leaves behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from threading import Event as Flag
from typing import Any

import pytest
from procrastinate import App
from sqlalchemy import URL, Engine, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Session

from jobstate import AsyncJobs, Delivery, Job, Jobs, Policy
from jobstate.adapters.procrastinate import AsyncProcrastinateDispatcher, ProcrastinateDispatcher
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.context import AsyncContext, Context
from jobstate.errors import DispatchError
from jobstate.worker import JobFailed
from tests.engines.scene import scene_of
from tests.engines.task_engines import ProcrastinateEngine
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.procrastinate_tables import app_of, prepared, tasks, work

POLICY = Policy(max_attempts=2, backoff=timedelta(hours=1))
DEADLINE = 30.0


@pytest.fixture
def engine(server: URL) -> Iterator[Engine]:
    made = engine_of(server)
    emptied(made)
    prepared(made, server)
    SQLAlchemyRepository(made).create_schema()
    yield made
    made.dispose()


@pytest.fixture
def app(server: URL) -> Iterator[App]:
    made = app_of(server)
    yield made
    made.close()


@pytest.fixture
def dispatcher(app: App) -> ProcrastinateDispatcher:
    return ProcrastinateDispatcher(app)


@pytest.fixture
def jobs(engine: Engine, dispatcher: ProcrastinateDispatcher) -> Jobs:
    return Jobs(SQLAlchemyRepository(engine), dispatcher, policy=POLICY)


def create(jobs: Jobs, **options: Any) -> Job:
    return jobs.create("/x", {"a": 1}, organization_id="org", **options)


def echo(request: Any, context: Context) -> Any:
    return request


def statuses(engine: Engine) -> list[str]:
    return [status for status, _, _ in tasks(engine)]


async def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def test_a_job_is_created_with_its_task_and_a_worker_runs_it(engine: Engine, jobs: Jobs, app: App) -> None:
    """In one app, made once, as a host has it: for its own side, and for the worker."""
    job = create(jobs)
    assert not job.dispatch_pending
    assert tasks(engine) == [("todo", job.task_name, {"job_id": job.id, "run": 1})]
    jobs._ports.dispatcher.register(jobs, echo)
    work(app)
    done = jobs.retrieve(job.id, include_response=True)
    assert done.response is not None
    assert (done.status, done.response.body, statuses(engine)) == ("completed", {"a": 1}, ["succeeded"])


def test_a_retry_and_a_give_back_write_their_tasks_too(engine: Engine, jobs: Jobs) -> None:
    job = create(jobs)
    jobs.start(job.delivery).give_back()
    jobs.cancel(job.id)
    retried = jobs.retry(job.id)
    assert not retried.dispatch_pending
    assert [(status, arguments["run"]) for status, _, arguments in tasks(engine)] == [("todo", 1), ("todo", 3)]


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("commits", [False, True])
def test_job_and_task_are_there_if_the_host_commits(engine: Engine, jobs: Jobs, session: bool, commits: bool) -> None:
    begun: Any = Session(engine) if session else engine.connect()
    with begun as host:
        job = create(jobs.bind(host))
        assert not job.dispatch_pending
        assert tasks(engine) == []
        if commits:
            host.commit()
        else:
            host.rollback()
    assert (jobs.count(), len(tasks(engine))) == ((1, 1) if commits else (0, 0))


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("commits", [False, True])
@pytest.mark.usefixtures("engine")
def test_the_async_face_does_the_same(server: URL, session: bool, commits: bool) -> None:
    async def main() -> tuple[int, int]:
        engine = async_engine_of(server)
        app = app_of(server)
        jobs = AsyncJobs(AsyncSQLAlchemyRepository(engine), AsyncProcrastinateDispatcher(app)).for_organization("org")
        begun: Any = AsyncSession(engine) if session else engine.connect()
        async with begun as host:
            job = await jobs.bind(host).create("/x", {})
            assert not job.dispatch_pending
            await (host.commit() if commits else host.rollback())
        async with engine.connect() as connection:
            there = (await connection.execute(text("SELECT count(*) FROM procrastinate_jobs"))).scalar_one()
        found = await jobs.count(), there
        await engine.dispose()
        return found

    assert asyncio.run(main()) == ((1, 1) if commits else (0, 0))


@pytest.mark.usefixtures("engine")
def test_a_driver_that_procrastinate_does_not_know_is_refused(server: URL) -> None:
    """Out of the transaction it works."""

    async def main() -> None:
        engine = async_engine_of(server, "postgresql+asyncpg")
        repository = AsyncSQLAlchemyRepository(engine)
        within = AsyncJobs(repository, AsyncProcrastinateDispatcher(app_of(server))).for_organization("org")
        async with engine.begin() as connection:
            with pytest.raises(DispatchError, match=r"not asyncpg.*: give transactional=False"):
                await within.bind(connection).create("/x", {})
        async with app_of(server).open_async() as app:
            behind = AsyncJobs(repository, AsyncProcrastinateDispatcher(app, transactional=False)).for_organization("org")
            assert not (await behind.create("/x", {})).dispatch_pending
        await engine.dispose()

    asyncio.run(main())


def test_a_dispatcher_is_made_before_its_app_is_opened_for_asyncio(server: URL) -> None:
    async def main() -> None:
        async with app_of(server).open_async() as app:
            with pytest.raises(ValueError, match="make the dispatcher before"):
                ProcrastinateDispatcher(app)

    asyncio.run(main())


def test_a_name_that_waits_already_is_taken_and_kept_once(engine: Engine, dispatcher: ProcrastinateDispatcher) -> None:
    given = Delivery(job_id="job_" + "0" * 21, run=1)
    assert [dispatcher.dispatch(given, "name") for _ in range(2)] == ["name", "name"]
    assert len(tasks(engine)) == 1


@pytest.mark.usefixtures("engine")
def test_what_is_dispatched_for_later_is_delivered_then(
    server: URL, jobs: Jobs, app: App, dispatcher: ProcrastinateDispatcher
) -> None:
    delivered = list[tuple[int, float]]()

    class Noting(Jobs):
        def start(self, delivery: Delivery) -> Any:  # type: ignore[override]
            delivered.append((delivery.run, time.time()))
            return super().start(delivery)

    dispatcher.register(Noting(jobs._ports.repository, dispatcher), echo)
    soon = int(time.time()) + 2
    for run, not_before in ((7, soon), (8, soon + 3600)):
        dispatcher.dispatch_at(Delivery(job_id="job_" + "0" * 21, run=run), f"at-{run}", not_before)
    end = time.monotonic() + DEADLINE
    while not delivered:
        assert time.monotonic() < end
        work(app)
    assert [run for run, _ in delivered] == [7]
    assert delivered[0][1] >= soon


def test_a_delivery_that_is_early_comes_again_when_the_job_may_start(
    engine: Engine, jobs: Jobs, app: App, dispatcher: ProcrastinateDispatcher
) -> None:
    job = create(jobs)
    dispatcher.register(jobs, echo)
    jobs.start(job.delivery).fail(JobFailed("again", "later").error, retryable=True)
    released = jobs.retrieve(job.id)
    assert released.available_at is not None
    dispatcher.dispatch(released.delivery, "early")
    work(app)
    with engine.begin() as connection:
        early = connection.execute(
            text("SELECT status::text, extract(epoch FROM scheduled_at) FROM procrastinate_jobs WHERE queueing_lock = 'early'")
        ).one()
    assert (early[0], int(early[1])) == ("todo", released.available_at)


def test_a_delivery_of_a_job_that_is_not_accepted_yet_comes_again_soon(
    jobs: Jobs, app: App, dispatcher: ProcrastinateDispatcher, engine: Engine
) -> None:
    job = create(jobs, validating=True)
    dispatcher.register(Jobs(jobs._ports.repository, dispatcher), echo)
    dispatcher.dispatch(Delivery(job_id=job.id, run=1), "early")
    work(app)
    assert statuses(engine) == ["todo"]
    Jobs(jobs._ports.repository).accept(job.id)
    end = time.monotonic() + DEADLINE
    while jobs.retrieve(job.id).status != "completed":
        assert time.monotonic() < end
        work(app)
    assert statuses(engine) == ["succeeded"]


def test_a_failure_of_the_handler_is_no_failure_of_the_task(
    engine: Engine, jobs: Jobs, app: App, dispatcher: ProcrastinateDispatcher
) -> None:
    """How often a job is tried is its own: procrastinate retries none."""
    job = create(jobs)

    def handler(request: Any, context: Context) -> None:
        raise JobFailed("bad", "no use")

    dispatcher.register(jobs, handler)
    work(app)
    assert (jobs.retrieve(job.id).status, statuses(engine)) == ("failed", ["succeeded"])


def test_cancelling_a_job_that_waits_takes_its_task_back(engine: Engine, jobs: Jobs) -> None:
    kept, cancelled = create(jobs), create(jobs)
    jobs.cancel(cancelled.id)
    assert [name for _, name, _ in tasks(engine)] == [kept.task_name]


@pytest.mark.usefixtures("engine")
def test_cancelling_a_job_that_runs_stops_an_async_handler(server: URL) -> None:
    began, stopped = Flag(), Flag()

    async def handler(request: Any, context: AsyncContext) -> None:
        began.set()
        try:
            await asyncio.sleep(DEADLINE)
        except asyncio.CancelledError:
            stopped.set()
            raise

    async def main() -> Job:
        engine = async_engine_of(server)
        async with app_of(server).open_async() as app:
            dispatcher = AsyncProcrastinateDispatcher(app)
            jobs = AsyncJobs(AsyncSQLAlchemyRepository(engine), dispatcher).for_organization("org")
            dispatcher.register(jobs, handler)
            job = await jobs.create("/x", {})
            worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
            await until(began.is_set)
            await jobs.cancel(job.id)
            await until(stopped.is_set)
            worker.cancel()
            await asyncio.wait([worker])
            found = await jobs.retrieve(job.id)
        await engine.dispose()
        return found

    job = asyncio.run(main())
    assert (job.status, job.give_backs) == ("cancelled", 0)


@pytest.mark.usefixtures("engine")
def test_cancelling_a_job_that_runs_tells_a_plain_handler(app: App, jobs: Jobs, dispatcher: ProcrastinateDispatcher) -> None:
    """Long before its next heartbeat."""
    began, ended = Flag(), list[bool]()

    def handler(request: Any, context: Context) -> None:
        began.set()
        end = time.monotonic() + DEADLINE
        while not context.cancelled and time.monotonic() < end:
            time.sleep(0.01)
        ended.append(context.cancelled)

    async def main() -> Job:
        dispatcher.register(jobs, handler)
        async with app.open_async():
            worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False))
            job = await asyncio.to_thread(create, jobs)
            await until(began.is_set)
            await asyncio.to_thread(jobs.cancel, job.id)
            await until(lambda: bool(ended))
            worker.cancel()
            await asyncio.wait([worker])
        return jobs.retrieve(job.id)

    job = asyncio.run(main())
    assert ended == [True]
    assert (job.status, job.give_backs) == ("cancelled", 0)


@pytest.mark.usefixtures("engine")
def test_an_async_handler_that_a_stop_interrupts_is_given_back(server: URL) -> None:
    """Budget intact; its next task is there at once."""
    began = Flag()

    async def handler(request: Any, context: AsyncContext) -> None:
        began.set()
        await asyncio.sleep(DEADLINE)

    async def main() -> Job:
        engine = async_engine_of(server)
        async with app_of(server).open_async() as app:
            dispatcher = AsyncProcrastinateDispatcher(app)
            jobs = AsyncJobs(AsyncSQLAlchemyRepository(engine), dispatcher).for_organization("org")
            dispatcher.register(jobs, handler)
            job = await jobs.create("/x", {})
            worker = asyncio.create_task(app.run_worker_async(install_signal_handlers=False, shutdown_graceful_timeout=0))
            await until(began.is_set)
            worker.cancel()
            await asyncio.wait([worker])
            found = await jobs.retrieve(job.id)
        await engine.dispose()
        return found

    job = asyncio.run(main())
    assert (job.status, job.attempts_used, job.give_backs, job.run) == ("queued", 0, 1, 2)
    made = engine_of(server)
    assert [(status, arguments["run"]) for status, _, arguments in tasks(made)] == [("aborted", 1), ("todo", 2)]
    made.dispose()


@pytest.mark.full
def test_what_a_killed_worker_leaves_in_doing_holds_nothing_up(server: URL, tmp_path: Path) -> None:
    """The lease and the sweep bring the job to another worker; a host that repeats the old task does no harm."""
    with scene_of(ProcrastinateEngine(tmp_path), server, tmp_path) as scene:
        (job_id,) = scene.create(gate="never")
        first = scene.workers.start()
        scene.until_started(job_id)
        first.kill()
        scene.workers.start()
        with scene.sweeping():
            scene.until_finished([job_id])
        engine = engine_of(server)
        scene.until(lambda: statuses(engine) == ["doing", "succeeded"], "both tasks as they should be")
        asyncio.run(_repeat_stalled(server))
        scene.until(lambda: statuses(engine) == ["succeeded", "succeeded"], "the old task is done")
        engine.dispose()
        scene.check([job_id])
        assert scene.job(job_id).attempt_count == 2


async def _repeat_stalled(server: URL) -> None:
    """As procrastinate's documentation does it."""
    async with app_of(server).open_async() as app:
        (stalled,) = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=0)
        await app.job_manager.retry_job(stalled)
