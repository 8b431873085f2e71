"""The actors of a job service: the production flows, each as somebody would run it. A host adds its own."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NamedTuple

from jobstate.effects import Flow
from jobstate.errors import LeaseLostError
from jobstate.flows import attempts, commands, many, sweeps
from jobstate.flows.dispatch import DISPATCH_DELAYED
from jobstate.flows.settle import Dispatching, Scope
from jobstate.lifecycle import Draft, Facts
from jobstate.model import AnyJob, Delivery, Event, JobError, JobResponse, JobStatus
from jobstate.payload import json_object
from jobstate.policy import Policy
from jobstate.query import JobFilter
from jobstate.testing.explorer.space import Actor
from jobstate.testing.explorer.world import Choose, Take, World

BEGIN = 1_000
"""When an exploration begins (Unix seconds)."""

POLICY = Policy(
    ttl=timedelta(seconds=100),
    max_attempts=2,
    lease=timedelta(seconds=20),
    clock_skew=timedelta(seconds=2),
    backoff=timedelta(0),
    redispatch_after=timedelta(seconds=15),
    resend_window=timedelta(seconds=30),
    max_give_backs=1,
    cleanup_after=timedelta(seconds=10),
)
"""A policy whose moments are near one another."""

LEASE_OVER, EXPIRY, CLEANUP, CLEANUP_END = BEGIN + 23, BEGIN + 100, BEGIN + 110, BEGIN + 133
"""When, under this policy, a lease of BEGIN and its margin are over; a job expires; its clean-up is due; and may end."""

SCOPE = Scope(POLICY, None, Dispatching.AFTER, has_artifacts=True)
ORGANIZATION = "org"
ENDPOINT = "/v1/extract"
REQUEST = json_object("request", {"pages": 2})
COMPLETE, FAIL, RELEASE, GIVE_BACK, HEARTBEAT = "complete", "fail", "release", "give back", "heartbeat"
_EVENTS = {COMPLETE: Event.COMPLETE, FAIL: Event.FAIL, RELEASE: Event.RELEASE, GIVE_BACK: Event.GIVE_BACK}


def draft(*, key: str | None = None, artifacts: bool = False, request: Any = REQUEST) -> Draft:
    """What a creator asks for."""
    parts = {"scan": b"scan"} if artifacts else {}
    return Draft(organization_id=ORGANIZATION, endpoint=ENDPOINT, request=request, idempotency_key=key, artifacts=parts)


def creator(
    name: str = "create",
    *,
    key: str | None = "key",
    artifacts: bool = False,
    request: Any = REQUEST,
    scope: Scope = SCOPE,
) -> Actor:
    """Creates a job; two with one key are the same client twice."""
    return Actor(name, lambda: commands.create(scope, draft(key=key, artifacts=artifacts, request=request)))


def worker(
    name: str = "worker",
    endings: tuple[str, ...] = (COMPLETE,),
    *,
    delivery: Delivery | None = None,
    artifacts: bool = False,
    scope: Scope = SCOPE,
) -> Actor:
    """Receives a delivery (or has this one), starts it, and ends its attempt in any of these ways."""
    return Actor(name, lambda: _work(scope, endings, delivery, artifacts))


def loser(name: str = "broker") -> Actor:
    """A broker that loses a message: it takes a delivery, any one of those on their way, and nobody receives it."""
    return Actor(name, _lose)


def _lose() -> Flow[None]:
    _ = yield from Take()


class Worked(NamedTuple):
    """What a worker's attempt came to: the ending it asked for (None when its job was gone), and the error it met there."""

    ending: Event | None
    error: Exception | None = None


def _work(scope: Scope, endings: tuple[str, ...], delivery: Delivery | None, artifacts: bool) -> Flow[Worked]:
    if delivery is None:
        delivery = yield from Take()
    hold = yield from attempts.start(scope, delivery, lambda job: None)
    if hold.job.request is None:
        try:
            yield from attempts.heartbeat(scope, hold)
        except LeaseLostError:
            return Worked(None)
        raise AssertionError("a live attempt found no request")
    ending = endings[0] if len(endings) == 1 else endings[(yield from Choose(len(endings)))]
    parts = {"page": b"page"} if artifacts else {}
    if ending == HEARTBEAT:
        yield from attempts.heartbeat(scope, hold)
        ending = COMPLETE
    try:
        if ending == COMPLETE:
            yield from attempts.complete(scope, hold, JobResponse[Any](body=2), parts)
        elif ending == GIVE_BACK:
            yield from attempts.give_back(scope, hold)
        else:
            yield from attempts.fail(scope, hold, JobError(code="broken", message=""), retryable=ending == RELEASE)
    except Exception as error:  # noqa: BLE001  # the answer of the ending
        return Worked(_EVENTS[ending], error)
    return Worked(_EVENTS[ending])


def canceller(name: str = "cancel", job_id: str | None = None, *, scope: Scope = SCOPE) -> Actor:
    """Cancels the job."""
    return _changer(name, Event.CANCEL, {}, job_id, scope)


def retrier(name: str = "retry", job_id: str | None = None, *, key: str | None = None, scope: Scope = SCOPE) -> Actor:
    """Retries the job."""
    return _changer(name, Event.RETRY, {"retry_key": key}, job_id, scope)


def _changer(name: str, event: Event, facts: Facts, job_id: str | None, scope: Scope) -> Actor:
    there = the_job_id() if job_id is None else job_id
    return Actor(name, lambda: commands.change(scope, there, event, facts), event)


def resender(name: str = "resend", job_id: str | None = None, *, scope: Scope = SCOPE) -> Actor:
    """Retries the job, and, told that dispatch is delayed, once more, as HTTP clients do by themselves."""
    there = the_job_id() if job_id is None else job_id
    return Actor(name, lambda: _resend(scope, there), Event.RETRY)


def _resend(scope: Scope, job_id: str) -> Flow[AnyJob]:
    job = yield from commands.change(scope, job_id, Event.RETRY, {"retry_key": None})
    if any(warning.code == DISPATCH_DELAYED for warning in job.warnings or ()):
        job = yield from commands.change(scope, job_id, Event.RETRY, {"retry_key": None})
    return job


def bulk_retrier(name: str = "retry many", *, scope: Scope = SCOPE) -> Actor:
    """Retries all that failed or was cancelled."""
    where = JobFilter(statuses=(JobStatus.FAILED, JobStatus.CANCELLED))
    return Actor(name, lambda: many.change_many(scope, Event.RETRY, where, dry_run=False, actor=None, reason=None))


def relayer(name: str = "relay", *, scope: Scope = SCOPE) -> Actor:
    """The sweep that dispatches what is pending, and again what never started."""
    return Actor(name, lambda: sweeps.relay(scope))


def rescuer(name: str = "rescue", *, scope: Scope = SCOPE) -> Actor:
    """The sweep that takes over from lost workers."""
    return Actor(name, lambda: sweeps.rescue(scope))


def expirer(name: str = "expire", *, scope: Scope = SCOPE) -> Actor:
    """The sweep that expires."""
    return Actor(name, lambda: sweeps.expire(scope))


def cleaner(name: str = "clean", *, scope: Scope = SCOPE) -> Actor:
    """The sweep that cleans up."""
    return Actor(name, lambda: sweeps.cleanup(scope))


# Worlds to begin with


def the_job_id() -> str:
    """The id of the job in the worlds below."""
    [job] = queued_world().jobs
    return job.id


def empty_world() -> World:
    """No job yet."""
    return World.empty(BEGIN)


def queued_world(*, artifacts: bool = False) -> World:
    """A job that is queued, and whose delivery is on its way."""
    return empty_world().run(commands.create(SCOPE, draft(artifacts=artifacts)))[1]


def finished_world(ending: str, *, artifacts: bool = False) -> World:
    """A job whose first attempt ended in this way."""
    return queued_world(artifacts=artifacts).run(_work(SCOPE, (ending,), None, artifacts), "first")[1]


def running_world() -> World:
    """A job in progress, whose worker is dead."""

    def begin() -> Flow[Any]:
        delivery = yield from Take()
        return (yield from attempts.start(SCOPE, delivery, lambda job: None))

    return queued_world().run(begin(), "dead")[1]


def cancelled_world() -> World:
    """A job that was cancelled in the queue."""
    return queued_world().run(commands.change(SCOPE, the_job_id(), Event.CANCEL), "somebody")[1]


def expired(world: World, at: int = CLEANUP) -> World:
    """The same job, found at this time (Unix seconds) by the sweep that expires."""
    return world.at(at).run(sweeps.expire(SCOPE), "expirer")[1]
