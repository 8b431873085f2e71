"""The contract of a repository: a case for each clause, as a flow, so that one text serves both colours."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jobstate.drivers import Ports
from jobstate.effects import Count, Delete, DueJobs, Effect, Flow, History, Insert, List, Load, Save, SaveAndDispatch, SaveMany
from jobstate.errors import (
    JobNotFoundError,
    JobstateError,
    OutcomeUnknownError,
    StaleJobError,
    UnreadableJobError,
)
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.memory import AsyncMemoryArtifactStore, MemoryArtifactStore
from jobstate.model import Event, HistoryRecord, Job, JobFilter, JobResponse, JobStatus, Lease, evolve
from jobstate.ports import AsyncRepository, Repository
from jobstate.query import Cursor, Due, DuePage, PageRequest, due_time
from jobstate.testing.contracts.clauses import Async, AsyncScript, Capability, Contract, Hook, Script, Sync, clause, clock
from jobstate.testing.examples import T, filled_job

AnyJob = Job[Any, Any]
LATE = 2**62
EVERYTHING = JobFilter()

IDS = tuple("job_" + letters.ljust(21, "0") for letters in ("-", "0", "9", "A", "B", "Z", "_", "a", "b", "z"))
"""Ids in byte order; a collation of words would have another."""

_EMPTY: dict[str, Any] = {
    name: None
    for name, field in Job.model_fields.items()
    if field.default is None and name not in ("request", "cleanup_started_at", "cleanup_completed_at")
}
"""What may be empty, empty."""


def example(number: int = 0, status: JobStatus = JobStatus.QUEUED, **fields: Any) -> AnyJob:
    """A job with something in every field, and an id and a key of its own."""
    own = {"id": IDS[number], "idempotency_key": f"key-{number}", "version": 1, "operation": f"op-{number}"}
    return evolve(filled_job(status), {**own, **fields})


def insert(job: AnyJob) -> Insert:
    """The effect that stores it."""
    return Insert(job, creation_record(job))


def stored(jobs: Sequence[AnyJob]) -> Flow[None]:
    """Store them all."""
    for job in jobs:
        there = yield from insert(job)
        assert there is None, f"{job.id} is new, and was not stored: {there}"


def transition(job: AnyJob, event: Event = Event.CANCEL, **changes: Any) -> Accepted:
    """A transition of this version with these changes."""
    target = changes.setdefault("status", job.status)
    operation = f"op-{event}-{job.version}"
    every = {**changes, "version": job.version + 1, "operation": operation, "updated_at": job.updated_at + 1}
    return Accepted(
        *(job.id, event, job.status, target, job.version, job.updated_at + 1, job.attempt_count),
        *(operation, "somebody", "why", every),
    )


def whole(job_id: str) -> Load:
    """The effect that loads all of a job."""
    return Load(job_id, None, include_request=True, include_response=True)


def same(found: AnyJob, expected: AnyJob) -> None:
    """Field by field, so that a difference is named."""
    for name in Job.model_fields:
        there, wanted = getattr(found, name), getattr(expected, name)
        assert there == wanted, f"{name}: {there!r} was stored or loaded instead of {wanted!r}"
        assert _kind(there) is _kind(wanted), f"{name}: {there!r} has another type than {wanted!r}"


def _kind(value: object) -> type[Any]:
    """The type of a field; a generic model of anything is the model without arguments."""
    kind = type(value)
    if not isinstance(value, BaseModel):
        return kind
    generic = value.__pydantic_generic_metadata__
    of_anything = all(argument is Any for argument in generic["args"])
    return (generic["origin"] or kind) if of_anything else kind


def bare(job: AnyJob) -> AnyJob:
    """The same without payloads."""
    return evolve(job, {"request": None, "response": None})


def refused(effect: Effect[Any], kind: type[Exception]) -> Flow[Exception]:
    """The effect raises this error, which names what it is about."""
    try:
        answer = yield from effect
    except kind as error:
        return error
    except Exception as error:
        raise AssertionError(f"{kind.__name__} was promised, {error!r} was raised") from error
    raise AssertionError(f"{kind.__name__} was promised, the answer was {answer!r}")


def unchanged(job: AnyJob, records: int = 1) -> Flow[None]:
    """The row, its payloads and its history are as they were stored."""
    same((yield from whole(job.id)), job)
    history = yield from History(job.id)
    assert len(history) == records, f"{len(history)} records instead of {records}"


def listed(where: JobFilter, page: PageRequest) -> Flow[list[str]]:
    """The ids on a page."""
    listing = yield from List(where, page)
    assert not listing.unreadable, listing.unreadable
    return [job.id for job in listing.jobs]


class RepositoryCases(Contract):
    """A case for each clause."""

    # insert

    @clause("R01")
    def test_R01_a_new_job_is_stored_with_payloads_and_record(self) -> Flow[None]:
        """Every field comes back as it was, full and empty, with the first record."""
        values: dict[str, Any] = {
            "metadata": {"ключ": "значение", "quote'\"\\": "a b", "": ""},
            "progress": 0.1,
            "expires_at": LATE,
        }
        empty: dict[str, Any] = {**_EMPTY, "metadata": {}, "idempotency_key": None}
        response = JobResponse[Any](status_code=200, body={"list": [1, 2.5, None, "\u2028 €"], "big": 2**60})
        jobs = [example(0), example(1, **values), example(2, response=response), example(3, **empty)]
        jobs += [example(4 + number, status) for number, status in enumerate(JobStatus) if number < 6]
        yield from stored(jobs)
        for job in jobs:
            same((yield from whole(job.id)), job)
            records = yield from History(job.id)
            assert list(records) == [creation_record(job)], records

    @clause("R02")
    def test_R02_an_id_that_is_there_is_not_stored_again(self) -> Flow[None]:
        job = example()
        yield from stored([job])
        other = example(0, idempotency_key="another", request={"other": True}, endpoint="/other")
        there = yield from insert(other)
        assert there is not None, "it answered as if it had been stored"
        same(there, bare(job))
        yield from unchanged(job)

    @clause("R03")
    def test_R03_a_key_of_the_organization_is_not_used_again(self) -> Flow[None]:
        job = example()
        yield from stored([job, example(1, organization_id="org_other", idempotency_key=job.idempotency_key)])
        yield from stored([example(2, idempotency_key=None), example(3, idempotency_key=None)])
        there = yield from insert(example(4, idempotency_key=job.idempotency_key))
        assert there is not None, "it answered as if it had been stored"
        same(there, bare(job))
        yield from unchanged(job)
        yield from refused(Load(IDS[4]), JobNotFoundError)
        assert not (yield from History(IDS[4])), "a record of what was not stored"

    # load

    @clause("R04")
    def test_R04_an_unknown_id_is_not_found(self) -> Flow[None]:
        """Nor is one that differs in upper and lower case only."""
        upper, lower = IDS[3], IDS[7]
        assert upper.lower() == lower
        yield from stored([example(3)])
        for unknown in (IDS[1], lower):
            error = yield from refused(Load(unknown), JobNotFoundError)
            assert unknown in str(error)

    @clause("R05")
    def test_R05_another_organizations_job_looks_unknown(self) -> Flow[None]:
        job = example()
        yield from stored([job])
        same((yield from Load(job.id, job.organization_id)), bare(job))
        others = yield from refused(Load(job.id, "org_other"), JobNotFoundError)
        unknown = yield from refused(Load(IDS[1], "org_other"), JobNotFoundError)
        assert str(others).replace(job.id, "") == str(unknown).replace(IDS[1], "")

    @clause("R06")
    def test_R06_a_payload_is_loaded_when_it_is_asked_for(self) -> Flow[None]:
        job = example(0, JobStatus.COMPLETED)
        yield from stored([job])
        for request in (False, True):
            for response in (False, True):
                without = {name: None for name, asked in (("request", request), ("response", response)) if not asked}
                wanted = evolve(job, without)
                same((yield from Load(job.id, None, request, response)), wanted)
                listing = yield from List(EVERYTHING, PageRequest(1), request, response)
                same(listing.jobs[0], wanted)
        page = yield from DueJobs(Due.EXPIRING, LATE, 10)
        same(page.jobs[0], bare(job))

    @clause("R07")
    def test_R07_what_is_loaded_is_nobody_elses(self) -> Flow[None]:
        request = {"list": [1]}
        job = example(0, JobStatus.COMPLETED, request=request, metadata={"a": "b"})
        yield from stored([job])
        request["list"].append(2)
        job.metadata["a"] = "changed"
        first = yield from whole(job.id)
        assert first.request == {"list": [1]}, "what was stored is shared with the caller"
        assert first.metadata == {"a": "b"}, "what was stored is shared with the caller"
        assert first.request is not None
        assert first.response is not None
        first.request["list"].append(3)
        first.metadata["a"] = "changed"
        first.response.body["pages"] = 99
        second = yield from whole(job.id)
        assert second.request == {"list": [1]}, "two loads share a request"
        assert second.metadata == {"a": "b"}, "two loads share metadata"
        assert second.response == job.response, "two loads share a response"

    # save

    @clause("R08")
    def test_R08_a_save_writes_its_changes_and_nothing_else(self) -> Flow[None]:
        jobs = [example(0), example(1)]
        yield from stored(jobs)
        changes: dict[str, Any] = {
            "status": JobStatus.CANCELLED,
            "cancelled": True,
            "lease": None,
            "error": None,
            "progress": 0.25,
            "warnings": None,
            "available_at": LATE,
            "attempt_count": 12,
            "request_artifacts": None,
        }
        saved = transition(jobs[0], **changes)
        yield from Save(saved)
        same((yield from whole(IDS[0])), evolve(jobs[0], saved.changes))
        again = transition(evolve(jobs[0], saved.changes), Event.RETRY, lease=Lease(token="new", expires_at=None))
        yield from Save(again)
        same((yield from whole(IDS[0])), evolve(jobs[0], {**saved.changes, **again.changes}))
        yield from unchanged(jobs[1])

    @clause("R09")
    def test_R09_a_save_writes_its_record(self) -> Flow[None]:
        job = example()
        yield from stored([job])
        saved = transition(job, Event.FAIL, completed_at=T + 70)
        yield from Save(saved)
        quiet = transition(evolve(job, saved.changes), Event.HEARTBEAT, progress=0.75)
        assert quiet.record is None, "heartbeats leave none"
        yield from Save(quiet)
        assert saved.record is not None
        assert list((yield from History(job.id))) == [creation_record(job), saved.record]

    @clause("R10")
    def test_R10_a_payload_is_rewritten_only_by_a_change_that_names_it(self) -> Flow[None]:
        job = example(0, response=None)
        yield from stored([job])
        first = transition(job, Event.COMPLETE, response=JobResponse[Any](body={"pages": 7}))
        yield from Save(first)
        job = evolve(job, first.changes)
        same((yield from whole(job.id)), job)
        second = transition(job, Event.EXPIRE)
        yield from Save(second)
        job = evolve(job, second.changes)
        same((yield from whole(job.id)), job)
        third = transition(job, Event.BEGIN_CLEANUP, request=None, response=None)
        outcome = yield from SaveMany([third])
        assert list(outcome) == [None]
        same((yield from whole(job.id)), evolve(job, third.changes))

    @clause("R11")
    def test_R11_a_stale_save_changes_nothing(self) -> Flow[None]:
        job = example(0, version=5)
        yield from stored([job])
        for version in (4, 6):
            error = yield from refused(Save(transition(evolve(job, {"version": version}), response=None)), StaleJobError)
            assert job.id in str(error)
        yield from refused(Save(transition(example(1))), StaleJobError)
        yield from unchanged(job)
        saved = transition(job)
        yield from Save(saved)
        yield from refused(Save(saved), StaleJobError)
        yield from unchanged(evolve(job, saved.changes), 2)

    @clause("R12", Capability.LOSE)
    def test_R12_an_unknown_outcome_is_not_called_stale(self) -> Flow[None]:
        job = example()
        yield from stored([job])
        saved = transition(job)
        yield from Hook("_lose")
        yield from refused(Save(saved), OutcomeUnknownError)
        there = yield from whole(job.id)
        same(there, job if there.version == job.version else evolve(job, saved.changes))
        yield from Hook("_lose")
        yield from refused(insert(example(1)), OutcomeUnknownError)

    @clause("R13")
    def test_R13_many_saves_have_an_outcome_each_in_order(self) -> Flow[None]:
        jobs = [example(number) for number in range(5)]
        yield from stored(jobs)
        stale = {1, 3}
        asked = [evolve(job, {"version": 9}) if number in stale else job for number, job in enumerate(jobs)]
        outcomes = yield from SaveMany([transition(job) for job in reversed(asked)])
        told = [type(outcome) for outcome in reversed(outcomes)]
        assert told == [StaleJobError if number in stale else type(None) for number in range(5)], told
        named = [outcome.job_id for outcome in reversed(outcomes) if isinstance(outcome, StaleJobError)]
        assert named == [IDS[1], IDS[3]], named
        assert list((yield from SaveMany([]))) == []

    @clause("R14")
    def test_R14_one_of_many_touches_no_other(self) -> Flow[None]:
        jobs = [example(number) for number in range(4)]
        yield from stored(jobs[:3])
        moves = [transition(job, Event.FAIL, response=None, progress=number / 8) for number, job in enumerate(jobs)]
        late = transition(evolve(jobs[1], {"version": 3}))
        outcomes = yield from SaveMany([moves[0], late, moves[3], moves[2]])
        assert [outcome is None for outcome in outcomes] == [True, False, False, True], outcomes
        for number in (0, 2):
            same((yield from whole(IDS[number])), evolve(jobs[number], moves[number].changes))
            assert list((yield from History(IDS[number], 1))) == [moves[number].record]
        yield from unchanged(jobs[1])

    # list and count

    @clause("R15")
    def test_R15_a_list_is_in_byte_order(self) -> Flow[None]:
        yield from stored([example(number) for number in (3, 7, 1, 9, 0, 5, 2, 8, 4, 6)])
        assert (yield from listed(EVERYTHING, PageRequest(100))) == list(reversed(IDS))
        assert (yield from listed(EVERYTHING, PageRequest(100, newest_first=False))) == list(IDS)
        assert (yield from listed(EVERYTHING, PageRequest(3))) == list(reversed(IDS[-3:]))

    @clause("R16")
    def test_R16_a_page_goes_on_from_a_cursor(self) -> Flow[None]:
        yield from stored([example(number) for number in range(10) if number != 4])
        there = [job_id for job_id in IDS if job_id != IDS[4]]
        for newest in (False, True):
            order = there[::-1] if newest else there
            for cursor in IDS:
                behind = [i for i in order if (i < cursor if newest else i > cursor)]
                ahead = [i for i in order if (i > cursor if newest else i < cursor)]
                for limit in (1, 3, 50):
                    after = yield from listed(EVERYTHING, PageRequest(limit, after=cursor, newest_first=newest))
                    assert after == behind[:limit], f"after {cursor}: {after}"
                    before = yield from listed(EVERYTHING, PageRequest(limit, before=cursor, newest_first=newest))
                    assert before == ahead[-limit:], f"before {cursor}: {before}"

    @clause("R17")
    def test_R17_a_filter_finds_all_that_it_describes_and_no_other(self) -> Flow[None]:
        jobs = _assorted()
        yield from stored(jobs)
        for where in _filters():
            found = yield from listed(where, PageRequest(50, newest_first=False))
            assert found == [job.id for job in jobs if _holds(where, job)], f"{where}: {found}"

    # due

    @clause("R18")
    def test_R18_a_due_page_has_what_is_due(self) -> Flow[None]:
        jobs = _of_every_page()
        yield from stored(jobs)
        for due in Due:
            times = {job.id: time for job in jobs if (time := due_time(due, job)) is not None}
            assert times, due
            for until in (-1, *sorted(set(times.values())), LATE):
                page = yield from DueJobs(due, until, 50)
                expected = sorted((time, job_id) for job_id, time in times.items() if time <= until)
                assert [job.id for job in page.jobs] == [job_id for _, job_id in expected], f"{due} until {until}"
                for job in page.jobs:
                    same(job, bare(next(there for there in jobs if there.id == job.id)))

    @clause("R19")
    def test_R19_a_due_page_goes_on_behind_its_cursor(self) -> Flow[None]:
        times = [T + 9, T + 9, T + 5, T + 9, T + 5, T + 7, T + 9, T + 7, T + 5, T + 9]
        jobs = [example(number, expires_at=time) for number, time in enumerate(times)]
        yield from stored(jobs)
        expected = [job_id for _, job_id in sorted((job.expires_at, job.id) for job in jobs)]
        for limit in (1, 2, 3, 10, 11):
            found: list[str] = []
            after: Cursor | None = None
            while True:
                page: DuePage = yield from DueJobs(Due.EXPIRING, LATE, limit, after)
                assert len(page.jobs) <= limit, f"{len(page.jobs)} rows, at most {limit} were asked for"
                found += [job.id for job in page.jobs]
                assert len(found) <= len(jobs), f"a row comes again, with pages of {limit}: {found}"
                if page.after is None:
                    break
                after = page.after
            assert found == expected, f"with pages of {limit}: {found}"

    @clause("R20")
    def test_R20_a_count_counts_what_a_list_lists(self) -> Flow[None]:
        jobs = _assorted()
        yield from stored(jobs)
        for where in _filters():
            assert (yield from Count(where)) == sum(_holds(where, job) for job in jobs), where

    # history and delete

    @clause("R21")
    def test_R21_a_history_is_in_order_and_behind_a_version(self) -> Flow[None]:
        job, other = example(), example(1)
        yield from stored([job, other])
        records: list[HistoryRecord] = [creation_record(job)]
        for event in (Event.START, Event.RELEASE, Event.HEARTBEAT, Event.START, Event.COMPLETE):
            saved = transition(job, event, warnings=None)
            yield from Save(saved)
            records += [] if saved.record is None else [saved.record]
            job = evolve(job, saved.changes)
        for version in range(8):
            found = yield from History(job.id, version)
            assert list(found) == [record for record in records if record.version > version], f"behind {version}"
        assert list((yield from History(IDS[2]))) == []

    @clause("R22")
    def test_R22_a_deleted_job_leaves_nothing(self) -> Flow[None]:
        job, other = example(), example(1)
        yield from stored([job, other])
        yield from Delete(job.id, job.version)
        yield from refused(Load(job.id), JobNotFoundError)
        assert list((yield from History(job.id))) == [], "its history is there"
        assert (yield from listed(EVERYTHING, PageRequest(9))) == [other.id]
        again = example(2, idempotency_key=job.idempotency_key)
        yield from stored([again, evolve(bare(job), {"idempotency_key": None})])
        same((yield from whole(job.id)), evolve(bare(job), {"idempotency_key": None}))
        yield from unchanged(other)

    @clause("R23")
    def test_R23_a_stale_delete_removes_nothing(self) -> Flow[None]:
        job = example(0, version=5)
        yield from stored([job])
        for version in (4, 6):
            yield from refused(Delete(job.id, version), StaleJobError)
        yield from refused(Delete(IDS[1], 1), StaleJobError)
        yield from unchanged(job)

    # rows that cannot be read

    @clause("R24", Capability.SPOIL)
    def test_R24_an_unreadable_row_is_named_when_it_is_loaded(self) -> Flow[None]:
        yield from stored([example()])
        yield from Hook("_spoil", (IDS[0],))
        error = yield from refused(Load(IDS[0]), UnreadableJobError)
        assert IDS[0] in str(error)

    @clause("R25", Capability.SPOIL)
    def test_R25_an_unreadable_row_stops_no_page(self) -> Flow[None]:
        yield from stored([example(number) for number in range(3)])
        yield from Hook("_spoil", (IDS[1],))
        listing = yield from List(EVERYTHING, PageRequest(9, newest_first=False))
        page = yield from DueJobs(Due.EXPIRING, LATE, 9)
        for found in (listing, page):
            assert [job.id for job in found.jobs] == [IDS[0], IDS[2]]
            assert [error.job_id for error in found.unreadable] == [IDS[1]]

    # within

    @clause("R26", Capability.TRANSACTION)
    def test_R26_within_is_called_once_with_the_transaction(self) -> Flow[None]:
        script: Script = yield from Hook("_script")
        job = example()
        assert (yield from Insert(job, creation_record(job), "task")) is None
        saved = transition(job)
        yield from SaveAndDispatch(saved, job.delivery, "again")
        assert [(delivery, name) for delivery, name, _ in script.given] == [(job.delivery, "task"), (job.delivery, "again")]
        yield from unchanged(evolve(job, saved.changes), 2)

    @clause("R27", Capability.TRANSACTION)
    def test_R27_within_is_not_called_by_a_write_that_is_refused(self) -> Flow[None]:
        script: Script = yield from Hook("_script")
        job = example(0, version=5)
        yield from stored([job])
        assert (yield from Insert(job, creation_record(job), "task")) is not None
        twin = example(1, idempotency_key=job.idempotency_key)
        assert (yield from Insert(twin, creation_record(twin), "task")) is not None
        stale = transition(evolve(job, {"version": 4}))
        yield from refused(SaveAndDispatch(stale, job.delivery, "task"), StaleJobError)
        assert script.given == []

    @clause("R28", Capability.TRANSACTION)
    def test_R28_what_within_raises_rolls_back_and_is_passed_on(self) -> Flow[None]:
        script: Script = yield from Hook("_script")
        job = example()
        yield from stored([job])
        script.error = _OwnError("no room")
        saved = transition(job, request=None)
        error = yield from refused(SaveAndDispatch(saved, job.delivery, "task"), _OwnError)
        assert error is script.error, "another error than the dispatcher's"
        yield from unchanged(job)
        other = example(1)
        yield from refused(Insert(other, creation_record(other), "task"), _OwnError)
        yield from refused(Load(other.id), JobNotFoundError)
        assert list((yield from History(other.id))) == []
        yield from stored([other])


class _OwnError(JobstateError):
    """What a dispatcher raises."""


def _assorted() -> list[AnyJob]:
    """Jobs that differ in what a filter asks for, in the order of their ids."""
    statuses = [*JobStatus, JobStatus.FAILED, JobStatus.FAILED, JobStatus.QUEUED]
    metadata = [
        {},
        {"a": "1"},
        {"a": "1", "b": "2"},
        {"a": "2"},
        {"b": "2"},
        {"a": "1", "b": "3"},
        {"A": "1"},
        {},
        {"%": "_"},
        {"a": ""},
    ]
    return [
        example(
            number,
            statuses[number],
            organization_id="org_one" if number % 3 else "org_two",
            endpoint="/v1/a" if number % 2 else "/v1/A",
            created_at=T + number // 2,
            metadata=metadata[number],
        )
        for number in range(10)
    ]


def _filters() -> list[JobFilter]:
    """Each condition alone, at its edges, and together."""
    return [
        JobFilter(),
        *(JobFilter(organization_id=name) for name in ("org_one", "org_two", "ORG_ONE", "org_none")),
        *(JobFilter(ids=ids) for ids in ((), IDS[:3], (IDS[2], "job_" + "1" * 21))),
        *(JobFilter(statuses=statuses) for statuses in ((), (JobStatus.FAILED,), (JobStatus.QUEUED, JobStatus.EXPIRED))),
        *(JobFilter(endpoint=name) for name in ("/v1/a", "/v1/A", "/v1/_")),
        *(JobFilter(created_from=T + at) for at in (0, 2, 5)),
        *(JobFilter(created_to=T + at) for at in (0, 2, 5)),
        JobFilter(created_from=T + 1, created_to=T + 3),
        *(JobFilter(metadata=pairs) for pairs in ({}, {"a": "1"}, {"a": "1", "b": "2"}, {"%": "_"}, {"a": ""}, {"a": "%"})),
        JobFilter(organization_id="org_one", statuses=(JobStatus.FAILED,), endpoint="/v1/a", metadata={"a": "1"}),
        JobFilter(organization_id="org_one", ids=IDS, created_from=T + 1, created_to=T + 5, endpoint="/v1/a"),
    ]


def _holds(where: JobFilter, job: AnyJob) -> bool:
    """What the filter says, of one job."""
    return (
        (where.organization_id is None or job.organization_id == where.organization_id)
        and (where.ids is None or job.id in where.ids)
        and (where.statuses is None or job.status in where.statuses)
        and (where.endpoint is None or job.endpoint == where.endpoint)
        and (where.created_from is None or job.created_at >= where.created_from)
        and (where.created_to is None or job.created_at < where.created_to)
        and all(job.metadata.get(name) == value for name, value in (where.metadata or {}).items())
    )


def _of_every_page() -> list[AnyJob]:
    """Jobs on each due page, and next to it."""
    queued, expired, running = JobStatus.QUEUED, JobStatus.EXPIRED, JobStatus.IN_PROGRESS
    return [
        example(0, queued, dispatched_at=None, available_at=T + 11),
        example(1, queued, dispatched_at=None, available_at=None, retried_at=T + 12),
        example(2, queued, dispatched_at=None, available_at=None, retried_at=None, created_at=T + 13),
        example(3, queued, dispatched_at=T + 14, available_at=None),
        example(4, queued, dispatched_at=T + 10, available_at=T + 15),
        example(5, running, lease=Lease(token="t", expires_at=T + 16)),
        example(6, running, lease=Lease(token="t", expires_at=None)),
        example(7, expired, expires_at=T + 17, cleanup_started_at=None),
        example(8, expired, expires_at=T + 18, cleanup_started_at=T + 19),
        example(9, expired, expires_at=T + 20, cleanup_started_at=T + 21, cleanup_completed_at=T + 22),
    ]


class RepositoryPorts(Sync):
    """What the author of a sync repository gives to its contracts."""

    def open_repository(self, folder: Path) -> Repository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the contract needs a repository to hold to it")

    def close_repository(self, repository: Any) -> None:
        """Let go of it, after each case."""

    def spoil(self, repository: Any, job_id: str) -> None:
        """Make a stored row unreadable: for example a status that nobody knows."""
        raise NotImplementedError("spoil: make a row unreadable, or declare that Capability.SPOIL is lacking")

    def lose(self, repository: Any) -> None:
        """Have the answer of the next write lost."""
        raise NotImplementedError("lose: have the next answer lost, or declare that Capability.LOSE is lacking")

    def open_ports(self, folder: Path) -> Ports:
        """As `Sync.open_ports`."""
        return Ports(self.open_repository(folder), Script(), MemoryArtifactStore(), clock())

    def close_ports(self, ports: Ports) -> None:
        """As `Sync.close_ports`."""
        self.close_repository(ports.repository)

    def _spoil(self, ports: Ports, job_id: str) -> None:
        self.spoil(ports.repository, job_id)

    def _lose(self, ports: Ports) -> None:
        self.lose(ports.repository)

    def _script(self, ports: Ports) -> Script:
        script: Script = ports.dispatcher
        return script


class AsyncRepositoryPorts(Async):
    """What the author of an async repository gives to its contracts."""

    async def open_repository(self, folder: Path) -> AsyncRepository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the contract needs a repository to hold to it")

    async def close_repository(self, repository: Any) -> None:
        """Let go of it, after each case."""

    async def spoil(self, repository: Any, job_id: str) -> None:
        """Make a stored row unreadable: for example a status that nobody knows."""
        raise NotImplementedError("spoil: make a row unreadable, or declare that Capability.SPOIL is lacking")

    async def lose(self, repository: Any) -> None:
        """Have the answer of the next write lost."""
        raise NotImplementedError("lose: have the next answer lost, or declare that Capability.LOSE is lacking")

    async def open_ports(self, folder: Path) -> Ports:
        """As `Async.open_ports`."""
        return Ports(await self.open_repository(folder), AsyncScript(), AsyncMemoryArtifactStore(), clock())

    async def close_ports(self, ports: Ports) -> None:
        """As `Async.close_ports`."""
        await self.close_repository(ports.repository)

    async def _spoil(self, ports: Ports, job_id: str) -> None:
        await self.spoil(ports.repository, job_id)

    async def _lose(self, ports: Ports) -> None:
        await self.lose(ports.repository)

    async def _script(self, ports: Ports) -> Script:
        script: Script = ports.dispatcher
        return script


class RepositoryContract(RepositoryPorts, RepositoryCases):
    """The contract of a `Repository`, in three lines.

    ::

        class TestMine(RepositoryContract):
            def open_repository(self, folder: Path) -> Repository:
                return MyRepository(folder / "jobs.db")

    Each case opens a new, empty one; the folder is its own.
    """


class AsyncRepositoryContract(AsyncRepositoryPorts, RepositoryCases):
    """The contract of an `AsyncRepository`: the same, awaited."""
