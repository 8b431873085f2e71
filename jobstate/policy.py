"""The policy: how long, how often, how late. A frozen value and pure functions of it; no clock, no randomness."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from jobstate.model import Job, Limit, Name


def _whole_seconds(value: timedelta) -> timedelta:
    if value.microseconds:
        raise ValueError(f"{value} is not a whole number of seconds: the library counts in whole seconds")
    return value


_Year = timedelta(days=366)
_Zero = timedelta(0)
Duration = Annotated[timedelta, Field(ge=_Zero, le=100 * _Year), AfterValidator(_whole_seconds)]
Positive = Annotated[timedelta, Field(gt=_Zero, le=100 * _Year), AfterValidator(_whole_seconds)]


def seconds(value: timedelta) -> int:
    """Whole seconds of a duration."""
    return value.days * 86_400 + value.seconds


Share = Annotated[float, Field(ge=0, le=1)]


class Backoff(BaseModel, frozen=True, extra="forbid"):
    """The pauses between attempts: `first` before the second one, doubled with each further one up to `cap`.

    `jitter` is the share (0 to 1) of the pause by which it is stretched at the most, so that jobs that failed together do not
    return together; a pause may be longer than `cap` by it.
    """

    first: Duration = timedelta(seconds=10)
    cap: Duration = timedelta(hours=1)
    jitter: Share = 0.2

    def pause(self, attempts_used: int, seed: str) -> int:
        """Seconds until the next attempt. The same seed gives the same jitter, so that a decision taken twice is the same.

        Source: exponential backoff with proportional jitter.
        """
        doublings = min(max(attempts_used - 1, 0), 32)
        pause = min(seconds(self.first) << doublings, seconds(self.cap))
        noise = int.from_bytes(blake2b(seed.encode(), digest_size=4).digest()) / 2**32
        return int(pause * (1 + self.jitter * noise))


class Policy(BaseModel, frozen=True, extra="forbid"):
    """What a host decides once for its jobs. All durations are whole seconds, all sizes bytes.

    A job carries its own `ttl` and `max_attempts` from its creation; the rest is read from the policy at each decision.
    """

    ttl: Positive = timedelta(days=7)
    """From creation, or retry, to `expires_at`."""
    max_attempts: Limit = 3
    """Attempts in one budget; a retry by the user opens a fresh one."""
    lease: Positive | None = timedelta(minutes=5)
    """How long a worker owns a job without a heartbeat; None: without end, and nothing is rescued."""
    clock_skew: Positive = timedelta(seconds=10)
    """The margin by which clocks of different machines may differ; at least 1 second, since times are whole seconds."""
    backoff: Duration = timedelta(seconds=10)
    """Pause before the second attempt; it doubles with each further one."""
    backoff_cap: Duration = timedelta(hours=1)
    """The longest pause, before jitter."""
    backoff_jitter: Share = 0.2
    """Share of the pause by which it is stretched at the most, so that jobs that failed together do not return together."""
    endpoint_backoff: Mapping[Name, Backoff] = Field(default_factory=dict[str, Backoff])
    """The pauses of endpoints of their own, by the endpoint's name: instead of the three above."""
    max_give_backs: Annotated[int, Field(ge=0, le=1_000_000)] = 100
    """How often one run's budget may be spared by giving the job back."""
    redispatch_after: Positive = timedelta(minutes=15)
    """When a job that was dispatched, or became available, and has not started is dispatched again."""
    resend_window: Duration = timedelta(minutes=1)
    """How long after a delayed dispatch a repeated retry without a key is taken for the same one."""
    keep_for: Positive | None = None
    """How long a finished job is kept at least; None: no longer than `ttl` says."""
    cleanup_after: Duration = timedelta(days=1)
    """From `expires_at` to the beginning of clean-up: as long a retry of an expired job is possible."""
    forget_after: Duration | None = None
    """From the end of clean-up to the deletion of the row; None: never."""
    inline_limit: Annotated[int, Field(strict=True, ge=0, le=1_000_000_000)] | None = None
    """How long a data URL in a request may be, in bytes: a longer one goes to the artifact store. None: all stay in the row.

    It is read when a job is created, and needs an artifact store wherever its jobs are created, started or shown.
    """

    @property
    def lease_seconds(self) -> int | None:
        """`lease` in seconds."""
        return None if self.lease is None else seconds(self.lease)

    @property
    def skew_seconds(self) -> int:
        """`clock_skew` in seconds."""
        return seconds(self.clock_skew)

    @property
    def cleanup_grace(self) -> int:
        """Seconds from the beginning of a clean-up to its end: a lease and the margin, so that late attempts are over."""
        return (self.lease_seconds or 0) + self.skew_seconds

    def backoff_for(self, job: Job[Any, Any]) -> int:
        """Seconds until the next attempt of a job that has used `attempts_used` attempts, by the pauses of its endpoint."""
        backoff = self.endpoint_backoff.get(job.endpoint)
        if backoff is None:
            backoff = Backoff.model_construct(first=self.backoff, cap=self.backoff_cap, jitter=self.backoff_jitter)
        return backoff.pause(job.attempts_used, f"{job.id}/{job.run}")
