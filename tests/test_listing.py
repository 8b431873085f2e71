"""Pages have no gaps and no overlaps, filters find what they say, and the history tells the truth."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args

import pytest

from jobstate import Event, HistoryRecord, InvalidInputError, Job, JobError, JobPage, JobResponse, JobStatus, JobWarning
from jobstate.face import Order
from jobstate.lifecycle import NOT_REPLAYED, replay
from jobstate.model import PAYLOADS, plain
from tests.support import ENDPOINT, NOW, REQUEST, World, make_world

PARSE = "/v1/documents/parse"
BAD = JobError(code="bad_page", message="page 2 cannot be read")
ORDERS: tuple[Order, ...] = get_args(Order)


def some(world: World, count: int) -> list[str]:
    """Ids of new jobs, oldest first."""
    ids: list[str] = []
    for _ in range(count):
        world.clock.advance(1)
        ids.append(world.create().id)
    return ids


def ids_of(page: JobPage[Any, Any]) -> list[str]:
    return [job.id for job in page.data]


def walk(
    world: World, order: Order, limit: int, place: Literal["after", "before"], meanwhile: Callable[[], object]
) -> list[str]:
    """All ids, page by page, forwards or backwards, in the order asked for."""
    found: list[str] = []
    cursor = None if place == "after" else ("job_" + ("-" if order == "desc" else "z") * 21)
    while True:
        page = world.ours.list(limit=limit, order=order, **{place: cursor})  # type: ignore[arg-type]
        assert len(page.data) == limit or not page.has_more
        found = found + ids_of(page) if place == "after" else ids_of(page) + found
        assert len(found) == len(set(found))
        if not page.has_more:
            return found
        cursor = page.last_id if place == "after" else page.first_id
        meanwhile()


@pytest.mark.parametrize("place", ["after", "before"])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 100])
def test_pages_meet_each_job_once(world: World, order: Order, limit: int, place: Literal["after", "before"]) -> None:
    ids = some(world, 6)
    assert walk(world, order, limit, place, lambda: None) == (ids if order == "asc" else ids[::-1])


@pytest.mark.parametrize("place", ["after", "before"])
@pytest.mark.parametrize("order", ORDERS)
def test_jobs_that_appear_meanwhile_make_no_gap_and_no_overlap(
    world: World, order: Order, place: Literal["after", "before"]
) -> None:
    ids = some(world, 7)
    added: list[str] = []
    found = walk(world, order, 2, place, lambda: added.extend(some(world, 1)) if len(added) < 3 else None)
    met_at_the_end = (order == "asc") == (place == "after")
    expected = ids + added if met_at_the_end else ids
    assert len(added) == 3
    assert found == (expected if order == "asc" else expected[::-1])


def test_jobs_of_one_second_are_in_the_order_of_their_ids(world: World) -> None:
    ids = sorted(world.create().id for _ in range(20))
    assert walk(world, "asc", 3, "after", lambda: None) == ids
    assert walk(world, "desc", 3, "after", lambda: None) == ids[::-1]


def test_a_page_before_a_job_has_those_nearest_to_it(world: World) -> None:
    ids = some(world, 5)
    assert ids_of(world.ours.list(order="asc", limit=2, before=ids[3])) == ids[1:3]
    assert ids_of(world.ours.list(order="desc", limit=2, before=ids[1])) == [ids[3], ids[2]]
    assert ids_of(world.ours.list(order="asc", limit=2, after=ids[1])) == ids[2:4]
    assert ids_of(world.ours.list(order="desc", limit=2, after=ids[3])) == [ids[2], ids[1]]


def test_a_page_tells_its_ends_and_whether_there_is_more(world: World) -> None:
    assert (world.ours.list().first_id, world.ours.list().last_id, world.ours.list().has_more) == (None, None, False)
    ids = some(world, 3)
    page = world.ours.list(limit=2)
    assert (page.first_id, page.last_id, page.has_more) == (ids[2], ids[1], True)
    page = world.ours.list(limit=3)
    assert (page.first_id, page.last_id, page.has_more) == (ids[2], ids[0], False)
    page = world.ours.list(limit=2, before=ids[0])
    assert (page.first_id, page.last_id, page.has_more) == (ids[2], ids[1], False)
    page = world.ours.list(limit=1, before=ids[0])
    assert (page.first_id, page.has_more) == (ids[1], True)
    assert not world.ours.list(limit=3, after=ids[0]).data


def test_a_page_has_a_limit(world: World) -> None:
    some(world, 21)
    assert len(world.ours.list().data) == 20
    assert len(world.ours.list(limit=1000).data) == 21
    wrong: list[Any] = [0, -1, 1001, 2.5, True, "3", None]
    for limit in wrong:
        with pytest.raises(InvalidInputError) as refused:
            world.ours.list(limit=limit)
        assert refused.value.field == "limit"
        assert "1 to 1000" in refused.value.problem


def test_a_page_lies_on_one_side_of_one_job(world: World) -> None:
    (job_id,) = some(world, 1)
    with pytest.raises(InvalidInputError) as refused:
        world.ours.list(after=job_id, before=job_id)
    assert refused.value.field == "before"
    order: Any = "up"
    with pytest.raises(InvalidInputError) as refused:
        world.ours.list(order=order)
    assert refused.value.field == "order"


METADATA: list[dict[str, str]] = [
    {},
    {"batch": "1"},
    {"batch": "1", "page": "2"},
    {"batch": "2"},
    {"Batch": "1"},
    {"batch": "1 "},
    {"a.b": "%", "é": "ü", "q\"uo'te": "[0]", "$": "_"},
    {"batch": ""},
]


def various(world: World) -> list[Job]:
    """Jobs that differ in all that a filter asks for, with payloads."""
    for number, metadata in enumerate(METADATA):
        world.clock.time = NOW + 10 * number
        world.ours.create([ENDPOINT, PARSE][number % 2], REQUEST, metadata=metadata)
    jobs = world.others.list(order="asc").data
    world.others.cancel(jobs[1].id)
    world.others.start(jobs[2].delivery)
    world.others.start(jobs[3].delivery).complete({"total": 1})
    world.others.start(jobs[4].delivery).fail(BAD)
    world.others.cancel(jobs[6].id)
    return [world.row(job.id) for job in jobs]


def searches(jobs: list[Job]) -> list[tuple[dict[str, Any], Callable[[Job], bool]]]:
    middle = NOW + 30
    moment = datetime.fromtimestamp(middle, UTC)
    ids = [jobs[0].id, jobs[5].id, "job_" + "x" * 21]
    return [
        ({}, lambda job: True),
        ({"status": "queued"}, lambda job: job.status == "queued"),
        ({"status": ["queued", JobStatus.FAILED]}, lambda job: job.status in ("queued", "failed")),
        ({"status": JobStatus.EXPIRED}, lambda job: False),
        ({"status": []}, lambda job: False),
        ({"endpoint": PARSE}, lambda job: job.endpoint == PARSE),
        ({"endpoint": PARSE.upper()}, lambda job: False),
        ({"ids": ids}, lambda job: job.id in ids),
        ({"ids": jobs[2].id}, lambda job: job.id == jobs[2].id),
        ({"ids": []}, lambda job: False),
        ({"created_from": middle}, lambda job: job.created_at >= middle),
        ({"created_to": middle}, lambda job: job.created_at < middle),
        ({"created_from": moment, "created_to": moment}, lambda job: False),
        ({"created_from": moment, "created_to": middle + 1}, lambda job: job.created_at == middle),
        ({"created_from": 0}, lambda job: True),
        ({"created_to": 0}, lambda job: False),
        *(({"metadata": asked}, lambda job, asked=asked: asked.items() <= job.metadata.items()) for asked in METADATA),
        ({"metadata": {"batch": "1", "page": "3"}}, lambda job: False),
        ({"metadata": {"batch": "2"}, "status": "completed", "endpoint": PARSE}, lambda job: job.metadata == {"batch": "2"}),
        ({"metadata": {"batch": "2"}, "status": "failed"}, lambda job: False),
        ({"status": None, "ids": None, "endpoint": None, "created_from": None, "metadata": None}, lambda job: True),
    ]


def test_a_filter_finds_all_that_it_says_and_count_agrees(world: World) -> None:
    jobs = various(world)
    assert {job.status for job in jobs} == set(JobStatus) - {JobStatus.VALIDATING, JobStatus.EXPIRED}
    wrong: list[dict[str, Any]] = []
    for conditions, holds in searches(jobs):
        expected = [job.id for job in jobs if holds(job)]
        found = ids_of(world.ours.list(order="asc", **conditions))
        if found != expected or world.ours.count(**conditions) != len(expected):
            wrong.append(conditions)
        if expected:
            page = world.ours.list(order="asc", limit=1, after=expected[0], **conditions)
            assert (ids_of(page), page.has_more) == (expected[1:2], len(expected) > 2), conditions
    assert wrong == []


@pytest.mark.parametrize(
    ("conditions", "field", "words"),
    [
        ({"status": "done"}, "status", "completed"),
        ({"status": ["queued", "done"]}, "status", "completed"),
        ({"created_from": datetime(2030, 1, 1)}, "created_from", "naive"),
        ({"created_to": -1}, "created_to", "0"),
        ({"created_to": "today"}, "created_to", "integer"),
        ({"metadata": {"batch": 1}}, "metadata.batch", "string"),
        ({"endpoint": ""}, "endpoint", "1 character"),
        ({"ids": [17]}, "ids.0", "string"),
    ],
)
def test_a_bad_filter_is_refused_by_its_name(world: World, conditions: dict[str, Any], field: str, words: str) -> None:
    for search in (world.ours.list, world.ours.count, world.ours.cancel_many):
        with pytest.raises(InvalidInputError) as refused:
            search(**conditions)
        assert refused.value.field.startswith(field)
        assert words in refused.value.problem
    with pytest.raises(TypeError, match="stattus"):
        world.ours.list(stattus="queued")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    assert world.repository.calls == []


def test_payloads_are_listed_only_when_they_are_asked_for(world: World) -> None:
    jobs = various(world)
    response = JobResponse[Any](body={"total": 1})
    for request in (True, False):
        for answer in (True, False):
            for job in world.ours.list(include_request=request, include_response=answer).data:
                assert job.request == (REQUEST if request else None)
                assert job.response == (response if answer and job.status is JobStatus.COMPLETED else None)
                shown = world.ours.retrieve(job.id, include_request=request, include_response=answer)
                assert shown == job
    assert ids_of(world.ours.list(order="asc")) == [job.id for job in jobs]


# History


def grown(world: World, job_id: str, records: int, event: str | None, act: Callable[[], object]) -> int:
    """Act; the history must have grown by one truthful record, or by none when `event` is None."""
    before = world.row(job_id)
    act()
    row = world.row(job_id)
    history = world.ours.history(job_id)
    assert row.version == before.version + 1
    assert len(history) == records + (event is not None)
    if event is not None:
        tells(history[-1], before, row, event)
    return len(history)


def tells(record: HistoryRecord, before: Job, row: Job, event: str) -> None:
    assert (record.event, record.source, record.target, record.version) == (event, before.status, row.status, row.version)
    assert (record.at, record.attempt, record.operation) == (row.updated_at, row.attempt_count, row.operation)
    assert record.changes.items() <= {name: plain(value) for name, value in row}.items()
    changed = {name for name, value in row if value != getattr(before, name)}
    assert changed - PAYLOADS <= record.changes.keys()
    assert not record.changes.keys() & PAYLOADS
    told = Job.model_validate({**before.model_dump(mode="json"), **record.changes})
    assert told.model_dump(exclude=set(PAYLOADS)) == row.model_dump(exclude=set(PAYLOADS))


def life(world: World) -> str:
    """A job's whole life, each save of it looked at."""
    job = world.create(validating=True)
    attempts: list[Any] = []

    def start() -> None:
        world.clock.advance(60)
        attempts.append(world.start(job))

    def later(step: timedelta, act: Callable[[], object]) -> None:
        world.clock.advance(step)
        act()

    steps: list[tuple[str | None, Callable[[], object]]] = [
        ("accept", lambda: world.jobs.accept(job.id, actor="ann", reason="fine")),
        ("start", start),
        (None, lambda: attempts[-1].heartbeat(0.5, warnings=[JobWarning(code="slow", message="it is slow")])),
        ("give_back", lambda: attempts[-1].give_back()),
        ("start", start),
        ("release", lambda: attempts[-1].fail(BAD, retryable=True)),
        ("start", start),
        ("rescue", lambda: later(timedelta(minutes=6), world.jobs.rescue)),
        ("start", start),
        ("fail", lambda: attempts[-1].fail(BAD)),
        ("retry", lambda: world.jobs.retry(job.id, retry_key="again")),
        ("cancel", lambda: world.jobs.cancel(job.id, actor="bob", reason="no need")),
        ("retry", lambda: world.jobs.retry(job.id)),
        ("start", start),
        ("complete", lambda: attempts[-1].complete({"total": 1})),
        ("expire", lambda: later(timedelta(days=7), world.jobs.expire)),
        ("begin_cleanup", lambda: later(timedelta(days=1), world.jobs.cleanup)),
        ("end_cleanup", lambda: later(timedelta(days=1), world.jobs.cleanup)),
    ]
    records = 1
    for event, act in steps:
        records = grown(world, job.id, records, event, act)
    return job.id


@pytest.mark.parametrize("kind", ["memory", "async-memory", "sqlite"])
def test_each_save_leaves_one_truthful_record_but_a_heartbeat(kind: str, tmp_path: Path) -> None:
    with make_world(kind, tmp_path, dispatcher=False) as world:
        job_id = life(world)
        history = list(world.ours.history(job_id))
        assert {str(record.event) for record in history} >= {"created", "give_back", "release", "rescue", "end_cleanup"}
        told, row = replay(history), world.row(job_id)
        assert told.model_dump(exclude=set(NOT_REPLAYED)) == row.model_dump(exclude=set(NOT_REPLAYED))
        assert [(record.event, record.actor, record.reason) for record in history if record.actor] == [
            (Event.ACCEPT, "ann", "fine"),
            (Event.CANCEL, "bob", "no need"),
        ]
        assert len({record.operation for record in history}) == len(history)
        for version in (0, 1, row.version // 2, row.version):
            assert world.ours.history(job_id, after_version=version) == [one for one in history if one.version > version]


def test_a_dispatch_leaves_no_record_and_a_refusal_none_either(world: World) -> None:
    job = world.create()
    assert world.row(job.id).version == 2
    world.ours.cancel(job.id)
    for refused in (world.ours.cancel, world.ours.accept):
        with pytest.raises(Exception, match="refused"):
            refused(job.id)
    assert [record.event for record in world.ours.history(job.id)] == ["created", Event.CANCEL]


def test_a_history_does_not_change_with_the_job_that_its_maker_holds(world: World) -> None:
    job = world.create(metadata={"batch": "1"}, trace_context={"traceparent": "00-1"})
    job.metadata["batch"] = "2"
    assert job.trace_context is not None
    job.trace_context["traceparent"] = "00-2"
    changes = world.ours.history(job.id)[0].changes
    assert (changes["metadata"], changes["trace_context"]) == ({"batch": "1"}, {"traceparent": "00-1"})
