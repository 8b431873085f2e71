"""Data URLs over the limit stand in the artifact store, and nobody who asks for a request can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from jobstate import (
    ArtifactConflictError,
    ArtifactError,
    ArtifactNotFoundError,
    Endpoint,
    GuardRefusedError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidInputError,
    Job,
    Jobs,
    JobStatus,
    JobWarning,
    Policy,
    run_job,
)
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.effects import Load
from jobstate.flows import reading
from jobstate.memory import MemoryArtifactStore, MemoryRepository
from jobstate.model import Event
from jobstate.parts import REFERENCE, cut, part_name, part_prefix, parts_in, put_back
from jobstate.worker import RunFate
from tests.sql import sqlite_engine
from tests.support import ENDPOINT, Actor, World, make_world

LIMIT = 100
POLICY = Policy(inline_limit=LIMIT)
SMALL = "data:text/plain,small"
LARGE = "data:application/pdf;base64," + "QUJD" * 100
ODD = 'DATA:;x="a b";Base64,QUJ\n D==/€' + "-_" * 100
REQUEST: dict[str, Any] = {
    "z": 1,
    "document": {"url": LARGE, "small": SMALL, "words": "w" * 500},
    "pages": [None, ODD, [LARGE, 1.5, {"a": True}]],
}
WEEK, DAY = timedelta(days=7), timedelta(days=1)


@pytest.fixture(params=["memory", "async-memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with make_world(request.param, tmp_path, POLICY) as made:
        yield made


def created(world: World, request: Any = REQUEST, **options: Any) -> Job:
    return world.ours.create(ENDPOINT, request, **options)


def stored(world: World, job: Job) -> dict[str, Any]:
    """The request as it stands in the row."""
    request = world.row(job.id).request
    assert request is not None
    return request


def warned(job: Job[Any, Any]) -> list[tuple[str, Any]]:
    return [(warning.code, warning.details) for warning in job.warnings or ()]


# Pure


strings = st.text(max_size=5) | st.builds("data:,{}".format, st.text(max_size=5)) | st.sampled_from([SMALL, LARGE, ODD])
leaves = st.none() | st.booleans() | st.integers() | strings | st.builds((REFERENCE + "{}").format, st.text(max_size=3))
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(strings, inner), max_leaves=15)


@given(st.dictionaries(strings, values), st.integers(0, 40))
def test_what_is_cut_out_comes_back_as_it_was(request: dict[str, Any], limit: int) -> None:
    before = repr(request)
    stored, parts = cut(request, limit)
    assert repr(put_back(stored, parts)) == before
    assert dict(parts_in(request, parts)) == parts
    assert repr(request) == before
    assert all(len(data) > limit for data in parts.values())


@given(st.dictionaries(strings, values))
def test_nothing_over_the_limit_stays(request: dict[str, Any]) -> None:
    stored, parts = cut(request, LIMIT)
    assert cut(stored, LIMIT) == (stored, {})
    assert (stored == request) is (not parts)


def test_without_a_limit_the_request_is_not_looked_at() -> None:
    unread = cast("Any", object())
    assert cut(unread, None) == (unread, {})


@pytest.mark.parametrize(
    ("text", "taken"), [("data:," + "x" * 94, False), ("data:," + "x" * 95, True), ("data:,€€" + "x" * 89, True)]
)
def test_the_limit_is_in_bytes_and_belongs_to_what_stays(text: str, taken: bool) -> None:
    assert bool(cut({"a": text}, LIMIT).parts) is taken


@pytest.mark.parametrize("text", ["x" * 500, "data:" + "x" * 500, " " + LARGE, "http:" + LARGE])
def test_what_is_no_data_url_stays(text: str) -> None:
    assert cut({"a": text, LARGE: 1}, LIMIT) == ({"a": text, LARGE: 1}, {})


def test_places_that_read_alike_have_names_that_differ() -> None:
    places: list[tuple[str | int, ...]] = [("a", "b"), ("a.b",), ("a/b",), ("a", 0), ("a", "0"), ("a",), ("a", "b", 0)]
    assert len({part_name(place) for place in places}) == len(places)


def test_a_reference_counts_at_its_own_place_only() -> None:
    stored, parts = cut({"a": LARGE}, LIMIT)
    reference = stored["a"]
    assert put_back({"a": reference, "b": reference, "c": [reference]}, parts) == {"a": LARGE, "b": reference, "c": [reference]}


# The service


def test_the_row_has_references_and_every_answer_the_whole_request(world: World) -> None:
    job = created(world, idempotency_key="k")
    request = stored(world, job)
    assert request["document"]["url"].startswith(REFERENCE)
    assert (request["document"]["small"], request["document"]["words"]) == (SMALL, "w" * 500)
    assert len(str(request)) < 1200
    assert len(world.row(job.id).request_artifacts or ()) == len(world.artifacts.keys()) == 3
    assert job.status is JobStatus.QUEUED
    (listed,) = world.ours.list(include_request=True).data
    again = created(world, idempotency_key="k")
    found = world.ours.retrieve(job.id, include_request=True)
    attempt = world.start()
    for answer in (job, listed, again, found, attempt.job, attempt.heartbeat()):
        assert answer.request == REQUEST
        assert answer.warnings is None
    attempt.complete(1)
    assert world.ours.retrieve(job.id).request is None


def test_a_command_answers_with_the_whole_request_when_it_is_asked_to(world: World) -> None:
    job = created(world)
    assert world.ours.cancel(job.id, include_request=True).request == REQUEST
    assert world.ours.retry(job.id, include_request=True).request == REQUEST
    assert world.ours.cancel(job.id).request is None


def test_a_request_below_the_limit_asks_no_store(world: World) -> None:
    small = {"a": SMALL}
    job = created(world, small)
    assert world.ours.retrieve(job.id, include_request=True).request == small
    assert world.start().job.request == small
    assert world.artifacts.calls == []
    assert world.row(job.id).request_artifacts is None


def test_polling_a_job_that_was_cut_asks_no_store(world: World) -> None:
    job = created(world)
    world.artifacts.calls.clear()
    world.ours.retrieve(job.id)
    world.ours.list()
    assert world.artifacts.calls == []


def test_parts_stand_beside_the_artifacts_that_were_given(world: World) -> None:
    name = part_name(("document", "url"))
    job = created(world, artifacts={name: b"theirs", "scan": b"scan"})
    attempt = world.start()
    assert (attempt.artifact(name), attempt.artifact("scan")) == (b"theirs", b"scan")
    assert attempt.job.request == REQUEST
    assert len(world.row(job.id).request_artifacts or ()) == 5


def test_a_callers_own_reference_is_a_string_like_any_other(world: World) -> None:
    """Also with an artifact of that name, and also where another place was cut."""
    name = part_name(("a",))
    forged = {"a": REFERENCE + name, "b": REFERENCE + name, "c": LARGE}
    job = created(world, forged, artifacts={name: b"data:,forged"})
    assert stored(world, job)["a"] == REFERENCE + name
    assert world.ours.retrieve(job.id, include_request=True).request == forged
    assert world.start().job.request == forged


def test_the_idempotency_key_is_of_the_request_as_it_came(world: World) -> None:
    job = created(world, {"a": LARGE}, idempotency_key="k")
    assert created(world, {"a": LARGE}, idempotency_key="k").id == job.id
    for other in (LARGE + "A", stored(world, job)["a"]):
        with pytest.raises(IdempotencyConflictError):
            created(world, {"a": other}, idempotency_key="k")


@pytest.mark.parametrize("limit", [None, 0, 10**6])
def test_a_limit_that_moved_changes_no_job(world: World, limit: int | None) -> None:
    """The first create put nothing and died; the second one, under another limit, puts what the row has cut out."""
    world.artifacts.fail("put", OSError("the store is down"))
    with pytest.raises(ArtifactError):
        created(world, idempotency_key="k")
    ports = world.others._ports
    moved = Jobs(
        ports.repository,
        ports.dispatcher,
        policy=Policy(inline_limit=limit),
        artifacts=ports.artifacts,
        clock=world.clock,
    )
    job = moved.for_organization(world.organization).create(ENDPOINT, REQUEST, idempotency_key="k")
    assert (job.status, job.request) == (JobStatus.QUEUED, REQUEST)
    assert moved.retrieve(job.id, include_request=True).request == REQUEST
    assert world.start().job.request == REQUEST


def test_a_part_that_is_gone_is_told_by_a_warning(world: World) -> None:
    job = created(world)
    lost = f"{part_prefix(job.id)}{part_name(('document', 'url'))}"
    world.others._ports.artifacts.delete(lost)
    (listed,) = world.ours.list(include_request=True).data
    for found in (world.ours.retrieve(job.id, include_request=True), listed, world.ours.cancel(job.id, include_request=True)):
        request = found.request or {}
        assert request["document"]["url"] == REFERENCE + part_name(("document", "url"))
        assert request["pages"] == REQUEST["pages"]
        assert warned(found) == [("restore_failed", {"artifacts": [part_name(("document", "url"))]})]
    assert world.ours.retrieve(job.id).warnings is None
    assert world.row(job.id).warnings is None


def test_a_part_that_is_gone_is_told_beside_the_warnings_of_the_job(world: World) -> None:
    job = created(world)
    world.start().heartbeat(warnings=[JobWarning(code="low_contrast", message="Page 2 is hard to read.")])
    world.others._ports.artifacts.delete(part_prefix(job.id))
    found = world.ours.retrieve(job.id, include_request=True)
    assert [code for code, _ in warned(found)] == ["low_contrast", "restore_failed"]


def test_without_a_store_none_is_asked_for_parts(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, POLICY) as world:
        job = created(world)
        bare = Jobs(world.others._ports.repository, clock=world.clock)
        shown = reading.retrieve(bare._scope, job.id, include_request=True, include_response=False)
        reader = Actor(shown, bare._ports)
        while reader.effect is not None:
            assert isinstance(reader.effect, Load)
            reader.step()


@pytest.mark.parametrize("error", [OSError("down"), ArtifactNotFoundError("key"), None])
def test_a_store_that_is_down_delays_a_start_and_costs_no_attempt(world: World, error: Exception | None) -> None:
    """Or one whose bytes are not those that were put."""
    job = created(world)
    before = world.row(job.id)
    delivery = world.take()
    if error is None:
        world.others._ports.artifacts._data[part_prefix(job.id) + part_name(("document", "url"))] += b"x"
    else:
        world.artifacts.fail("get", error)
    with pytest.raises(ArtifactError) as caught:
        world.jobs.start(delivery)
    assert caught.value.key.startswith("key" if isinstance(error, ArtifactNotFoundError) else part_prefix(job.id))
    assert world.row(job.id) == before
    if error is not None:
        assert world.jobs.start(delivery).job.request == REQUEST


def test_a_worker_gives_the_delivery_back_and_runs_it_once_the_store_is_up(tmp_path: Path) -> None:
    with make_world("memory", tmp_path, POLICY) as world:
        job = created(world)
        delivery = world.take()
        seen: list[Any] = []
        world.artifacts.fail("get", OSError("down"))
        assert run_job(world.jobs, delivery, lambda request, context: seen.append(request)).fate is RunFate.RETURNED
        assert seen == []
        assert run_job(world.jobs, delivery, lambda request, context: seen.append(request)).fate is RunFate.COMPLETED
        assert seen == [REQUEST]
        assert world.row(job.id).attempt_count == 1


def test_a_start_that_finds_parts_gone_asks_the_job_before_it_blames_the_store(world: World) -> None:
    job = created(world)
    delivery = world.take()

    def clean() -> None:
        world.clock.advance(WEEK + DAY)
        world.others.sweep()
        assert world.others._ports.artifacts.keys() == []

    world.repository.then("load", clean)
    with pytest.raises(IllegalTransitionError) as refused:
        world.jobs.start(delivery)
    assert refused.value.status == JobStatus.EXPIRED
    assert world.row(job.id).attempt_count == 0


def test_a_worker_without_a_store_starts_nothing_that_was_cut(world: World) -> None:
    job = created(world)
    bare = Jobs(world.others._ports.repository, clock=world.clock)
    with pytest.raises(InvalidInputError, match="no artifact store"):
        bare.start(world.take())
    found = bare.retrieve(job.id, include_request=True)
    assert [code for code, _ in warned(found)] == ["restore_failed"]
    assert found.request == world.row(job.id).request
    delivery = world.row(job.id).delivery
    world.ours.cancel(job.id)
    with pytest.raises(IllegalTransitionError):
        bare.start(delivery)


def test_a_limit_without_a_store_is_refused_when_it_is_given() -> None:
    with pytest.raises(InvalidInputError, match="inline_limit"):
        Jobs(MemoryRepository(), policy=POLICY)


def test_in_the_hosts_transaction_all_stays_in_the_row(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path)
    repository, store = SQLAlchemyRepository(engine), MemoryArtifactStore()
    repository.create_schema()
    ours = Jobs(repository, policy=POLICY, artifacts=store).for_organization("org")
    with engine.begin() as connection:
        job = ours.bind(connection).create(ENDPOINT, REQUEST)
    assert repository.load(job.id, include_request=True).request == REQUEST
    assert ours.retrieve(job.id, include_request=True).request == REQUEST
    assert store.keys() == []
    engine.dispose()


def test_other_bytes_under_a_parts_key_are_refused(world: World) -> None:
    world.artifacts.fail("put", ArtifactConflictError("key"))
    with pytest.raises(ArtifactConflictError):
        created(world)


class Document(BaseModel):
    url: str = Field(pattern="^data:application/pdf;base64,[A-Z]+=*$", alias="document_url")


TYPED = Endpoint("/v1/typed", request=Document, response=int)


def test_a_typed_endpoint_sees_the_whole_request(world: World) -> None:
    with pytest.raises(InvalidInputError, match="document_url"):
        world.ours.create(TYPED, cast("Any", {"document_url": LARGE + "?"}))
    whole = Document(document_url=LARGE)
    job = world.ours.create(TYPED, whole)
    assert job.request == whole
    assert world.ours.retrieve(job.id, TYPED, include_request=True).request == whole
    assert world.jobs.start(world.take(), TYPED).job.request == whole
    assert world.row(job.id).request == {"document_url": REFERENCE + part_name(("document_url",))}


def test_a_reference_that_is_not_of_the_type_leaves_the_request_out(world: World) -> None:
    job = world.ours.create(TYPED, Document(document_url=LARGE))
    world.others._ports.artifacts.delete(f"{job.id}/")
    found = world.ours.retrieve(job.id, TYPED, include_request=True)
    assert found.request is None
    assert [code for code, _ in warned(found)] == ["restore_failed"]


# Killed, retried, cleaned


@pytest.fixture(params=["memory", "sqlite"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], World]]:
    numbers = count()
    with ExitStack() as stack:

        def make() -> World:
            folder = tmp_path / str(next(numbers))
            folder.mkdir()
            return stack.enter_context(make_world(request.param, folder, POLICY))

        yield make


def killed_creates(fresh: Callable[[], World]) -> Iterator[World]:
    """A world for each effect of a create, in which it was killed right before."""
    for point in count():
        world = fresh()
        faces = world.others.for_organization(world.organization)
        actor = Actor(faces._create(ENDPOINT, REQUEST, {"idempotency_key": "k"}), world.others._ports)
        for _ in range(point):
            actor.step()
        ended = actor.effect is None
        actor.flow.close()
        yield world
        if ended:
            assert point > 8
            return


def test_a_create_killed_anywhere_is_finished_by_a_second_one_with_its_key(fresh: Callable[[], World]) -> None:
    for world in killed_creates(fresh):
        job = created(world, idempotency_key="k")
        assert (job.status, job.request) == (JobStatus.QUEUED, REQUEST)
        assert world.start(job).job.request == REQUEST
        assert world.row(job.id).run == 1


def test_nothing_is_left_of_a_create_that_was_killed_anywhere(fresh: Callable[[], World]) -> None:
    for world in killed_creates(fresh):
        world.clock.advance(WEEK + DAY)
        for _ in range(2):
            world.others.sweep()
            world.clock.advance(timedelta(minutes=6))
        assert world.artifacts.keys() == []
        for job in world.others.list(include_request=True).data:
            assert (job.request, job.request_artifacts, job.warnings) == (None, None, None)
            assert world.row(job.id).cleanup_completed_at is not None


def test_a_retry_finds_the_whole_request_until_clean_up_begins(world: World) -> None:
    job = created(world)
    world.start().complete(1)
    world.clock.advance(WEEK + DAY - timedelta(seconds=1))
    world.jobs.expire()
    assert world.ours.retry(job.id, include_request=True).request == REQUEST
    assert world.start(job).job.request == REQUEST
    world.others.cancel(job.id)
    world.clock.advance(WEEK + DAY)
    world.others.sweep()
    with pytest.raises(GuardRefusedError, match="cleaned_up"):
        world.ours.retry(job.id)
    assert world.artifacts.keys() == []
    events = [record.event for record in world.others.history(job.id)]
    assert events.count(Event.RETRY) == 1
