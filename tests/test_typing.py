"""What a type checker sees. The checkers read this file in lint; running it shows that the types are also true."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

from pydantic import BaseModel

from jobstate import AsyncJobs, Attempt, Endpoint, Job, JobPage, Jobs
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository


class Extract(BaseModel):
    text: str


class Extracted(BaseModel):
    words: int


EXTRACT = Endpoint("/v1/documents/extract", request=Extract, response=Extracted)


def test_a_typed_endpoint_is_typed_from_creation_to_response() -> None:
    dispatcher = MemoryDispatcher()
    jobs = Jobs(MemoryRepository(), dispatcher)
    job = jobs.create(EXTRACT, Extract(text="a b"), organization_id="org")
    assert_type(job, Job[Extract, Extracted])
    delivery = dispatcher.take()
    assert delivery is not None
    attempt = jobs.start(delivery, EXTRACT)
    assert_type(attempt, Attempt[Extract, Extracted])
    assert_type(attempt.job.request, Extract | None)
    assert attempt.job.request == Extract(text="a b")
    done = attempt.complete(Extracted(words=2))
    assert_type(done, Job[Extract, Extracted])
    read = jobs.retrieve(job.id, EXTRACT, include_response=True)
    assert read.response is not None
    assert_type(read.response.body, Extracted)
    assert read.response.body == Extracted(words=2)


def test_a_bare_job_is_json() -> None:
    jobs = Jobs(MemoryRepository()).for_organization("org")
    assert_type(jobs, Jobs)
    job = jobs.create("/v1/x", {"a": 1})
    assert_type(job, Job[dict[str, Any], Any])
    assert_type(jobs.list(), JobPage[dict[str, Any], Any])
    assert type(job) is Job
    assert job.request == {"a": 1}


def test_the_async_face_is_typed_the_same() -> None:
    async def main() -> None:
        jobs = AsyncJobs(AsyncMemoryRepository())
        job = await jobs.create(EXTRACT, Extract(text="a"), organization_id="org")
        assert_type(job, Job[Extract, Extracted])
        assert job.request == Extract(text="a")
        bare = await jobs.retrieve(job.id)
        assert_type(bare, Job[dict[str, Any], Any])

    asyncio.run(main())
