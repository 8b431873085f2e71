"""Sample jobs, and the small steps that the cases of the contracts are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel

from jobstate.effects import Effect, Flow, History, Insert, List, Load
from jobstate.lifecycle import EVERY_WRITE, TABLE, Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.model import AnyJob, Event, Job, JobStatus, evolve
from jobstate.query import JobFilter, PageRequest
from jobstate.testing.examples import T, filled_job

LATE = 2**62
EVERYTHING = JobFilter()

IDS = tuple("job_" + letters.ljust(21, "0") for letters in ("-", "0", "9", "A", "B", "Z", "_", "a", "b", "z"))
"""Ids in byte order; a collation of words would have another."""

WRITTEN = frozenset(EVERY_WRITE).union(*(row.writes for rows in TABLE.values() for row in rows))
"""Every field that a transition may change."""

_FIELDS = {name: field for name, field in Job.model_fields.items() if name in WRITTEN}

UNSET: dict[str, Any] = {name: 0 if field.is_required() else field.default for name, field in _FIELDS.items()}
"""All of them without a value; the times that each job has are 0."""

_LATER = filled_job(JobStatus.COMPLETED, cleanup_started_at=T + 61, cleanup_completed_at=T + 62, expires_at=T + 5_021)

SET: dict[str, Any] = {name: getattr(_LATER, name) for name in WRITTEN}
"""All of them with a value, and another one than in `UNSET`."""


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


def towards(job: AnyJob, other: AnyJob) -> Accepted:
    """A transition that gives a job whatever another one has in the fields that a transition may change."""
    return transition(job, **{name: getattr(other, name) for name in WRITTEN})


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
