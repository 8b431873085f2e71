"""Many clients at once on one job, on a real server: one run, and no 5xx."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from httpx2 import AsyncClient, Limits

from jobstate import AsyncJobs, Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import AsyncMemoryDispatcher, AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from tests.sql import sqlite_engine
from tests.support import ENDPOINT, ORG, REQUEST
from tests.web import make_app, serving


async def _crowd(url: str, job_id: str, clients: int) -> Counter[tuple[str, int]]:
    """Each client polls, retries and polls again; how often each call had each status."""
    seen: Counter[tuple[str, int]] = Counter()
    limits = Limits(max_connections=clients)
    async with AsyncClient(base_url=url, headers={"Api-Key": "key-a"}, limits=limits, timeout=120) as client:

        async def one(number: int) -> None:
            for method, path in (("GET", ""), ("POST", "/retry"), ("GET", "/status"), ("POST", "/retry")):
                response = await client.request(method, f"/v1/jobs/{job_id}{path}")
                seen[method, response.status_code] += 1

        await asyncio.gather(*(one(number) for number in range(clients)))
    return seen


def _check(jobs: Jobs, served: Any, dispatcher: MemoryDispatcher, clients: int) -> None:
    job = jobs.create(ENDPOINT, REQUEST, organization_id=ORG)
    jobs.cancel(job.id)
    while dispatcher.take() is not None:
        pass
    with serving(make_app(served)) as url:
        seen = asyncio.run(_crowd(url, job.id, clients))
    assert seen == {("GET", 200): 2 * clients, ("POST", 200): 2 * clients}
    row = jobs.retrieve(job.id)
    assert (row.status, row.run) == ("queued", 2)
    assert [str(record.event) for record in jobs.history(job.id)].count("retry") == 1
    deliveries = {dispatcher.take() for _ in range(len(dispatcher))}
    assert deliveries == {row.delivery}  # at least once, and of this run only


def test_twohundred_clients_on_one_job_make_one_run() -> None:
    memory, dispatcher = MemoryRepository(), MemoryDispatcher()
    served = AsyncJobs(AsyncMemoryRepository(memory), AsyncMemoryDispatcher(dispatcher))
    _check(Jobs(memory, dispatcher), served, dispatcher, 200)


@pytest.mark.full
def test_and_on_sqlite_in_threads(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path)
    repository, dispatcher = SQLAlchemyRepository(engine), MemoryDispatcher()
    repository.create_schema()
    jobs = Jobs(repository, dispatcher)
    _check(jobs, jobs, dispatcher, 200)
    engine.dispose()
