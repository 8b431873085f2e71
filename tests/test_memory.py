"""What the ports in memory keep, and what they hand out."""

from __future__ import annotations

import asyncio
from pathlib import Path

from jobstate import JobWarning
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.query import JobFilter, PageRequest
from tests.support import make_world

ALL, PAGE = JobFilter(), PageRequest(10, None)


def test_nothing_of_a_deleted_job_stays(tmp_path: Path) -> None:
    repository = MemoryRepository()
    with make_world("memory", tmp_path) as world:
        for key in (None, "inv-17"):
            job = world.create(idempotency_key=key)
            record = world.others.history(job.id)[0]
            row = world.row(job.id)
            repository.insert(row, record)
            assert repository.load(job.id, include_request=True).request is not None
            repository.delete(job.id, row.version)
    kept = {name: value for name, value in vars(repository).items() if name != "_lock"}
    assert all(not value for value in kept.values()), kept


def test_a_record_that_its_reader_changes_stays_as_it_was(tmp_path: Path) -> None:
    with make_world("memory", tmp_path) as world:
        job = world.create()
        world.others.history(job.id)[-1].changes["status"] = "lost"
        assert "lost" not in [record.changes.get("status") for record in world.others.history(job.id)]


def test_what_a_reader_changes_in_a_job_changes_no_row(tmp_path: Path) -> None:
    with make_world("memory", tmp_path) as world:
        job = world.create(metadata={"batch": "1"}, trace_context={"traceparent": "00-1"})
        read = world.row(job.id)
        assert read.trace_context is not None
        read.trace_context["traceparent"] = read.metadata["batch"] = "changed"
        again = world.row(job.id)
        assert (again.metadata, again.trace_context) == ({"batch": "1"}, {"traceparent": "00-1"})


def test_a_warning_that_its_reader_changes_stays_as_it_was(tmp_path: Path) -> None:
    with make_world("memory", tmp_path) as world:
        attempt = world.start(world.create())
        attempt.heartbeat(warnings=[JobWarning(code="blank", message="a page is blank", details={"page": 1})])
        read, kept = (
            world.row(attempt.job.id).warnings,
            (JobWarning(code="blank", message="a page is blank", details={"page": 1}),),
        )
        assert read is not None
        assert read[0].details is not None
        read[0].details["page"] = 2
        assert world.row(attempt.job.id).warnings == kept


def test_payloads_are_read_only_when_they_are_asked_for(tmp_path: Path) -> None:
    repository = AsyncMemoryRepository()
    with make_world("memory", tmp_path) as world:
        job = world.create()
        world.start(job).complete({"total": 1})
        row, record = world.row(job.id), world.others.history(job.id)[0]
    assert row.request is not None
    assert row.response is not None

    async def read() -> None:
        await repository.insert(row, record)
        for found in (await repository.load(row.id), (await repository.list(ALL, PAGE)).jobs[0]):
            assert (found.request, found.response) == (None, None)
        whole = await repository.list(ALL, PAGE, include_request=True, include_response=True)
        assert (whole.jobs[0].request, whole.jobs[0].response) == (row.request, row.response)

    asyncio.run(read())
