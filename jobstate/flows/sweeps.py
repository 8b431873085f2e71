"""What time asks: relay, rescue, expire, clean up, forget. Each is a loop of single-job decisions.

A sweep pages past what it cannot move, and one bad row, or one that another actor was quicker with, never stops it. It is safe
to kill at any step and to run several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple

from jobstate.effects import Delete, DeleteArtifacts, DueJobs, Flow, IdKind, Moved, MoveDue, NewId, Now, SaveMany
from jobstate.errors import RepositoryError, StaleJobError
from jobstate.flows.dispatch import deliver
from jobstate.flows.settle import Dispatching, Scope, judge
from jobstate.lifecycle import Accepted, decide, may_be_forgotten
from jobstate.model import AnyJob, Event
from jobstate.payload import artifact_prefix
from jobstate.policy import Policy, seconds
from jobstate.query import Cursor, Due, DuePage, due_time

PAGE = 1_000
"""Rows that are decided and saved together."""

LOOK = 20
"""Rows that `lag` looks at."""


class Swept(NamedTuple):
    """What one sweep did.

    `moved` rows changed; `left` were on the due page and the lifecycle says not now; `lost` were moved by somebody else
    meanwhile; `failed` met an error of a port, and the next sweep finds them; `unreadable` are ids of rows that cannot be read.
    """

    moved: int = 0
    left: int = 0
    lost: int = 0
    failed: int = 0
    unreadable: tuple[str, ...] = ()

    def plus(self, other: Swept) -> Swept:
        """The sum."""
        return Swept(
            self.moved + other.moved,
            self.left + other.left,
            self.lost + other.lost,
            self.failed + other.failed,
            self.unreadable + other.unreadable,
        )


class SweepReport(NamedTuple):
    """What each sweep of one `sweep()` did, in the order they ran."""

    expire: Swept
    rescue: Swept
    cleanup: Swept
    forget: Swept
    relay: Swept


class SweepError(ExceptionGroup[Exception]):
    """What the sweeps of one `sweep()` raised, together; `made` has what the others did, by their names.

    Each part that `except*`, `split` or `subgroup` makes of it has the same `made`.
    """

    made: Mapping[str, Swept] = MappingProxyType({})

    def derive(self, errors: Sequence[Any], /) -> Any:
        """As `ExceptionGroup.derive`."""
        part = SweepError(self.message, errors)
        part.made = self.made
        return part


def sweep(scope: Scope) -> Flow[SweepReport]:
    """All sweeps once, each also when another met an error of a port; SweepError has the errors together at the end."""
    errors: list[Exception] = []
    made: dict[str, Swept] = {}
    for name, one in zip(SweepReport._fields, (expire, rescue, cleanup, forget, relay), strict=True):
        try:
            made[name] = yield from one(scope)
        except Exception as error:
            errors.append(error)
    if errors:
        raised = SweepError(f"{len(errors)} of 5 sweeps met an error of a port; the others were made", errors)
        raised.made = made
        raise raised
    return SweepReport(**made)


Part = Callable[[Scope, "Place"], Flow[tuple[DuePage, Swept]]]
"""What a sweep does with a part of a due page: the part, and what came of it."""


class Place(NamedTuple):
    """Where a sweep is on its due page: rows that were due at `until` (Unix seconds), behind `after`."""

    due: Due
    until: int
    after: Cursor | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Decides one event on many jobs, all at one time, under one operation id."""

    event: Event
    now: int
    policy: Policy
    operation: str

    def __call__(self, jobs: Sequence[AnyJob]) -> list[Accepted]:
        """What of these jobs moves."""
        decisions = (decide(job, self.event, self.now, policy=self.policy, operation=self.operation) for job in jobs)
        return [decision for decision in decisions if isinstance(decision, Accepted)]


def lag(scope: Scope) -> Flow[int]:
    """Seconds for which jobs have waited for a rescue or an expiry that is possible now; 0 when none has.

    Of each due page the first jobs are looked at, the longest due.
    """
    found = [0]
    for event, due, ago in ((Event.RESCUE, Due.UNLEASED, scope.policy.skew_seconds), (Event.EXPIRE, Due.EXPIRING, 0)):
        now = yield from Now()
        page = yield from DueJobs(due, now - ago, LOOK)
        moving = {decision.job_id for decision in Verdict(event, now, scope.policy, "")(page.jobs)}
        found += [now - ago - (due_time(due, job) or now) for job in page.jobs if job.id in moving]
    return max(found)


def relay(scope: Scope) -> Flow[Swept]:
    """Dispatch what is pending and due, and again what was dispatched long ago and has not started."""
    if scope.dispatching is Dispatching.NEVER:
        return Swept()
    pending = yield from _over(scope, Due.PENDING, 0, _send)
    unstarted = yield from _over(scope, Due.UNSTARTED, seconds(scope.policy.redispatch_after), _send)
    return pending.plus(unstarted)


def rescue(scope: Scope) -> Flow[Swept]:
    """Take over what is in progress under a lease that is not live any more."""
    return (yield from _over(scope, Due.UNLEASED, scope.policy.skew_seconds, _rescue))


def expire(scope: Scope) -> Flow[Swept]:
    """Expire what has reached `expires_at`."""
    return (yield from _over(scope, Due.EXPIRING, 0, _expire))


def cleanup(scope: Scope) -> Flow[Swept]:
    """Begin clean-ups that are due, and end those whose late attempts are over."""
    begun = yield from _over(scope, Due.UNCLEANED, seconds(scope.policy.cleanup_after), _begin_cleanup)
    ended = yield from _over(scope, Due.CLEANING, scope.policy.cleanup_grace, _end_cleanup)
    return begun.plus(ended)


def forget(scope: Scope) -> Flow[Swept]:
    """Delete rows whose clean-up ended `Policy.forget_after` ago."""
    if scope.policy.forget_after is None:
        return Swept()
    return (yield from _over(scope, Due.CLEANED, seconds(scope.policy.forget_after), _forget))


def _over(scope: Scope, due: Due, ago: int, part: Part) -> Flow[Swept]:
    """Every part of a due page, as far as it was due at the beginning."""
    total = Swept()
    place: Place | None = Place(due, (yield from Now()) - ago)
    while place is not None:
        page, swept = yield from part(scope, place)
        total = total.plus(swept).plus(Swept(unreadable=tuple(error.job_id for error in page.unreadable)))
        place = None if page.after is None else place._replace(after=page.after)
        del page  # before the next one is read
    return total


def _page(place: Place) -> Flow[DuePage]:
    return (yield from DueJobs(place.due, place.until, PAGE, place.after))


def _verdict(scope: Scope, event: Event) -> Flow[Verdict]:
    operation = yield from NewId(IdKind.OPERATION)
    now = yield from Now()
    return Verdict(event, now, scope.policy, operation)


def _move(scope: Scope, place: Place, event: Event) -> Flow[tuple[Moved, Swept]]:
    """Decide and save a part of a due page: in one transaction where the repository offers it."""
    if scope.shares_sweeps:
        moved = yield from MoveDue(place.due, place.until, PAGE, place.after, (yield from _verdict(scope, event)))
        return moved, _count(len(moved.page.jobs), moved.answers)
    page = yield from _page(place)
    accepted = (yield from _verdict(scope, event))(page.jobs) if page.jobs else []
    return (yield from _save(page, accepted))


def _save(page: DuePage, accepted: list[Accepted]) -> Flow[tuple[Moved, Swept]]:
    """Save what was accepted of a page."""
    answers: Sequence[RepositoryError | None] = ()
    if accepted:
        answers = yield from SaveMany(accepted)
    return Moved(page, accepted, answers), _count(len(page.jobs), answers)


def _count(jobs: int, answers: Sequence[RepositoryError | None]) -> Swept:
    saved = sum(answer is None for answer in answers)
    lost = sum(isinstance(answer, StaleJobError) for answer in answers)
    return Swept(saved, jobs - len(answers), lost, len(answers) - saved - lost)


def _rescue(scope: Scope, place: Place) -> Flow[tuple[DuePage, Swept]]:
    moved, swept = yield from _move(scope, place, Event.RESCUE)
    return moved.page, swept


def _expire(scope: Scope, place: Place) -> Flow[tuple[DuePage, Swept]]:
    moved, swept = yield from _move(scope, place, Event.EXPIRE)
    return moved.page, swept


def _begin_cleanup(scope: Scope, place: Place) -> Flow[tuple[DuePage, Swept]]:
    moved, swept = yield from _move(scope, place, Event.BEGIN_CLEANUP)
    begun = [decision for decision, answer in zip(moved.transitions, moved.answers, strict=True) if answer is None]
    yield from _clear(scope, begun)  # what stays, or comes late, is cleared before the end
    return moved.page, swept


def _end_cleanup(scope: Scope, place: Place) -> Flow[tuple[DuePage, Swept]]:
    page = yield from _page(place)
    accepted = (yield from _verdict(scope, Event.END_CLEANUP))(page.jobs) if page.jobs else []
    cleared = yield from _clear(scope, accepted)
    _, swept = yield from _save(page, cleared)
    unclear = len(accepted) - len(cleared)
    return page, swept._replace(left=swept.left - unclear, failed=swept.failed + unclear)


def _clear(scope: Scope, decisions: list[Accepted]) -> Flow[list[Accepted]]:
    """Delete all artifacts of these jobs; those for which it worked."""
    if not scope.has_artifacts:
        return decisions
    cleared: list[Accepted] = []
    for decision in decisions:
        try:
            yield from DeleteArtifacts(artifact_prefix(decision.job_id))
            cleared.append(decision)
        except Exception:  # one store's fault must not stop the sweep; the next one finds the job
            pass
    return cleared


def _forget(scope: Scope, place: Place) -> Flow[tuple[DuePage, Swept]]:
    page = yield from _page(place)
    swept = Swept()
    now = yield from Now()
    for job in page.jobs:
        if not may_be_forgotten(job, now, scope.policy):
            swept = swept.plus(Swept(left=1))
            continue
        try:
            yield from Delete(job.id, job.version)
        except StaleJobError:
            swept = swept.plus(Swept(lost=1))
        except Exception:
            swept = swept.plus(Swept(failed=1))
        else:
            swept = swept.plus(Swept(moved=1))
    return page, swept


def _send(scope: Scope, place: Place) -> Flow[tuple[DuePage, Swept]]:
    """Dispatch each, then mark what was taken; a mark that is lost only repeats a delivery."""
    page = yield from _page(place)
    marks: list[Accepted] = []
    sent, failed = 0, 0
    for job in page.jobs:
        try:
            taken = yield from deliver(scope, job)
            mark = taken if isinstance(taken, Accepted) else (yield from judge(scope, job, taken))
        except Exception:
            failed += 1
            continue
        sent += 1
        if isinstance(mark, Accepted) and mark is not taken:
            marks.append(mark)
    if marks:
        yield from SaveMany(marks)
    return page, Swept(moved=sent, failed=failed)
