"""The database as the queue: a worker starts pending jobs straight from the repository, many in one transaction if it can."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jobstate.effects import DueJobs, Flow, IdKind, Moved, MoveDue, NewId, Now
from jobstate.errors import OutcomeUnknownError, RepositoryError
from jobstate.flows.attempts import Hold, anything, start
from jobstate.flows.settle import Command, Scope, carry_out
from jobstate.flows.sweeps import Place
from jobstate.lifecycle import Accepted, Facts, apply, decide
from jobstate.model import AnyJob, Event
from jobstate.parts import parts_of
from jobstate.policy import Policy
from jobstate.query import Due, DuePage


@dataclass(frozen=True, slots=True)
class Starts:
    """Decides the start of each job, under a token of its own.

    A job whose request was cut is left: its parts come first, from a store that no transaction waits for.
    """

    now: int
    policy: Policy
    operation: str
    tokens: Sequence[str]

    def __call__(self, jobs: Sequence[AnyJob]) -> list[Accepted]:
        """Those of these jobs that start."""
        whole = [job for job in jobs if not parts_of(job)]
        decisions = [self._decided(job, token) for job, token in zip(whole, self.tokens, strict=False)]
        return [decision for decision in decisions if isinstance(decision, Accepted)]

    def _decided(self, job: AnyJob, token: str) -> object:
        facts = Facts(token=token, run=job.run)
        return decide(job, Event.START, self.now, policy=self.policy, operation=self.operation, **facts)


def take(scope: Scope, limit: int) -> Flow[list[Hold]]:
    """Start at most `limit` jobs that are pending and due, the longest due first; those that cannot start are passed by.

    Raises the repository's error only while nothing was started: what was is not lost to a later one.
    """
    holds: list[Hold] = []
    place: Place | None = Place(Due.PENDING, (yield from Now()))
    while place is not None and len(holds) < limit:
        try:
            page, started = yield from _part(scope, place, limit - len(holds))
        except RepositoryError:
            if not holds:
                raise
            break
        holds += started
        place = None if page.after is None else place._replace(after=page.after)
    return holds


def _part(scope: Scope, place: Place, limit: int) -> Flow[tuple[DuePage, list[Hold]]]:
    """Start what can be started of a part of the due page."""
    if not scope.shares_sweeps:
        page = yield from DueJobs(place.due, place.until, limit, place.after)
        return page, (yield from _one_by_one(scope, page.jobs))
    starts = yield from _starts(scope, limit)
    moved = yield from MoveDue(place.due, place.until, limit, place.after, starts, include_request=True)
    holds = yield from _held(scope, starts, moved)
    cut = [job for job in moved.page.jobs if parts_of(job)]
    return moved.page, holds + (yield from _one_by_one(scope, cut))


def _starts(scope: Scope, limit: int) -> Flow[Starts]:
    tokens: list[str] = []
    for _ in range(limit):
        tokens.append((yield from NewId(IdKind.LEASE)))  # noqa: PERF401  # no comprehension yields from
    operation = yield from NewId(IdKind.OPERATION)
    return Starts((yield from Now()), scope.policy, operation, tokens)


def _held(scope: Scope, starts: Starts, moved: Moved) -> Flow[list[Hold]]:
    """What was started; an answer that was lost is looked for."""
    jobs = {job.id: job for job in moved.page.jobs}
    holds: list[Hold] = []
    for decision, answer in zip(moved.transitions, moved.answers, strict=True):
        job, token = jobs[decision.job_id], decision.changes["lease"].token
        if answer is None:
            holds.append(Hold(apply(job, decision), token, decision.attempt))
        elif isinstance(answer, OutcomeUnknownError):
            holds += yield from _found(scope, Hold(job, token, decision.attempt), starts.operation, answer)
    return holds


def _found(scope: Scope, hold: Hold, operation: str, lost: OutcomeUnknownError) -> Flow[list[Hold]]:
    asked = Command(Event.START, operation, Facts(token=hold.token, run=hold.job.run))
    try:
        job = (yield from carry_out(scope, hold.job, asked, failed=lost)).job
    except Exception:  # if it was started after all, its lease runs out
        return []
    return [hold._replace(job=job)]


def _one_by_one(scope: Scope, jobs: Sequence[AnyJob]) -> Flow[list[Hold]]:
    """Start each as a delivery would; what cannot start now is looked at again later."""
    holds: list[Hold] = []
    for job in jobs:
        try:
            holds.append((yield from start(scope, job.delivery, anything)))
        except Exception:  # another worker was quicker, or the next look will tell
            pass
    return holds
