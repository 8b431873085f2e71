"""What a hostile host, handler, engine or row brought to light: each fault once, each with its bound."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, NotRequired, cast

import pytest
from pydantic import AfterValidator, BaseModel
from sqlalchemy import text
from typing_extensions import TypedDict

from jobstate import (
    Accepted,
    AsyncJobs,
    BulkStoppedError,
    Context,
    Delivery,
    Endpoint,
    Event,
    InvalidInputError,
    JobError,
    JobFailed,
    Jobs,
    JobStatus,
    JobWarning,
    OutcomeUnknownError,
    Policy,
    RepositoryError,
    UnreadableJobError,
    decide,
    run_job,
)
from jobstate.flows import many
from jobstate.inprocess import AsyncioDispatcher, ThreadDispatcher
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from jobstate.testing import ManualClock
from jobstate.worker import RunFate
from tests.support import NOW, World, a_job, make_world


class First(BaseModel):
    a: int


class Second(BaseModel):
    b: int


class Shape(TypedDict):
    a: int
    b: NotRequired[str]


def _explode(value: int) -> int:
    raise KeyError("a bug of the host's") if value == 13 else ValueError("not this one")


class Exploding(BaseModel):
    a: Annotated[int, AfterValidator(lambda value: value if value < 10 else _explode(value))]


@pytest.fixture
def sqlite(tmp_path: Path) -> Any:
    with make_world("sqlite", tmp_path) as world:
        yield world


def _sql(world: World, words: str) -> None:
    with world.repository._inner._engine.begin() as connection:
        connection.execute(text(words))


def test_a_create_whose_answer_was_lost_says_nothing_else_afterwards(world: World) -> None:
    world.repository.lose("insert")
    world.repository.fail("insert", RepositoryError("the database failed, nothing was done"))
    with pytest.raises(OutcomeUnknownError):
        world.create()
    assert world.others.count() == 1


@pytest.mark.parametrize(
    ("kind", "request_", "typed"),
    [
        (Shape, {"a": 1}, {"a": 1}),
        (First | Second, {"b": 2}, Second(b=2)),
        (dict[str, First], {"x": {"a": 1}}, {"x": First(a=1)}),
        (dict[str, int], {"x": 1}, {"x": 1}),
        (First, First(a=3), First(a=3)),
    ],
)
def test_any_type_that_pydantic_reads_makes_the_whole_way(world: World, kind: Any, request_: Any, typed: Any) -> None:
    endpoint: Endpoint[Any, Any] = Endpoint("/x", request=kind, response=kind)
    job = world.ours.create(endpoint, request_)
    assert job.request == typed
    attempt = world.jobs.start(world.take(), endpoint)
    assert attempt.job.request == typed
    assert attempt.heartbeat(0.5).request == typed
    done = attempt.complete(typed)
    assert done.response is not None
    assert done.response.body == typed
    assert repr(endpoint).startswith("Endpoint('/x', ")


def test_a_type_that_raises_what_it_likes_is_an_invalid_input_before_anything_is_stored() -> None:
    jobs = Jobs(MemoryRepository())
    endpoint: Endpoint[Any, Any] = Endpoint("/x", request=Exploding, response=Exploding)
    for value, words in ((13, "a bug of the host's"), (14, "not this one")):
        with pytest.raises(InvalidInputError, match=words):
            jobs.create(endpoint, {"a": value}, organization_id="o")
    assert jobs.count() == 0


class LoudError(JobError, frozen=True):
    volume: int = 11


def test_an_error_is_stored_with_its_three_fields_only(world: World) -> None:
    job = world.create()
    world.start().fail(LoudError(code="x", message="m"))
    assert world.others.retrieve(job.id).error == JobError(code="x", message="m")


def test_details_that_no_store_could_read_back_are_refused(world: World) -> None:
    world.create()
    attempt = world.start()
    deep: Any = 0
    for _ in range(199):
        deep = [deep]
    with pytest.raises(ValueError, match="details"):
        JobError(code="x", message="m", details={"deep": deep})
    changed = JobError(code="x", message="m", details={"a": 1.0})
    assert changed.details is not None
    changed.details["a"] = float("nan")
    with pytest.raises(InvalidInputError, match="details"):
        attempt.fail(changed)
    with pytest.raises(InvalidInputError, match="code"):
        attempt.fail(changed.model_copy(update={"code": None}))
    assert attempt.heartbeat().status == "in_progress"


class Mumbling(MemoryDispatcher):
    name: Any = None

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        super().dispatch(delivery, task_name)
        return self.name  # type: ignore[no-any-return]  # what it should not say


@pytest.mark.parametrize("name", [None, 5, b"x", "\ud800", "", "a\0b", "x" * 2000])
def test_an_engine_without_a_decent_name_for_its_task_goes_by_ours(name: object) -> None:
    dispatcher = Mumbling()
    dispatcher.name = name
    jobs = Jobs(MemoryRepository(), dispatcher)
    made = [jobs.create("/x", {}, organization_id="o") for _ in range(3)]
    assert [job.task_name for job in made] == [f"{job.id}-1-1" for job in made]
    assert jobs.relay().moved == 0


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class InterruptingError(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


@pytest.mark.parametrize("fault", [MuteError(), InterruptingError(), ValueError("\ud800"), ValueError("x" * 100_000)])
def test_whatever_a_handler_raises_ends_the_attempt(fault: Exception) -> None:
    dispatcher = MemoryDispatcher()
    jobs = Jobs(MemoryRepository(), dispatcher)
    job = jobs.create("/x", {}, organization_id="o")

    def handle(request: Any, context: Any) -> None:
        raise fault

    assert run_job(jobs, job.delivery, handle, retry_exceptions=False).fate is RunFate.FAILED
    error = jobs.retrieve(job.id).error
    assert error is not None
    assert error.message.startswith(type(fault).__name__)
    assert len(error.message) < 11_000


@pytest.mark.parametrize(
    ("details", "stored"),
    [
        (None, None),
        ({"page": 2}, {"page": 2}),
        ({"mean": float("nan")}, "invalid_details"),
        ({"file": "\udce9"}, "invalid_details"),
        (cast("Any", 5), "invalid_details"),
    ],
)
def test_what_a_handler_says_keeps_its_code_whatever_its_words(details: Any, stored: Any) -> None:
    jobs = Jobs(MemoryRepository())
    job = jobs.create("/x", {}, organization_id="o")
    name = os.fsdecode(b"scan-\xe9.pdf")

    def handle(request: Any, context: Context) -> None:
        context.warn("odd_name", name, details)
        raise JobFailed("unreadable", f"{name} cannot be read", details)

    assert run_job(jobs, job.delivery, handle).fate is RunFate.FAILED
    row = jobs.retrieve(job.id)
    assert row.error is not None
    assert row.warnings is not None
    assert (row.error.code, row.error.message) == ("unreadable", "scan-\\udce9.pdf cannot be read")
    assert (row.warnings[0].code, row.warnings[0].message) == ("odd_name", "scan-\\udce9.pdf")
    for told in (row.error.details, row.warnings[0].details):
        assert told == stored or (told is not None and list(told) == [stored])


@pytest.mark.parametrize(("code", "message", "field"), [("", "m", "code"), ("\udce9", "m", "code"), ("c", 5, "message")])
def test_what_a_handler_cannot_say_is_named(code: str, message: Any, field: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        JobFailed(code, message)
    assert caught.value.field == field


class Unreadable(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no items")


class Unshown:
    def __repr__(self) -> str:
        raise ValueError("no words")


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        ({"a": [Unreadable(b=1)]}, "a[0]", "Unreadable cannot be read (no items): give a dict"),
        ({"a": {Unshown(): 1}}, "a", "key Unshown is Unshown"),
        ({"a": {10**5000: 1}}, "a", "key int is int"),
        ({"a": 10**4300}, "a", "more than 4300 digits"),
    ],
)
def test_what_raises_when_it_is_read_is_named_by_its_place_and_ends_the_attempt(value: Any, place: str, words: str) -> None:
    jobs = Jobs(MemoryRepository())
    with pytest.raises(InvalidInputError) as caught:
        jobs.create("/x", value, organization_id="o")
    assert caught.value.field == f"request.{place}"
    assert words in caught.value.problem
    job = jobs.create("/x", {"longest": 10**4300 - 1}, organization_id="o")
    assert run_job(jobs, job.delivery, lambda request, context: value).fate is RunFate.FAILED
    error = jobs.retrieve(job.id).error
    assert error is not None
    assert error.code == "invalid_result"
    assert f"response.{place}: " in error.message


def test_a_job_that_may_start_once_is_not_started_again_when_its_worker_stops() -> None:
    jobs = Jobs(MemoryRepository(), policy=Policy(max_attempts=1, max_give_backs=0))
    job = jobs.create("/x", {}, organization_id="o")

    def handle(request: Any, context: Context) -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        run_job(jobs, job.delivery, handle)
    row = jobs.retrieve(job.id)
    assert (row.status, row.attempt_count, row.last_failure_code) == ("failed", 1, "given_back_too_often")


def test_another_jobs_lost_lease_is_a_failure_of_this_handler() -> None:
    jobs = Jobs(MemoryRepository())
    first, second = (jobs.create("/x", {}, organization_id="o") for _ in range(2))
    other = jobs.start(first.delivery)
    jobs.cancel(first.id)
    result = run_job(jobs, second.delivery, lambda request, context: other.heartbeat(), retry_exceptions=False)
    assert (result.fate, jobs.retrieve(second.id).status) == (RunFate.FAILED, "failed")


@pytest.mark.parametrize(
    "damage",
    ["status = 'paused'", "metadata = '{'", "updated_at = 'abc'", "version = 'abc'", "error = '[]'", "expires_at = 'soon'"],
)
def test_a_damaged_row_is_named_and_stops_no_sweep_and_no_bulk_command(sqlite: World, damage: str) -> None:
    jobs = [sqlite.create() for _ in range(3)]
    _sql(sqlite, f"UPDATE jobstate_jobs SET {damage} WHERE id = '{jobs[1].id}'")
    with pytest.raises(UnreadableJobError, match=jobs[1].id):
        sqlite.ours.retrieve(jobs[1].id)
    with pytest.raises(UnreadableJobError, match=jobs[1].id):
        sqlite.ours.list()
    outcomes = {outcome.job_id: outcome for outcome in sqlite.ours.cancel_many(ids=[job.id for job in jobs])}
    assert {job_id: outcome.fate for job_id, outcome in outcomes.items()} == {
        jobs[0].id: "moved",
        jobs[1].id: "refused",
        jobs[2].id: "moved",
    }
    assert isinstance(outcomes[jobs[1].id].error, UnreadableJobError)
    sqlite.clock.advance(timedelta(days=8))
    assert sqlite.jobs.sweep().expire.moved == 2


def test_a_bulk_command_that_is_stopped_tells_what_it_did(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many, "PAGE", 2)
    jobs = [world.create() for _ in range(4)]
    world.repository.fail("list", ConnectionError("no route"), skip=1)
    with pytest.raises(BulkStoppedError, match="no route") as caught:
        world.ours.cancel_many(status="queued")
    assert set(caught.value.outcomes) == {(job.id, "moved") for job in jobs if world.row(job.id).status == "cancelled"}
    assert len(caught.value.outcomes) == 2
    assert [outcome.fate for outcome in world.ours.cancel_many(status="queued")] == ["moved"] * 2


def test_the_margin_covers_what_whole_seconds_cut_off(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, Policy(lease=timedelta(seconds=1), clock_skew=timedelta(seconds=1))) as world:
        world.clock.time = NOW + 0.95
        world.create()
        attempt = world.start()
        world.clock.time = NOW + 1.94
        assert world.jobs.rescue().moved == 0
        assert attempt.heartbeat().status == "in_progress"


def test_a_run_that_waits_is_not_queued_twice_by_the_relay() -> None:
    clock = ManualClock()
    dispatcher = ThreadDispatcher(limit=25, clock=clock)
    jobs = Jobs(MemoryRepository(), dispatcher, clock=clock)
    made = [jobs.create("/x", {}, organization_id="o") for _ in range(10)]
    for _ in range(5):
        clock.advance(timedelta(minutes=16))
        assert jobs.relay().moved == 10
    assert len(dispatcher._waiting) == 10
    assert not jobs.create("/x", {}, organization_id="o").dispatch_pending
    assert len({job.id for job in made}) == 10


def test_a_delivery_of_the_far_future_stops_no_thread() -> None:
    dispatcher = ThreadDispatcher(workers=1)
    jobs = Jobs(MemoryRepository(), dispatcher)
    far = jobs.create("/x", {}, organization_id="o", available_at=253_402_300_799)
    with dispatcher.running(jobs, lambda request, context: None, grace=5):
        dispatcher.dispatch(far.delivery, "far")
        job = jobs.create("/x", {}, organization_id="o")
        assert _soon(lambda: jobs.retrieve(job.id).status == "completed", dispatcher)
    assert dispatcher.join(5)


def _soon(condition: Callable[[], bool], dispatcher: ThreadDispatcher) -> bool:
    with dispatcher._crew.changed:
        return dispatcher._crew.changed.wait_for(condition, 10)


def test_who_joins_an_asyncio_dispatcher_is_told_when_it_stops() -> None:
    async def main() -> None:
        dispatcher = AsyncioDispatcher(workers=1)
        jobs = AsyncJobs(AsyncMemoryRepository(), dispatcher)
        began = asyncio.Event()

        async def handle(request: Any, context: Any) -> None:
            began.set()
            await asyncio.Event().wait()

        dispatcher.start(jobs, handle)
        made = [await jobs.create("/x", {}, organization_id="o") for _ in range(2)]
        await began.wait()
        joiner = asyncio.create_task(dispatcher.join())
        await dispatcher.stop(grace=0)
        await asyncio.wait_for(joiner, 5)
        assert [(await jobs.retrieve(job.id)).status for job in made] == ["queued"] * 2

    asyncio.run(main())


def test_a_conflict_does_not_read_the_request_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    load = MemoryRepository.load

    def watched(self: MemoryRepository, job_id: str, **options: Any) -> Any:
        asked.append(options["include_request"])
        return load(self, job_id, **options)

    monkeypatch.setattr(MemoryRepository, "load", watched)
    jobs = Jobs(MemoryRepository())
    job = jobs.create("/x", {"a": 1}, organization_id="o")
    attempt = jobs.start(job.delivery)
    again = type(attempt)(attempt._ports, attempt._scope, attempt._hold, None)
    again.heartbeat(0.2)
    assert attempt.heartbeat(0.5).request == {"a": 1}
    assert asked == [True, False]


def test_warnings_of_a_released_attempt_are_kept(world: World) -> None:
    job = world.create()
    warning = JobWarning(code="blurred", message="page 2 is hard to read")
    world.start().fail(JobError(code="x", message="m"), retryable=True, warnings=[warning])
    assert (world.row(job.id).status, world.row(job.id).warnings) == ("queued", (warning,))


CALLS: list[tuple[Callable[[Any], object], str]] = [
    (lambda jobs: jobs.list(status=5), "status"),
    (lambda jobs: jobs.list(ids=5), "ids"),
    (lambda jobs: jobs.list(metadata="abc"), "metadata"),
    (lambda jobs: jobs.list(ids=["job_" + "0" * 21] * 10_001), "ids"),
    (lambda jobs: jobs.create([], {}), "endpoint"),
    (lambda jobs: jobs.create("/x", {}, actor=b"adm"), "actor"),
    (lambda jobs: jobs.create("/x", {}, idempotency_key=b"k"), "idempotency_key"),
    (lambda jobs: jobs.retrieve("job_" + "0" * 21, "/x"), "endpoint"),
    (lambda jobs: jobs.retrieve("job_" + "0" * 21, include_request=[]), "include_request"),
    (lambda jobs: jobs.history("job_" + "0" * 21, after_version=10**30), "after_version"),
    (lambda jobs: jobs.start("job"), "delivery"),
    (lambda jobs: Jobs(MemoryRepository(), policy=cast("Any", {"ttl": 1})), "policy"),
    (lambda jobs: Jobs(MemoryRepository(), endpoints=cast("Any", ["/x"])), "endpoints"),
]


@pytest.mark.parametrize(("call", "field"), CALLS)
def test_a_wrong_argument_is_refused_by_its_name(call: Callable[[Any], object], field: str) -> None:
    jobs = Jobs(MemoryRepository())
    with pytest.raises(InvalidInputError) as caught:
        call(jobs.for_organization("org"))
    assert caught.value.field.split(".")[0] == field
    assert jobs.count() == 0


@pytest.mark.parametrize(
    ("facts", "field"),
    [({"progress": 7.0}, "progress"), ({"progress": float("nan")}, "progress"), ({"retry_key": ""}, "retry_key")],
)
def test_the_pure_core_refuses_what_no_job_can_hold(facts: Any, field: str) -> None:
    event = Event.RETRY if field == "retry_key" else Event.HEARTBEAT
    with pytest.raises(InvalidInputError) as caught:
        decide(a_job(status=JobStatus.FAILED), event, NOW, token="t", **facts)
    assert caught.value.field == field


def test_a_retry_key_is_as_long_as_a_name_may_be() -> None:
    job = a_job(status=JobStatus.FAILED)
    assert isinstance(decide(job, Event.RETRY, NOW, retry_key="k" * 255), Accepted)
    with pytest.raises(InvalidInputError, match="1 to 255"):
        decide(job, Event.RETRY, NOW, retry_key="k" * 256)
