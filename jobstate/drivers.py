"""The two drivers: they carry out a flow's effects on the ports, and throw a port's error in at the `yield`.

One table says which port each effect goes to; the async driver awaits what the sync one returns. Ids and the system clock are
made here, so that no flow knows of chance or time.
"""

from __future__ import annotations

import time
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from os import urandom
from typing import Any, TypeVar

from jobstate import effects as fx
from jobstate.model import Delivery

R = TypeVar("R")

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_IN_ORDER = bytes.maketrans(_BASE64, b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz")
"""From the alphabet of base64 to one that is URL-safe, and in the order of ASCII."""


def new_id(prefix: str, now: float) -> str:
    """A prefix, an underscore and 21 URL-safe characters: 48 bits of milliseconds and 78 random bits, ordered by time."""
    bits = int(now * 1000) << 80 | int.from_bytes(urandom(10), "big")
    return prefix + "_" + b2a_base64(bits.to_bytes(16, "big"))[:21].translate(_IN_ORDER).decode()


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Unix seconds."""
        return time.time()


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of one service, all of one colour; the protocols are in `jobstate.ports`, the listeners' in `observe`."""

    repository: Any
    dispatcher: Any
    artifacts: Any
    clock: Any
    listeners: Any = None
    gatherer: Any = None
    """What sends the saves that are made at once; without one, each goes to the repository by itself."""

    def dispatch(self, delivery: Delivery, task_name: str, not_before: int | None, **options: Any) -> Any:
        """What the dispatcher answers: one that can delay, if there is a time."""
        if not_before is None:
            return self.dispatcher.dispatch(delivery, task_name, **options)
        return self.dispatcher.dispatch_at(delivery, task_name, not_before, **options)

    def within(self, delivery: Delivery, task_name: str | None, not_before: int | None) -> Callable[[Any], Any] | None:
        """What a transactional dispatcher does in the repository's transaction."""
        if task_name is None:
            return None
        return lambda transaction: self.dispatch(delivery, task_name, not_before, transaction=transaction)


_CALLS: dict[type[fx.Effect[Any]], Callable[[Any, Ports], Any]] = {
    fx.Now: lambda e, p: p.clock.now(),
    fx.NewId: lambda e, p: p.clock.now(),
    fx.Load: lambda e, p: p.repository.load(
        e.job_id,
        organization_id=e.organization_id,
        include_request=e.include_request,
        include_response=e.include_response,
    ),
    fx.Insert: lambda e, p: p.repository.insert(e.job, e.record, within=p.within(e.job.delivery, e.task_name, e.not_before)),
    fx.Save: lambda e, p: (p.gatherer or p.repository).save(e.transition),
    fx.SaveAndDispatch: lambda e, p: p.repository.save(e.transition, within=p.within(e.delivery, e.task_name, e.not_before)),
    fx.SaveMany: lambda e, p: p.repository.save_many(e.transitions),
    fx.List: lambda e, p: p.repository.list(
        e.where,
        e.page,
        include_request=e.include_request,
        include_response=e.include_response,
    ),
    fx.DueJobs: lambda e, p: p.repository.due(e.due, until=e.until, limit=e.limit, after=e.after),
    fx.MoveDue: lambda e, p: p.repository.move_due(
        e.due,
        until=e.until,
        limit=e.limit,
        after=e.after,
        decide=e.decide,
        include_request=e.include_request,
    ),
    fx.Count: lambda e, p: p.repository.count(e.where),
    fx.History: lambda e, p: p.repository.history(e.job_id, after_version=e.after_version),
    fx.Delete: lambda e, p: p.repository.delete(e.job_id, e.version),
    fx.Dispatch: lambda e, p: p.dispatch(e.delivery, e.task_name, e.not_before),
    fx.Revoke: lambda e, p: p.dispatcher.revoke(e.task_name),
    fx.PutArtifact: lambda e, p: p.artifacts.put(e.key, e.data),
    fx.GetArtifact: lambda e, p: p.artifacts.get(e.key),
    fx.DeleteArtifacts: lambda e, p: p.artifacts.delete(e.prefix),
}

_RESULTS: dict[type[fx.Effect[Any]], Callable[[Any, Any], Any]] = {
    fx.Now: lambda e, now: int(now),
    fx.NewId: lambda e, now: new_id(e.kind.value, now),
}


def perform(effect: fx.Effect[Any], ports: Ports) -> Any:
    """Carry out one effect on sync ports."""
    kind = type(effect)
    result = _CALLS[kind](effect, ports)
    return _RESULTS[kind](effect, result) if kind in _RESULTS else result


async def perform_async(effect: fx.Effect[Any], ports: Ports) -> Any:
    """Carry out one effect on async ports; a clock may be of either colour."""
    kind = type(effect)
    result = _CALLS[kind](effect, ports)
    if hasattr(result, "__await__"):  # a fifth of the time of `inspect.isawaitable`
        result = await result
    return _RESULTS[kind](effect, result) if kind in _RESULTS else result


def run(flow: fx.Flow[R], ports: Ports) -> R:
    """Run a flow to its end on sync ports. Raises what the flow raises."""
    try:
        effect = next(flow)
        while True:
            try:
                result = perform(effect, ports)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        answer: R = stop.value
        return answer
    finally:
        flow.close()


async def run_async(flow: fx.Flow[R], ports: Ports) -> R:
    """Run a flow to its end on async ports. A cancelled task closes the flow where it stands."""
    try:
        effect = next(flow)
        while True:
            try:
                result = await perform_async(effect, ports)
            except Exception as error:
                effect = flow.throw(error)
            else:
                effect = flow.send(result)
    except StopIteration as stop:
        answer: R = stop.value
        return answer
    finally:
        flow.close()
