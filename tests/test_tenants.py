"""What belongs to one organization does not exist for another: not seen, not touched, not betrayed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobstate import Delivery, HistoryRecord, InvalidInputError, Job, JobError, JobNotFoundError, Jobs, JobstateError, JobStatus
from jobstate.memory import MemoryRepository
from tests.support import ENDPOINT, ORG, REQUEST, World, make_world

OTHER = "org_b"
BAD = JobError(code="bad_page", message="page 2 cannot be read")
UNKNOWN = "job_" + "-" * 21

Command = Callable[[Jobs, str], object]

COMMANDS: dict[str, Command] = {
    "retrieve": lambda jobs, job_id: jobs.retrieve(job_id),
    "retrieve all": lambda jobs, job_id: jobs.retrieve(job_id, include_request=True, include_response=True),
    "history": lambda jobs, job_id: jobs.history(job_id),
    "accept": lambda jobs, job_id: jobs.accept(job_id),
    "reject": lambda jobs, job_id: jobs.reject(job_id, BAD),
    "cancel": lambda jobs, job_id: jobs.cancel(job_id, include_request=True),
    "retry": lambda jobs, job_id: jobs.retry(job_id, include_request=True),
    "retry under a key": lambda jobs, job_id: jobs.retry(job_id, retry_key="again"),
    "start": lambda jobs, job_id: jobs.start(Delivery(job_id=job_id, run=1)),
}

BULK: dict[str, Callable[[Jobs, Any], Any]] = {
    "cancel": lambda jobs, conditions: jobs.cancel_many(**conditions),
    "retry": lambda jobs, conditions: jobs.retry_many(**conditions),
    "dry cancel": lambda jobs, conditions: jobs.cancel_many(dry_run=True, **conditions),
    "dry retry": lambda jobs, conditions: jobs.retry_many(dry_run=True, **conditions),
}


def theirs(world: World) -> Jobs:
    return world.jobs.for_organization(OTHER)


def one_in_each_status(world: World, organization_id: str) -> dict[JobStatus, Job]:
    """Jobs of an organization, with payloads, artifacts, keys and metadata."""
    face = world.others.for_organization(organization_id)
    made: dict[JobStatus, Job] = {}
    for status in (JobStatus.EXPIRED, *(status for status in JobStatus if status is not JobStatus.EXPIRED)):
        options: dict[str, Any] = {"metadata": {"batch": "1"}, "idempotency_key": status.value}
        if status is JobStatus.VALIDATING:
            made[status] = face.create(ENDPOINT, REQUEST, validating=True, **options)
            continue
        job = made[status] = face.create(ENDPOINT, REQUEST, artifacts={"scan.pdf": b"scan"}, **options)
        if status in (JobStatus.IN_PROGRESS, JobStatus.COMPLETED, JobStatus.FAILED):
            attempt = face.start(job.delivery)
            if status is JobStatus.COMPLETED:
                attempt.complete({"total": 1})
            elif status is JobStatus.FAILED:
                attempt.fail(BAD)
        elif status is JobStatus.CANCELLED:
            face.cancel(job.id)
        elif status is JobStatus.EXPIRED:
            world.clock.time = job.expires_at
            world.others.expire()
    assert {status: world.row(job.id).status for status, job in made.items()} == {status: status for status in JobStatus}
    return made


def everything(world: World) -> tuple[list[Job], list[list[HistoryRecord]], list[str], int]:
    rows = [world.row(job.id) for job in world.others.list(limit=1000).data]
    return rows, [list(world.others.history(row.id)) for row in rows], world.artifacts.keys(), len(world.dispatcher)


def refusal(command: Command, jobs: Jobs, job_id: str) -> tuple[type[Exception], str]:
    with pytest.raises(JobstateError) as refused:
        command(jobs, job_id)
    return type(refused.value), str(refused.value).replace(job_id, "<id>")


@pytest.mark.parametrize("name", COMMANDS)
def test_anothers_job_is_refused_like_an_unknown_one(world: World, name: str) -> None:
    jobs = one_in_each_status(world, OTHER)
    before = everything(world)
    unknown = refusal(COMMANDS[name], world.ours, UNKNOWN)
    assert unknown[0] is JobNotFoundError
    for job in jobs.values():
        assert refusal(COMMANDS[name], world.ours, job.id) == unknown
    assert everything(world) == before


@pytest.mark.parametrize("odd_id", ["", "job_", "x" * 5000, "job_\0", "job_\ud800", "job_ä", "%", "../job"])
def test_an_odd_id_is_an_unknown_one(world: World, odd_id: str) -> None:
    with pytest.raises(JobNotFoundError):
        world.ours.retrieve(odd_id)
    with pytest.raises(JobNotFoundError):
        world.jobs.cancel(odd_id)


def test_lists_and_counts_find_only_ones_own(world: World) -> None:
    others_jobs = one_in_each_status(world, OTHER)
    own = one_in_each_status(world, ORG)
    ids = [job.id for job in (*others_jobs.values(), *own.values())]
    searches: list[dict[str, Any]] = [
        {},
        {"ids": ids},
        {"status": list(JobStatus)},
        {"endpoint": ENDPOINT},
        {"metadata": {"batch": "1"}},
        {"created_from": 0},
    ]
    for search in searches:
        assert {job.id for job in world.ours.list(**search).data} == {job.id for job in own.values()}
        assert world.ours.count(**search) == len(own)
        assert {job.organization_id for job in theirs(world).list(**search).data} == {OTHER}
        assert world.jobs.count(**search) == len(ids)
    for job in others_jobs.values():
        assert world.ours.list(ids=[job.id]).data == []
        assert world.ours.count(ids=[job.id]) == 0


def neighbour(job_id: str) -> str:
    """An id that no job has, at the same place."""
    return job_id[:-1] + ("0" if job_id[-1] != "0" else "1")


def test_anothers_id_as_a_cursor_tells_no_more_than_an_unknown_one(world: World) -> None:
    for _ in range(3):
        world.create()
        world.clock.advance(1)
        cursor = theirs(world).create(ENDPOINT, REQUEST).id
        world.clock.advance(1)
        for order in ("asc", "desc"):
            for place in ("after", "before"):
                known = world.ours.list(limit=2, order=order, **{place: cursor})  # type: ignore[arg-type]
                unknown = world.ours.list(limit=2, order=order, **{place: neighbour(cursor)})  # type: ignore[arg-type]
                assert known == unknown
                assert all(job.organization_id == ORG for job in known.data)


def test_a_page_does_not_tell_of_anothers_jobs_behind_it(world: World) -> None:
    for organization in (OTHER, ORG, OTHER):
        world.jobs.create(ENDPOINT, REQUEST, organization_id=organization)
        world.clock.advance(1)
    assert not world.ours.list(limit=1).has_more
    assert not world.ours.list(limit=1, order="asc").has_more
    assert world.jobs.list(limit=1).has_more


@pytest.mark.parametrize("name", BULK)
def test_a_bulk_command_passes_by_anothers_jobs(world: World, name: str) -> None:
    others_jobs = one_in_each_status(world, OTHER)
    rows = [world.row(job.id) for job in others_jobs.values()]
    own = world.create(metadata={"batch": "1"})
    ids = [row.id for row in rows]
    assert BULK[name](world.ours, {"ids": ids}) == []
    for conditions in ({"ids": [*ids, own.id]}, {"metadata": {"batch": "1"}}, {"status": list(JobStatus)}):
        assert [outcome.job_id for outcome in BULK[name](world.ours, conditions)] == [own.id]
    with pytest.raises(InvalidInputError, match="filter"):
        BULK[name](world.ours, {})
    assert [world.row(job_id) for job_id in ids] == rows


def test_a_face_creates_jobs_of_its_own_organization_only(world: World) -> None:
    assert world.ours.create(ENDPOINT, REQUEST, organization_id=ORG).organization_id == ORG
    with pytest.raises(InvalidInputError) as refused:
        world.ours.create(ENDPOINT, REQUEST, organization_id=OTHER)
    assert refused.value.field == "organization_id"
    with pytest.raises(InvalidInputError) as refused:
        world.jobs.create(ENDPOINT, REQUEST)
    assert refused.value.field == "organization_id"
    assert world.jobs.count() == 1


def test_a_face_leads_to_no_other_organization(world: World) -> None:
    assert world.ours.for_organization(ORG).organization_id == ORG
    for organization in (OTHER, "", "x" * 256, "org\0"):
        with pytest.raises(InvalidInputError) as refused:
            world.ours.for_organization(organization)
        assert refused.value.field == "organization_id"
    with pytest.raises(InvalidInputError):
        world.jobs.for_organization("")
    assert (world.jobs.organization_id, world.ours.organization_id) == (None, ORG)


def test_sweeps_are_refused_on_a_face_of_one_organization(world: World) -> None:
    own = world.create()
    world.clock.time = own.expires_at
    before = everything(world)
    sweeps = (world.ours.sweep, world.ours.relay, world.ours.rescue, world.ours.expire, world.ours.cleanup, world.ours.forget)
    for sweep in sweeps:
        with pytest.raises(InvalidInputError) as refused:
            sweep()
        assert refused.value.field == "organization_id"
    assert everything(world) == before


def test_an_idempotency_key_belongs_to_its_organization(world: World) -> None:
    own = world.ours.create(ENDPOINT, REQUEST, idempotency_key="inv-17")
    other = theirs(world).create(ENDPOINT, {"other": 1}, idempotency_key="inv-17")
    assert own.id != other.id
    assert world.ours.create(ENDPOINT, REQUEST, idempotency_key="inv-17").id == own.id
    again = theirs(world).create(ENDPOINT, {"other": 1}, idempotency_key="inv-17")
    assert (again.id, again.request, again.organization_id) == (other.id, {"other": 1}, OTHER)


# One tenant's life, alone and beside another


class Tenant:
    """A tenant of a world, whose answers are told without ids, so that two worlds can be compared."""

    def __init__(self, world: World, organization: str) -> None:
        self.world = world
        self.jobs = world.jobs.for_organization(organization)
        self.ids: list[str] = []

    def told(self, answer: Any) -> object:
        """An answer with each id as the number of the job; an unknown id would show."""
        if isinstance(answer, Job):
            return self.ids.index(answer.id), answer.status, answer.version, answer.run, answer.attempt_count, answer.metadata
        if isinstance(answer, list):
            return [self.told(item) for item in answer]  # pyright: ignore[reportUnknownVariableType]
        return answer

    def do(self, name: str, number: int) -> object:
        try:
            return self.told(self._do(name, self.ids[number % len(self.ids)] if self.ids else UNKNOWN, number))
        except JobstateError as error:
            text = f"{type(error).__name__} {error}"
            for index, job_id in enumerate(self.ids):
                text = text.replace(job_id, f"<{index}>")
            return text

    def _do(self, name: str, job_id: str, number: int) -> Any:
        if name == "create":
            job = self.jobs.create(ENDPOINT, {"number": number % 2}, idempotency_key=f"key-{number}")
            if job.id not in self.ids:
                self.ids.append(job.id)
            return job
        if name == "list":
            return self.jobs.list(limit=number + 1).data
        if name == "count":
            return self.jobs.count(status=["queued", "cancelled"])
        if name in BULK:
            outcomes = BULK[name](self.jobs, {"status": ["queued", "cancelled"][number % 2]})
            return [(self.ids.index(outcome.job_id), outcome.fate) for outcome in outcomes]
        if name == "start":
            return self.jobs.start(self.world.row(job_id).delivery).job
        return COMMANDS[name.removesuffix(" one")](self.jobs, job_id)


STEPS = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from(["create", "create", "cancel one", "retry one", "retrieve one", "start", "list", "count", *BULK]),
        st.integers(0, 4),
    ),
    max_size=25,
)


def _accept(world: World) -> None:
    [job] = world.others.list().data
    world.others.for_organization(ORG).accept(job.id)


def test_a_face_of_one_organization_reads_no_job_without_naming_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[str | None] = []
    load = MemoryRepository.load

    def noted(self: MemoryRepository, job_id: str, *, organization_id: str | None = None, **parts: bool) -> Job:
        named.append(organization_id)
        return load(self, job_id, organization_id=organization_id, **parts)

    monkeypatch.setattr(MemoryRepository, "load", noted)
    with make_world("memory", tmp_path) as world:
        world.repository.stale("save", then=lambda: _accept(world))
        job = world.create(artifacts={"scan.pdf": b"scan"})
        assert named == [ORG] * 3
        world.repository.stale("save")
        world.ours.cancel(job.id)
        world.repository.lose("save")
        world.ours.retry(job.id)
    assert named == [ORG] * 7


@settings(deadline=None, max_examples=60)
@given(steps=STEPS)
def test_a_tenant_cannot_tell_whether_it_is_alone(steps: list[tuple[bool, str, int]]) -> None:
    with make_world("memory", Path()) as beside, make_world("memory", Path()) as alone:
        us, them, hermit = Tenant(beside, ORG), Tenant(beside, OTHER), Tenant(alone, ORG)
        for ours, name, number in steps:
            if ours:
                assert us.do(name, number) == hermit.do(name, number)
            else:
                them.do(name, number)
            beside.clock.advance(1)
            alone.clock.advance(1)
        assert {job.id for job in us.jobs.list(limit=1000).data} == set(us.ids)
        assert {job.id for job in them.jobs.list(limit=1000).data} == set(them.ids)


@settings(deadline=None, max_examples=60)
@given(steps=STEPS, crossings=st.lists(st.tuples(st.sampled_from(sorted(COMMANDS)), st.integers(0, 9)), max_size=8))
def test_no_command_on_anothers_job_has_an_effect(steps: list[tuple[bool, str, int]], crossings: list[tuple[str, int]]) -> None:
    with make_world("memory", Path()) as world:
        tenants = Tenant(world, ORG), Tenant(world, OTHER)
        for ours, name, number in steps:
            tenants[ours].do(name, number)
        before = everything(world)
        for name, number in crossings:
            for here, there in (tenants, tenants[::-1]):
                if there.ids:
                    job_id = there.ids[number % len(there.ids)]
                    assert refusal(COMMANDS[name], here.jobs, job_id) == refusal(COMMANDS[name], here.jobs, UNKNOWN)
        assert everything(world) == before
