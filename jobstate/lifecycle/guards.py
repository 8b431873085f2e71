"""The guards: pure functions of (job, at, facts, policy) that answer None, or the `Reason` why not.

A guard runs once in a decision, reads no clock, and puts its figures in its words.
"""

from __future__ import annotations

from typing import Final

from jobstate.lifecycle.machine import Facts, Guard, Reason
from jobstate.model import AnyJob, JobStatus
from jobstate.policy import Policy, seconds


def _lease_live(job: AnyJob, at: int, policy: Policy) -> int | None:
    """The end of a live lease with its margin; None when the lease is not live."""
    if job.status is not JobStatus.IN_PROGRESS or job.lease is None or job.lease.expires_at is None:
        return None
    end = job.lease.expires_at + policy.skew_seconds
    return end if end > at else None


def lease_is_own(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """The worker's token is the job's."""
    if job.lease is not None and job.lease.token == facts["token"]:
        return None
    return Reason("lease_lost", "the lease belongs to another attempt, or to none")


def lease_is_over(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """The lease has an end, and it lies further back than the margin."""
    if job.lease is None or job.lease.expires_at is None:
        return Reason("lease_without_end", "the lease has no end, so nobody can say that its worker is lost")
    if end := _lease_live(job, at, policy):
        return Reason("lease_live", f"the lease is live until {end} (margin included), now is {at}", end)
    return None


def lease_is_not_live(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """Not in progress under a live lease."""
    if end := _lease_live(job, at, policy):
        return Reason("lease_live", f"it is in progress under a lease that is live until {end}, now is {at}", end)
    return None


def run_is_current(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """The run that is spoken of is the job's run."""
    if facts["run"] == job.run:
        return None
    code = "run_over" if facts["run"] < job.run else "run_not_reached"
    return Reason(code, f"run {facts['run']} was named, the job is in run {job.run}")


def not_dispatched(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """No dispatcher has taken this run yet."""
    if job.dispatched_at is None:
        return None
    return Reason("already_dispatched", f"run {job.run} was dispatched at {job.dispatched_at}")


def available(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """`available_at` is none or reached."""
    if job.available_at is None or job.is_available(at):
        return None
    return Reason("not_available", f"it is available from {job.available_at} on, now is {at}", job.available_at)


def not_expired(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """`expires_at` is not reached."""
    if at < job.expires_at:
        return None
    return Reason("expired", f"it expired at {job.expires_at}, now is {at}")


def attempts_left(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """The budget has another attempt."""
    if job.attempts_used < job.max_attempts:
        return None
    return Reason("no_attempts_left", f"{job.attempts_used} of {job.max_attempts} attempts are used")


def give_backs_left(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """`Policy.max_give_backs` is not reached."""
    if job.give_backs < policy.max_give_backs:
        return None
    return Reason("no_give_backs_left", f"it was given back {job.give_backs} times, at most {policy.max_give_backs} are free")


def accepted_once(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """It was in the queue at least once (run >= 1)."""
    if job.run >= 1:
        return None
    return Reason("never_accepted", "it never was in the queue (run 0): create a new job")


def cleanup_not_begun(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """`cleanup_started_at` is none."""
    if job.cleanup_started_at is None:
        return None
    return Reason("cleaned_up", f"clean-up began at {job.cleanup_started_at} and took its request: create a new job")


def expiry_reached(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """`expires_at` is reached."""
    if at >= job.expires_at:
        return None
    return Reason("not_due", f"it expires at {job.expires_at}, now is {at}", job.expires_at)


def cleanup_is_due(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """`Policy.cleanup_after` past `expires_at`."""
    if at >= (due := job.expires_at + seconds(policy.cleanup_after)):
        return None
    return Reason("not_due", f"clean-up is due at {due}, now is {at}", due)


def cleanup_may_end(job: AnyJob, at: int, facts: Facts, policy: Policy) -> Reason | None:
    """Begun, not ended, and a lease and the margin past the beginning."""
    if job.cleanup_started_at is None:
        return Reason("cleanup_not_begun", "clean-up has not begun")
    if job.cleanup_completed_at is not None:
        return Reason("cleaned_up", f"clean-up ended at {job.cleanup_completed_at}")
    if at >= (due := job.cleanup_started_at + policy.cleanup_grace):
        return None
    return Reason("not_due", f"a late attempt may still write until {due}, now is {at}", due)


CODES: Final[dict[Guard, tuple[str, ...]]] = {
    lease_is_own: ("lease_lost",),
    lease_is_over: ("lease_without_end", "lease_live"),
    lease_is_not_live: ("lease_live",),
    run_is_current: ("run_over", "run_not_reached"),
    not_dispatched: ("already_dispatched",),
    available: ("not_available",),
    not_expired: ("expired",),
    attempts_left: ("no_attempts_left",),
    give_backs_left: ("no_give_backs_left",),
    accepted_once: ("never_accepted",),
    cleanup_not_begun: ("cleaned_up",),
    expiry_reached: ("not_due",),
    cleanup_is_due: ("not_due",),
    cleanup_may_end: ("cleanup_not_begun", "cleaned_up", "not_due"),
}
"""The codes that each guard may give."""

NO_ONLY_IN: Final[dict[Guard, frozenset[JobStatus]]] = {lease_is_not_live: frozenset({JobStatus.IN_PROGRESS})}
"""Guards that can say no in these statuses only; every other guard can wherever a row has it."""
