"""The reference API's own client, `retab`, on a real server: it works unchanged, and resends by itself as it always did."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isawaitable
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, cast

import pytest
from sqlalchemy import URL, NullPool

from jobstate import AsyncJobs, Delivery, DispatchError, Job, JobFailed, Jobs, run_job
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.sql import sqlite_engine
from tests.support import ENDPOINT, REQUEST
from tests.web import make_app, serving

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of the client's own dependencies
    from retab import AsyncRetab, Retab
    from retab.client import BaseRetab
    from retab.exceptions import APIError, InternalServerError, NotFoundError, ValidationError


@pytest.fixture(autouse=True)
def own_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client puts another `ssl.SSLContext` into the whole process, which other libraries' tests then meet."""
    monkeypatch.setattr("truststore.inject_into_ssl", lambda: None)


class Failing:
    """A dispatcher of both colours whose next dispatches fail, and which counts those that did not."""

    transactional = False

    def __init__(self) -> None:
        self.inner = MemoryDispatcher()
        self.failing = 0
        self._lock = Lock()

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        with self._lock:
            if self.failing:
                self.failing -= 1
                raise DispatchError("the broker is down")
        return self.inner.dispatch(delivery, task_name)

    def revoke(self, task_name: str) -> None:
        self.inner.revoke(task_name)


class AsyncFailing:
    transactional = False

    def __init__(self, inner: Failing) -> None:
        self._inner = inner

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        return self._inner.dispatch(delivery, task_name)

    async def revoke(self, task_name: str) -> None:
        self._inner.revoke(task_name)


@dataclass
class Service:
    """A served service: the face to look behind, and the client's own calls, made like sync ones in each colour."""

    jobs: Jobs
    dispatcher: Failing
    client: BaseRetab
    call: Callable[[Any], Any]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *args, **options: self.call(lambda: getattr(self.client.jobs, name)(*args, **options))  # type: ignore[attr-defined]

    def run(self, handler: Callable[..., Any]) -> None:
        """Run what was dispatched."""
        while (delivery := self.dispatcher.inner.take()) is not None:
            run_job(self.jobs, delivery, handler)


@contextmanager
def _service(store: str, folder: Path, request: pytest.FixtureRequest) -> Generator[tuple[Jobs, Any, Failing]]:
    """The face to look behind, the one that is served, and their dispatcher."""
    dispatcher = Failing()
    if store in ("sqlite", "asyncpg"):
        url: URL | None = request.getfixturevalue("server") if store == "asyncpg" else None
        engine = sqlite_engine(folder) if url is None else engine_of(url)
        if url is not None:
            emptied(engine)
        repository = SQLAlchemyRepository(engine)
        repository.create_schema()
        jobs = Jobs(repository, dispatcher)
        yield jobs, jobs if url is None else _on_asyncpg(url, dispatcher), dispatcher
        engine.dispose()
        return
    memory = MemoryRepository()
    jobs = Jobs(memory, dispatcher)
    served = AsyncJobs(AsyncMemoryRepository(memory), AsyncFailing(dispatcher)) if store == "async-memory" else jobs
    yield jobs, served, dispatcher


def _on_asyncpg(url: URL, dispatcher: Failing) -> AsyncJobs:
    """Without a pool: its connections would belong to the loop of the server, which ends before they do."""
    engine = async_engine_of(url, "postgresql+asyncpg", poolclass=NullPool)
    return AsyncJobs(AsyncSQLAlchemyRepository(engine), AsyncFailing(dispatcher))


@contextmanager
def _client(colour: str, url: str, key: str = "key-a") -> Generator[tuple[BaseRetab, Callable[[Any], Any]]]:
    if colour == "sync":
        with Retab(api_key=key, base_url=f"{url}/v1") as client:
            yield client, lambda ask: ask()
        return
    with asyncio.Runner() as runner:
        other = AsyncRetab(api_key=key, base_url=f"{url}/v1")

        async def awaited(ask: Any) -> Any:
            answer = ask()
            return await answer if isawaitable(answer) else answer

        yield other, lambda ask: runner.run(awaited(ask))
        runner.run(other.close())


_ALL = [(store, colour) for store in ("memory", "async-memory", "sqlite", "asyncpg") for colour in ("sync", "async")]
_PLAIN = [("memory", "sync"), ("sqlite", "async")]


@pytest.fixture(
    params=[pytest.param(pair, marks=() if pair in _PLAIN else pytest.mark.full, id="-".join(pair)) for pair in _ALL]
)
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Service]:
    store, colour = request.param
    with (
        _service(store, tmp_path, request) as (jobs, served, dispatcher),
        serving(make_app(served)) as url,
        _client(colour, url) as (client, call),
    ):
        yield Service(jobs, dispatcher, client, call)


def _words(request: Any, context: Any) -> dict[str, int]:
    return {"pages": len(request["pages"])}


def _fail(request: Any, context: Any) -> None:
    raise JobFailed("bad_page", "page 2 cannot be read")


def test_a_job_is_created_retrieved_and_waited_for(service: Service) -> None:
    job = service.create(endpoint=ENDPOINT, request=REQUEST, metadata={"batch_id": "batch_001"})
    assert (job.status, job.request, job.metadata) == ("queued", REQUEST, {"batch_id": "batch_001"})
    light = service.retrieve(job.id)
    assert (light.status, light.request, light.response) == ("queued", None, None)
    polled = Event()

    def work() -> None:
        polled.wait()
        service.run(_words)

    worker = Thread(target=work)
    worker.start()
    calls = cast("Any", service.client).jobs
    retrieve = calls.retrieve

    def noted(*args: Any, **options: Any) -> Any:
        polled.set()
        return retrieve(*args, **options)

    calls.retrieve = noted
    done = service.wait_for_completion(job.id, poll_interval_seconds=0.01, timeout_seconds=30)
    worker.join()
    assert (done.status, done.request, done.response.body) == ("completed", None, {"pages": 2})
    full = service.retrieve_full(job.id)
    assert (full.request, full.response.status_code, full.response.body) == (REQUEST, 200, {"pages": 2})
    assert full.completed_at >= full.started_at >= full.created_at


def test_jobs_are_listed_by_filters_and_cursors(service: Service) -> None:
    ids = [service.create(endpoint=ENDPOINT, request=REQUEST, metadata={"page": str(page % 2)}).id for page in range(5)]
    service.cancel(ids[0])
    page = service.list(limit=2, include_request=True)
    assert ([job.id for job in page.data], page.has_more, page.data[0].request) == (ids[:2:-1], True, REQUEST)
    behind = service.list(limit=2, after=page.last_id)
    assert [job.id for job in behind.data] == [ids[2], ids[1]]
    assert [job.id for job in service.list(limit=2, before=behind.first_id).data] == ids[:2:-1]
    assert [job.id for job in service.list(status="cancelled").data] == ids[:1]
    assert [job.id for job in service.list(metadata={"page": "1"}, order="asc").data] == ids[1::2]
    assert [job.id for job in service.list(id=ids[3], endpoint=ENDPOINT, from_date="2020-01-01").data] == [ids[3]]
    assert service.list(to_date="2020-01-01").data == []


def test_a_job_is_cancelled_and_retried_and_refusals_have_their_codes(service: Service) -> None:
    job = service.create(endpoint=ENDPOINT, request=REQUEST)
    assert service.cancel(job.id).status == "cancelled"
    with pytest.raises(APIError) as refused:
        service.cancel(job.id)
    assert (refused.value.status_code, refused.value.code) == (400, "already_cancelled")
    assert "already cancelled" in refused.value.message
    retried = service.retry(job.id)
    assert (retried.status, retried.created_at, retried.request) == ("queued", job.created_at, REQUEST)
    with pytest.raises(NotFoundError) as unknown:
        service.retrieve("job_" + "-" * 21)
    assert unknown.value.code == "job_not_found"
    with pytest.raises(ValidationError) as invalid:
        service.create(endpoint=ENDPOINT, request=REQUEST, metadata={"k" * 65: "v"})
    assert (invalid.value.details or {})["errors"][0]["field"] == "metadata"


def test_a_failed_job_tells_why(service: Service) -> None:
    job = service.create(endpoint=ENDPOINT, request=REQUEST)
    service.run(_fail)
    failed = service.wait_for_completion(job.id, poll_interval_seconds=0.01)
    assert (failed.status, failed.error.code, failed.error.message) == ("failed", "bad_page", "page 2 cannot be read")


def test_a_retry_whose_first_two_dispatches_fail_is_resent_and_ends_as_one_run_with_one_dispatch(service: Service) -> None:
    job = service.create(endpoint=ENDPOINT, request=REQUEST)
    service.run(_fail)
    service.dispatcher.failing = 2
    retried = service.retry(job.id)
    assert (retried.id, retried.status, service.dispatcher.failing) == (job.id, "queued", 0)
    row: Job = service.jobs.retrieve(job.id)
    assert (row.status, row.run, row.dispatch_count, len(service.dispatcher.inner)) == ("queued", 2, 1, 1)
    service.run(_words)
    assert [str(record.event) for record in service.jobs.history(job.id)].count("retry") == 1
    assert (service.retrieve(job.id).status, service.jobs.retrieve(job.id).attempt_count) == ("completed", 2)


def test_a_retry_whose_dispatches_all_fail_says_so_in_the_references_words(service: Service) -> None:
    job = service.create(endpoint=ENDPOINT, request=REQUEST)
    service.cancel(job.id)
    service.client.max_retries = 1
    service.dispatcher.failing = 9
    with pytest.raises(InternalServerError) as delayed:
        service.retry(job.id)
    assert (delayed.value.status_code, delayed.value.message) == (503, "Retry queued; dispatch is delayed")
    row = service.jobs.retrieve(job.id)
    assert (row.status, row.run, row.dispatch_pending) == ("queued", 2, True)
