"""What time asks: relay, rescue, expire, clean up, forget. Each is a loop of single-job decisions.

A sweep pages past what it cannot move, and one bad row, or one that another actor was quicker with, never stops it. It is safe
to kill at any step and to run several at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from jobstate.effects import Delete, DeleteArtifacts, DueJobs, Flow, Now, SaveMany
from jobstate.errors import RepositoryError, StaleJobError
from jobstate.flows.dispatch import deliver
from jobstate.flows.settle import Dispatching, Scope, command, judge
from jobstate.lifecycle import Accepted, may_be_forgotten
from jobstate.model import Event, Job
from jobstate.payload import artifact_prefix
from jobstate.policy import seconds
from jobstate.query import Cursor, Due

AnyJob = Job[Any, Any]

PAGE = 500
"""Rows that are decided and saved together."""


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


def sweep(scope: Scope) -> Flow[SweepReport]:
    """All sweeps once, each also when another met an error of a port; the errors are raised together at the end."""
    errors: list[Exception] = []
    report: list[Swept] = []
    for one in (expire, rescue, cleanup, forget, relay):
        try:
            report.append((yield from one(scope)))
        except Exception as error:
            errors.append(error)
    if errors:
        raise ExceptionGroup(f"{len(errors)} of 5 sweeps met an error of a port; the others were made", errors)
    return SweepReport(*report)


Handle = Callable[[Scope, list[AnyJob]], Flow[Swept]]


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


def _over(scope: Scope, due: Due, ago: int, handle: Handle) -> Flow[Swept]:
    """Every part of a due page, as far as it was due at the beginning."""
    total = Swept()
    until = (yield from Now()) - ago
    after: Cursor | None = None
    while True:
        page = yield from DueJobs(due, until, PAGE, after)
        total = total.plus(Swept(unreadable=tuple(error.job_id for error in page.unreadable)))
        if page.jobs:
            total = total.plus((yield from handle(scope, page.jobs)))
        if page.after is None:
            return total
        after = page.after


def _decide(scope: Scope, event: Event, jobs: list[AnyJob]) -> Flow[list[Accepted]]:
    asked = yield from command(event)
    accepted: list[Accepted] = []
    for job in jobs:
        decision = yield from judge(scope, job, asked)
        if isinstance(decision, Accepted):
            accepted.append(decision)
    return accepted


def _save(jobs: list[AnyJob], accepted: list[Accepted]) -> Flow[tuple[Swept, list[Accepted]]]:
    """Save what was accepted of these jobs: the count, and what was saved."""
    answers: Sequence[RepositoryError | None] = ()
    if accepted:
        answers = yield from SaveMany(accepted)
    saved = [decision for decision, answer in zip(accepted, answers, strict=True) if answer is None]
    lost = sum(isinstance(answer, StaleJobError) for answer in answers)
    failed = len(accepted) - len(saved) - lost
    return Swept(len(saved), len(jobs) - len(accepted), lost, failed), saved


def _move(scope: Scope, event: Event, jobs: list[AnyJob]) -> Flow[Swept]:
    return (yield from _save(jobs, (yield from _decide(scope, event, jobs))))[0]


def _rescue(scope: Scope, jobs: list[AnyJob]) -> Flow[Swept]:
    return (yield from _move(scope, Event.RESCUE, jobs))


def _expire(scope: Scope, jobs: list[AnyJob]) -> Flow[Swept]:
    return (yield from _move(scope, Event.EXPIRE, jobs))


def _begin_cleanup(scope: Scope, jobs: list[AnyJob]) -> Flow[Swept]:
    swept, saved = yield from _save(jobs, (yield from _decide(scope, Event.BEGIN_CLEANUP, jobs)))
    yield from _clear(scope, saved)  # what stays, or comes late, is cleared before the end
    return swept


def _end_cleanup(scope: Scope, jobs: list[AnyJob]) -> Flow[Swept]:
    accepted = yield from _decide(scope, Event.END_CLEANUP, jobs)
    cleared = yield from _clear(scope, accepted)
    swept, _ = yield from _save(jobs, cleared)
    unclear = len(accepted) - len(cleared)
    return swept._replace(left=swept.left - unclear, failed=swept.failed + unclear)


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


def _forget(scope: Scope, jobs: list[AnyJob]) -> Flow[Swept]:
    swept = Swept()
    now = yield from Now()
    for job in jobs:
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
    return swept


def _send(scope: Scope, jobs: list[AnyJob]) -> Flow[Swept]:
    """Dispatch each, then mark what was taken; a mark that is lost only repeats a delivery."""
    marks: list[Accepted] = []
    sent, failed = 0, 0
    for job in jobs:
        try:
            taken = yield from deliver(scope, job)
            sent += 1
            mark = taken if isinstance(taken, Accepted) else (yield from judge(scope, job, taken))
        except Exception:
            failed += 1
            continue
        if isinstance(mark, Accepted) and mark is not taken:
            marks.append(mark)
    if marks:
        yield from SaveMany(marks)
    return Swept(moved=sent, failed=failed)
