"""What a repository writes: a case for each clause, as a flow, so that one text serves both colours."""

from __future__ import annotations

from typing import Any

from jobstate.effects import Delete, Flow, History, Insert, Load, Save, SaveAndDispatch, SaveMany
from jobstate.errors import JobNotFoundError, JobstateError, OutcomeUnknownError, StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.model import AnyJob, Event, Job, JobResponse, JobStatus, Lease, evolve
from jobstate.query import PageRequest
from jobstate.testing.contracts.clauses import Capability, Contract, Hook, Script, clause
from jobstate.testing.contracts.samples import (
    EVERYTHING,
    IDS,
    LATE,
    SET,
    UNSET,
    bare,
    example,
    insert,
    listed,
    refused,
    same,
    stored,
    towards,
    transition,
    unchanged,
    whole,
)
from jobstate.testing.examples import T

_EMPTY: dict[str, Any] = {
    name: None
    for name, field in Job.model_fields.items()
    if field.default is None and name not in ("request", "cleanup_started_at", "cleanup_completed_at")
}
"""What may be empty, empty."""


class WriteCases(Contract):
    """A case for each clause of `insert`, `save`, `save_many`, `delete` and `within`."""

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
        """Keys and organizations that differ in case, or in a space at the end, are others."""
        job = example(0, organization_id="org", idempotency_key="key")
        alike = [("org", "KEY"), ("org", "key "), ("ORG", "key"), ("org ", "key")]
        others = [example(5 + at, organization_id=org, idempotency_key=key) for at, (org, key) in enumerate(alike)]
        yield from stored([job, example(1, organization_id="org_other", idempotency_key="key"), *others])
        yield from stored([example(2, idempotency_key=None), example(3, idempotency_key=None)])
        for first in (job, *others):
            yield from _answered(evolve(first, {"id": IDS[4]}), first)
        yield from unchanged(job)
        yield from refused(Load(IDS[4]), JobNotFoundError)
        assert not (yield from History(IDS[4])), "a record of what was not stored"

    # save

    @clause("R08")
    def test_R08_a_save_writes_its_changes_and_nothing_else(self) -> Flow[None]:
        """A few fields; and every field that a transition may change, emptied and filled again."""
        jobs = [example(0), example(1)]
        yield from stored(jobs)
        job = yield from _saved(jobs[0], transition(jobs[0], status=JobStatus.CANCELLED, available_at=LATE, lease=None))
        job = yield from _saved(job, towards(job, evolve(job, UNSET)))
        job = yield from _saved(job, towards(job, evolve(job, SET)))
        yield from _saved(job, transition(job, Event.RETRY, lease=Lease(token="new", expires_at=None)))
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
        job = yield from _saved(job, transition(job, Event.COMPLETE, response=JobResponse[Any](body={"pages": 7})))
        job = yield from _saved(job, transition(job, Event.EXPIRE))
        none: dict[str, Any] = {"request": None, "response": None}
        new: dict[str, Any] = {"request": {"new": True}, "response": JobResponse[Any](body={"new": True})}
        newer: dict[str, Any] = {"request": {"new": False}, "response": JobResponse[Any](body={"new": False})}
        for payloads in (new, {}, newer, none, new):
            move = transition(job, Event.BEGIN_CLEANUP, **payloads)
            assert list((yield from SaveMany([move]))) == [None]
            job = evolve(job, move.changes)
            same((yield from whole(job.id)), job)

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
        """Each writes all of its own: one row is emptied, another one filled."""
        jobs = [example(0, **SET), example(1), example(2, **UNSET), example(3)]
        yield from stored(jobs[:3])
        moves = [towards(job, evolve(job, fields)) for job, fields in zip(jobs, (UNSET, SET, SET, SET), strict=True)]
        late = transition(evolve(jobs[1], {"version": 3}))
        outcomes = yield from SaveMany([moves[0], late, moves[3], moves[2]])
        assert [outcome is None for outcome in outcomes] == [True, False, False, True], outcomes
        for number in (0, 2):
            same((yield from whole(IDS[number])), evolve(jobs[number], moves[number].changes))
            assert list((yield from History(IDS[number], jobs[number].version))) == [moves[number].record]
        yield from unchanged(jobs[1])

    # delete

    @clause("R22")
    def test_R22_a_deleted_job_leaves_nothing(self) -> Flow[None]:
        """And takes nothing of another organization's job with the same key."""
        job, other = example(), example(1, organization_id="org_other", idempotency_key="key-0")
        yield from stored([job, other])
        yield from Delete(job.id, job.version)
        yield from refused(Load(job.id), JobNotFoundError)
        assert list((yield from History(job.id))) == [], "its history is there"
        assert (yield from listed(EVERYTHING, PageRequest(9))) == [other.id]
        again = example(2, idempotency_key=job.idempotency_key)
        yield from stored([again, evolve(bare(job), {"idempotency_key": None})])
        same((yield from whole(job.id)), evolve(bare(job), {"idempotency_key": None}))
        yield from unchanged(other)
        yield from _answered(evolve(other, {"id": IDS[3]}), other)

    @clause("R23")
    def test_R23_a_stale_delete_removes_nothing(self) -> Flow[None]:
        job = example(0, version=5)
        yield from stored([job])
        for version in (4, 6):
            yield from refused(Delete(job.id, version), StaleJobError)
        yield from refused(Delete(IDS[1], 1), StaleJobError)
        yield from unchanged(job)
        yield from _answered(evolve(job, {"id": IDS[1]}), job)

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


def _answered(job: AnyJob, first: AnyJob) -> Flow[None]:
    """An insert of this job answers the one that has its key."""
    there = yield from insert(job)
    assert there is not None, f"the key {job.idempotency_key!r} of {job.organization_id!r} was free"
    same(there, bare(first))


def _saved(job: AnyJob, transition: Accepted) -> Flow[AnyJob]:
    """Save it; all of the row is then as it says: the job as it stands now."""
    yield from Save(transition)
    job = evolve(job, transition.changes)
    same((yield from whole(job.id)), job)
    return job


class _OwnError(JobstateError):
    """What a dispatcher raises."""
