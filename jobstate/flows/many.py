"""Commands on many jobs: the single command n times, each decided and compared on its own, with one outcome for each."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from jobstate.effects import Flow, List, SaveMany
from jobstate.errors import BulkStoppedError, InvalidInputError, JobstateError, OutcomeUnknownError, RepositoryError
from jobstate.flows.commands import take_back
from jobstate.flows.dispatch import hand_over
from jobstate.flows.settle import Command, Scope, carry_out, command, judge
from jobstate.lifecycle import Accepted, Already, apply
from jobstate.model import AnyJob, Event
from jobstate.payload import words_of
from jobstate.query import JobFilter, PageRequest

PAGE = 200
"""Jobs that are decided and saved together."""


class Fate(StrEnum):
    """What became of one job in a bulk command."""

    MOVED = "moved"
    ALREADY = "already"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class BulkOutcome(NamedTuple):
    """One job's outcome: the job as it is now (in a dry run: as it would be), or the error that the single command raises."""

    job_id: str
    fate: Fate
    job: AnyJob | None
    error: JobstateError | None


def change_many(
    scope: Scope, event: Event, where: JobFilter, *, dry_run: bool, actor: str | None, reason: str | None
) -> Flow[list[BulkOutcome]]:
    """Retry or cancel all that a filter finds, newest first, so that jobs which appear meanwhile are not met."""
    if where.is_empty:
        raise InvalidInputError(
            "filter", f"{event} of all jobs is not done: give a status, ids, an endpoint, a time or metadata"
        )
    outcomes: list[BulkOutcome] = []
    after: str | None = None
    while True:
        try:
            page = yield from List(where, PageRequest(PAGE, after))
            outcomes += [BulkOutcome(error.job_id, Fate.REFUSED, None, error) for error in page.unreadable]
            outcomes += yield from _change_page(scope, event, page.jobs, dry_run, actor, reason)
        except Exception as error:
            if not outcomes:
                raise
            made = tuple((outcome.job_id, outcome.fate.value) for outcome in outcomes)
            raise BulkStoppedError(event.value, made, words_of(error)) from error
        if len(page.ids) < PAGE:
            return outcomes
        after = min(page.ids)


def _change_page(
    scope: Scope, event: Event, page: list[AnyJob], dry_run: bool, actor: str | None, reason: str | None
) -> Flow[list[BulkOutcome]]:
    asked = yield from command(event, actor=actor, reason=reason)
    fates: dict[str, BulkOutcome] = {}
    moving: dict[str, tuple[AnyJob, Accepted]] = {}
    for job in page:
        decision = yield from judge(scope, job, asked)
        if isinstance(decision, Accepted):
            moving[job.id] = (job, decision)
            fates[job.id] = BulkOutcome(job.id, Fate.MOVED, apply(job, decision), None)
        elif isinstance(decision, Already):
            found = job if dry_run else (yield from hand_over(scope, job, tell=True))
            fates[job.id] = BulkOutcome(job.id, Fate.ALREADY, found, None)
        else:
            fates[job.id] = BulkOutcome(job.id, Fate.REFUSED, None, decision.error())
    if moving and not dry_run:
        failures = yield from _save_all([decision for _, decision in moving.values()])
        for (job, decision), failure in zip(moving.values(), failures, strict=True):
            fates[job.id] = yield from _settle_one(scope, job, decision, asked, failure)
    return list(fates.values())


def _save_all(transitions: list[Accepted]) -> Flow[Sequence[RepositoryError | None]]:
    """An outcome for each, also when the answer to all of them was lost: then each is looked for on its own."""
    try:
        return (yield from SaveMany(transitions))
    except OutcomeUnknownError as error:
        return [OutcomeUnknownError(transition.job_id, error.detail) for transition in transitions]


def _settle_one(
    scope: Scope, job: AnyJob, decision: Accepted, asked: Command, failure: JobstateError | None
) -> Flow[BulkOutcome]:
    try:
        if failure is None:
            job, moved = apply(job, decision), True
        else:
            job, moved = yield from carry_out(scope, job, asked, failed=failure)
    except Exception as error:
        known = error if isinstance(error, JobstateError) else OutcomeUnknownError(job.id, words_of(error))
        fate = Fate.UNKNOWN if isinstance(known, OutcomeUnknownError) else Fate.REFUSED
        return BulkOutcome(job.id, fate, None, known)
    if asked.event is Event.CANCEL:
        yield from take_back(scope, job)
    job = yield from hand_over(scope, job, tell=True)
    return BulkOutcome(job.id, Fate.MOVED if moved else Fate.ALREADY, job, None)
