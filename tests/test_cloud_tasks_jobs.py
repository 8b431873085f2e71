"""Jobs on Cloud Tasks: names, times, answers, deadlines, and a stop of the host."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterator
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event as Flag
from typing import Any

import httpx2 as httpx
import pytest
from fastapi import FastAPI, HTTPException
from google.api_core.exceptions import GoogleAPIError, InvalidArgument

from jobstate import AsyncJobs, Delivery, Job, Jobs, Policy
from jobstate.adapters.cloud_tasks import AsyncCloudTasksDispatcher, CloudTasksDispatcher, async_receive, receive
from jobstate.adapters.fastapi.cloud_tasks import cloud_tasks_router
from jobstate.context import AsyncContext, Context
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.testing import ManualClock
from jobstate.worker import Handler, JobFailed
from tests.cloud_tasks import QUEUE, CloudTasks, async_client_of, client_of
from tests.support import until
from tests.test_cloud_tasks import running
from tests.web import serving

DEADLINE = 30.0
NOBODY = "job_" + "0" * 21


@pytest.fixture
def cloud() -> Iterator[CloudTasks]:
    with running(patience=0.5) as server:
        yield server


def dispatcher_of(cloud: CloudTasks, address: str = "http://127.0.0.1:1") -> CloudTasksDispatcher:
    """With the address of a host that is not there, if none is given."""
    return CloudTasksDispatcher(client_of(cloud.address), QUEUE, f"{address}/tasks/run")


def echo(request: Any, context: Context) -> Any:
    return request


@contextmanager
def host(cloud: CloudTasks, handler: Handler = echo, policy: Policy | None = None) -> Generator[Jobs]:
    """A service whose worker is a route on loopback."""
    app = FastAPI()
    with serving(app) as address:
        jobs = Jobs(MemoryRepository(), dispatcher_of(cloud, address), policy=policy)
        app.include_router(cloud_tasks_router(jobs, handler, caller=lambda: None))
        yield jobs


def create(jobs: Jobs, **options: Any) -> Job:
    return jobs.create("/x", {"a": 1}, organization_id="org", **options)


def statuses(cloud: CloudTasks) -> list[list[int | None]]:
    """What each task that is not done was answered so far."""
    return [waiting.answers for waiting in cloud.tasks.values()]


def test_a_job_runs_and_shows_the_full_name_of_its_task(cloud: CloudTasks) -> None:
    with host(cloud) as jobs:
        job = create(jobs)
        assert job.task_name is not None
        assert job.task_name.startswith(f"{QUEUE}/tasks/")
        assert job.task_name.endswith(f"-{job.id}-1-1")
        until(lambda: jobs.retrieve(job.id).status == "completed" and not cloud.tasks)
    assert jobs.retrieve(job.id).attempt_count == 1


def test_names_that_begin_alike_begin_with_a_hash(cloud: CloudTasks) -> None:
    """Cloud Tasks is slow with names in sequence, and ids of jobs are."""
    dispatcher = dispatcher_of(cloud)
    ids = [dispatcher.name(f"job_00{number:04}").rsplit("/", 1)[1] for number in range(256)]
    assert len({name[:2] for name in ids}) > 100


def test_a_name_that_was_used_is_taken_as_done(cloud: CloudTasks) -> None:
    """While its task waits, and when it is gone."""
    with host(cloud) as jobs:
        job = create(jobs)
        until(lambda: not cloud.tasks)
        dispatcher = jobs._ports.dispatcher
        assert dispatcher.dispatch(job.delivery, f"{job.id}-1-1") == job.task_name
    assert cloud.tasks == {}
    waiting = dispatcher_of(cloud)
    assert len({waiting.dispatch(Delivery(job_id=NOBODY, run=1), "name") for _ in range(2)}) == 1
    assert len(cloud.tasks) == 1


def test_what_is_dispatched_for_later_is_delivered_then(cloud: CloudTasks) -> None:
    delivered = list[float]()

    class Noting(Jobs):
        def start(self, delivery: Delivery) -> Any:  # type: ignore[override]
            delivered.append(time.time())
            return super().start(delivery)

    app = FastAPI()
    with serving(app) as address:
        dispatcher = dispatcher_of(cloud, address)
        app.include_router(cloud_tasks_router(Noting(MemoryRepository()), echo, caller=lambda: None))
        soon = int(time.time()) + 2
        later = dispatcher.dispatch_at(Delivery(job_id=NOBODY, run=1), "later", soon + 3600)
        dispatcher.dispatch_at(Delivery(job_id=NOBODY, run=1), "soon", soon)
        until(lambda: list(cloud.tasks) == [later])
    assert len(delivered) == 1
    assert delivered[0] >= soon


def test_a_time_that_cloud_tasks_does_not_take_is_an_error(cloud: CloudTasks) -> None:
    with pytest.raises(InvalidArgument):
        dispatcher_of(cloud).dispatch_at(Delivery(job_id=NOBODY, run=1), "far", int(time.time()) + 31 * 86400)


def test_cancelling_a_job_that_waits_deletes_its_task(cloud: CloudTasks) -> None:
    jobs = Jobs(MemoryRepository(), dispatcher_of(cloud))
    kept, cancelled = create(jobs), create(jobs)
    jobs.cancel(cancelled.id)
    assert list(cloud.tasks) == [kept.task_name]
    jobs._ports.dispatcher.revoke(f"{kept.id}-1-1")
    assert list(cloud.tasks) == [], "by the name that it was given, too"


def test_a_failure_of_the_handler_is_no_failure_of_the_call(cloud: CloudTasks) -> None:
    """How often a job is tried is its own."""

    def handler(request: Any, context: Context) -> None:
        raise JobFailed("bad", "no use", retryable=True)

    with host(cloud, handler, Policy(max_attempts=1)) as jobs:
        job = create(jobs)
        until(lambda: not cloud.tasks)
    assert (jobs.retrieve(job.id).status, jobs.retrieve(job.id).attempt_count) == ("failed", 1)


def test_a_delivery_that_is_early_is_brought_again_until_it_runs(cloud: CloudTasks) -> None:
    with host(cloud) as jobs:
        job = create(jobs, validating=True)
        jobs._ports.dispatcher.dispatch(Delivery(job_id=job.id, run=1), "early")
        until(lambda: any(len(answers) >= 3 for answers in statuses(cloud)))
        assert {status for answers in statuses(cloud) for status in answers} == {503}
        Jobs(jobs._ports.repository).accept(job.id)
        until(lambda: not cloud.tasks)
    assert jobs.retrieve(job.id).status == "completed"


def test_a_request_that_outlives_its_deadline_runs_once(cloud: CloudTasks) -> None:
    """Cloud Tasks calls again, and what it brings then is dropped."""
    gate = Flag()

    def handler(request: Any, context: Context) -> str:
        assert gate.wait(DEADLINE)
        return "done"

    with host(cloud, handler) as jobs:
        job = create(jobs)
        until(lambda: jobs.retrieve(job.id).status == "in_progress")
        until(lambda: not cloud.tasks)
        assert jobs.retrieve(job.id).status == "in_progress", "the second call was answered while the first one ran"
        gate.set()
        until(lambda: jobs.retrieve(job.id).status == "completed")
    assert jobs.retrieve(job.id).attempt_count == 1


PAUSE = 0.4
"""Seconds in which a call that does not wait would have failed."""


def test_a_moment_without_cloud_tasks_is_waited_for(cloud: CloudTasks) -> None:
    dispatcher = dispatcher_of(cloud)
    cloud.stop()
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(dispatcher.dispatch, Delivery(job_id=NOBODY, run=1), "name")
        assert not futures.wait([answer], PAUSE).done
        cloud.start()
        assert answer.result() == dispatcher.name("name")
    assert len(cloud.tasks) == 1


def test_a_moment_without_cloud_tasks_is_awaited(cloud: CloudTasks) -> None:
    async def main() -> None:
        dispatcher = AsyncCloudTasksDispatcher(async_client_of(cloud.address), QUEUE, "http://127.0.0.1:1/tasks/run")
        cloud.stop()
        answer = asyncio.create_task(dispatcher.dispatch(Delivery(job_id=NOBODY, run=1), "name"))
        done, _ = await asyncio.wait([answer], timeout=PAUSE)
        assert not done
        cloud.start()
        assert await answer == dispatcher.name("name")
        await dispatcher._client.transport.close()

    asyncio.run(main())
    assert len(cloud.tasks) == 1


def test_an_outage_is_an_error_in_time(cloud: CloudTasks) -> None:
    dispatcher = CloudTasksDispatcher(client_of(cloud.address), QUEUE, "http://127.0.0.1:1/tasks/run", timeout=0.5)
    cloud.stop()
    begin = time.monotonic()
    with pytest.raises(GoogleAPIError):
        dispatcher.dispatch(Delivery(job_id=NOBODY, run=1), "name")
    assert time.monotonic() - begin < 5


def body(delivery: Delivery) -> bytes:
    return delivery.model_dump_json().encode()


@pytest.mark.parametrize("text", [b"", b"{}", b"null", b"\xff", b'{"job_id": 1, "run": 1}', b'{"job_id": "job_x", "run": -1}'])
def test_a_body_that_is_no_delivery_is_a_bad_request(text: bytes) -> None:
    assert receive(Jobs(MemoryRepository()), text, echo) == (400, {})
    assert asyncio.run(async_receive(Jobs(MemoryRepository()), text, echo)) == (400, {})


def test_answers_say_when_to_come_again() -> None:
    clock = ManualClock(time.time())
    jobs = Jobs(MemoryRepository(), policy=Policy(max_attempts=2), clock=clock)
    job = create(jobs)
    jobs.start(job.delivery).fail(JobFailed("again", "later").error, retryable=True)
    released = jobs.retrieve(job.id)
    assert released.available_at is not None
    status, headers = receive(jobs, body(released.delivery), echo)
    wait = released.available_at - time.time()
    assert status == 503
    assert wait <= int(headers["Retry-After"]) <= wait + 2
    assert receive(jobs, body(job.delivery), echo) == (200, {}), "a run that is over"
    assert receive(jobs, body(Delivery(job_id=job.id, run=9)), echo) == (503, {}), "a run that is not reached"
    clock.time = released.available_at
    assert receive(jobs, body(released.delivery), echo) == (200, {})
    assert jobs.retrieve(job.id).status == "completed"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_dispatcher_makes_what_a_route_calls(cloud: CloudTasks, colour: str) -> None:
    async def handler(request: Any, context: AsyncContext) -> None:
        raise ValueError("no")

    def plain(request: Any, context: Context) -> None:
        raise ValueError("no")

    async def main() -> Job:
        dispatcher = AsyncCloudTasksDispatcher(async_client_of(cloud.address), QUEUE, "http://127.0.0.1:1/tasks/run")
        jobs = AsyncJobs(AsyncMemoryRepository(), dispatcher).for_organization("org")
        job = await jobs.create("/x", {})
        called = dispatcher.register(jobs, handler, retry_exceptions=False)
        assert await called(body(job.delivery)) == (200, {})
        found = await jobs.retrieve(job.id)
        await dispatcher._client.transport.close()
        return found

    if colour == "async":
        assert asyncio.run(main()).status == "failed"
        return
    jobs = Jobs(MemoryRepository(), dispatcher_of(cloud))
    job = create(jobs)
    assert jobs._ports.dispatcher.register(jobs, plain, retry_exceptions=False)(body(job.delivery)) == (200, {})
    assert jobs.retrieve(job.id).status == "failed"


def test_a_caller_that_the_host_does_not_know_runs_nothing(cloud: CloudTasks) -> None:
    def refuse() -> None:
        raise HTTPException(403)

    jobs = Jobs(MemoryRepository())
    job = create(jobs)
    app = FastAPI()
    app.include_router(cloud_tasks_router(jobs, echo, caller=refuse))
    with serving(app) as address:
        assert httpx.post(f"{address}/tasks/run", content=body(job.delivery)).status_code == 403
    assert jobs.retrieve(job.id).status == "queued"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_runs_when_the_host_shuts_down_is_given_back_first(colour: str) -> None:
    """Also where the server cancels nothing."""
    began, gate = Flag(), Flag()

    def plain(request: Any, context: Context) -> None:
        began.set()
        gate.wait(DEADLINE)

    async def handler(request: Any, context: AsyncContext) -> None:
        began.set()
        await asyncio.sleep(DEADLINE)

    async def main() -> Job:
        sync = Jobs(MemoryRepository())
        jobs: Any = AsyncJobs(AsyncMemoryRepository()) if colour == "async" else sync
        made = jobs.create("/x", {}, organization_id="org")
        job = (await made) if colour == "async" else made
        app = FastAPI()
        ours: Any = handler if colour == "async" else plain
        app.include_router(cloud_tasks_router(jobs, ours, caller=lambda: None))
        async with app.router.lifespan_context(app):
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://host")
            call = asyncio.create_task(client.post("/tasks/run", content=body(job.delivery)))
            assert await asyncio.to_thread(began.wait, DEADLINE)
        found = jobs.retrieve(job.id)
        after: Job = (await found) if colour == "async" else found
        gate.set()
        await asyncio.wait([call])
        assert call.cancelled()
        await client.aclose()
        return after

    job = asyncio.run(main())
    assert (job.status, job.attempts_used, job.give_backs) == ("queued", 0, 1)
