"""The world of an exploration: everything that actors share, as one value. Knows no actor and no search.

A world is never changed: `perform` answers another one. What it does with an effect is what the drivers do with it, on the
memory repository; only deliveries, time and chance are the explorer's own.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, cast

from pydantic import BaseModel

from jobstate import effects as fx
from jobstate.drivers import Ports, perform
from jobstate.lifecycle import Accepted
from jobstate.memory import MemoryArtifactStore, MemoryRepository
from jobstate.model import AnyJob, Delivery, HistoryRecord, Job

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Take(fx.Effect[Delivery]):
    """An effect of the explorer: the next delivery on its way, taken out. An actor that finds none waits."""


@dataclass(frozen=True, slots=True)
class Choose(fx.Effect[int]):
    """An effect of the explorer: any number from 0 to below `options`; each is tried."""

    options: int


class Answer:
    """What an effect, or a whole flow, answered: a value, or the error that was raised."""

    __slots__ = ("error", "value")

    def __init__(self, value: Any = None, error: Exception | None = None) -> None:
        self.value = value
        self.error = error

    def __repr__(self) -> str:
        return brief(self.value) if self.error is None else f"raised {type(self.error).__name__}: {self.error}"


class _Clock:
    def __init__(self, time: int) -> None:
        self.time = time

    def now(self) -> int:
        return self.time


class _Queue:
    """The dispatcher of a world: what it is given is on its way, in no order."""

    transactional = False

    def __init__(self, queue: tuple[Delivery, ...]) -> None:
        self.queue = queue

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        self.queue = (*self.queue, delivery)
        return task_name

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """The same: it may come early, or never."""
        return self.dispatch(delivery, task_name)

    def revoke(self, task_name: str) -> None:
        """Nothing rests on it."""


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What actors share, at one moment.

    Attributes:
        repository: never written to; `perform` writes to a copy.
        queue: deliveries on their way, in no order.
        sent: (job id, run) of every delivery that was ever dispatched.
        artifacts: bytes by key.
        time: Unix seconds.
        flying: writes whose answer was lost, which may yet land.
        key: equal for equal worlds.
    """

    repository: MemoryRepository
    queue: tuple[Delivery, ...]
    sent: frozenset[tuple[str, int]]
    artifacts: Mapping[str, bytes]
    time: int
    flying: tuple[fx.Effect[Any], ...]
    key: Hashable

    @classmethod
    def empty(cls, time: int) -> World:
        """A world without jobs at this time (Unix seconds)."""
        return make_world(MemoryRepository(), (), frozenset(), {}, time, ())

    def perform(self, effect: fx.Effect[Any]) -> tuple[Answer, World]:
        """What the effect answers, and the world after it. `NewId`, `Take` and `Choose` are the search's."""
        repository, artifacts, queue = self.repository.copy(), MemoryArtifactStore(), _Queue(self.queue)
        for key, data in self.artifacts.items():
            artifacts.put(key, data)
        try:
            answer = Answer(perform(effect, Ports(repository, queue, artifacts, _Clock(self.time))))
        except Exception as error:  # noqa: BLE001  # whatever a port raises goes into the flow
            return Answer(error=error), self
        if not isinstance(effect, WRITES):
            return answer, self
        sent = self.sent
        if isinstance(effect, fx.Dispatch):
            sent = sent | {(effect.delivery.job_id, effect.delivery.run)}
        kept = {key: artifacts.get(key) for key in artifacts.keys()}  # noqa: SIM118  # a store is no mapping
        return answer, make_world(repository, queue.queue, sent, kept, self.time, self.flying)

    def at(self, time: int) -> World:
        """The same world at another time."""
        return make_world(self.repository, self.queue, self.sent, self.artifacts, time, self.flying)

    def with_queue(self, queue: tuple[Delivery, ...]) -> World:
        """The same world with other deliveries on their way."""
        return make_world(self.repository, queue, self.sent, self.artifacts, self.time, self.flying)

    def with_flying(self, flying: tuple[fx.Effect[Any], ...]) -> World:
        """The same world with other writes that may yet land."""
        return make_world(self.repository, self.queue, self.sent, self.artifacts, self.time, flying)

    def run(self, flow: fx.Flow[R], name: str = "setup") -> tuple[R, World]:
        """Run a flow to its end without anybody else; ids carry the name. Raises what the flow raises."""
        world, minted = self, 0
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, fx.NewId):
                    answer, minted = Answer(mint(effect, name, minted)), minted + 1
                elif isinstance(effect, Take):
                    answer, world = Answer(world.queue[0]), world.with_queue(world.queue[1:])
                else:
                    answer, world = world.perform(effect)
                effect = flow.send(answer.value) if answer.error is None else flow.throw(answer.error)
        except StopIteration as stop:
            return cast(R, stop.value), world

    @property
    def jobs(self) -> list[AnyJob]:
        """All rows, by id, without payloads."""
        return [self.repository._rows[job_id] for job_id in self.repository._ids]

    def row(self, job_id: str) -> AnyJob | None:
        """A row without payloads; None when it is not there."""
        return self.repository._rows.get(job_id)

    def history(self, job_id: str) -> list[HistoryRecord]:
        """A job's records, oldest first."""
        return self.repository._history.get(job_id, [])

    def has_payload(self, job_id: str, name: str) -> bool:
        """Whether a request or response is stored."""
        return (job_id, name) in self.repository._payloads


SAVES = (fx.Insert, fx.Save, fx.SaveAndDispatch, fx.SaveMany, fx.Delete)
"""Writes to the repository: their answers can be lost."""

WRITES = (*SAVES, fx.Dispatch, fx.PutArtifact, fx.DeleteArtifacts)
"""Effects that change the world."""


def make_world(
    repository: MemoryRepository,
    queue: tuple[Delivery, ...],
    sent: frozenset[tuple[str, int]],
    artifacts: Mapping[str, bytes],
    time: int,
    flying: tuple[fx.Effect[Any], ...],
) -> World:
    """A world of these parts, in an order that makes equal worlds the same."""
    queue = tuple(sorted(queue, key=lambda delivery: (delivery.job_id, delivery.run)))
    frozen = {freeze(effect): effect for effect in flying if may_land(effect, repository)}
    flying = tuple(frozen[key] for key in sorted(frozen, key=repr)) if len(frozen) > 1 else tuple(frozen.values())
    key = (
        tuple(map(_kept, repository._rows.values())),
        tuple(tuple(map(_kept, records)) for records in repository._history.values()),
        tuple(sorted(repository._payloads.items())),
        freeze(queue),
        sent,
        tuple(sorted(artifacts.items())),
        time,
        tuple(freeze(effect) for effect in flying),
    )
    return World(repository, queue, sent, artifacts, time, flying, key)


def may_land(effect: fx.Effect[Any], repository: MemoryRepository) -> bool:
    """Whether a write that is in the air can still change anything: a version that has passed does not come back."""
    if isinstance(effect, fx.Insert):
        return repository._standing(effect.job) is None
    at = [(t.job_id, t.version) for t in transitions_of(effect)]
    if isinstance(effect, fx.Delete):
        at = [(effect.job_id, effect.version)]
    return any(job_id in repository._rows and repository._rows[job_id].version <= version for job_id, version in at)


def transitions_of(effect: fx.Effect[Any]) -> tuple[Accepted, ...]:
    """The transitions that a write is to save."""
    if isinstance(effect, (fx.Save, fx.SaveAndDispatch)):
        return (effect.transition,)
    return tuple(effect.transitions) if isinstance(effect, fx.SaveMany) else ()


def mint(effect: fx.NewId, name: str, count: int) -> str:
    """An id that tells whose it is: the actor's name and how many it minted before; a job's has the shape of a job's id."""
    if effect.kind is fx.IdKind.JOB:
        return "job_" + "".join(letter if letter.isalnum() else "-" for letter in f"{name}-{count}")[:21].rjust(21, "0")
    return f"{effect.kind.value}_{name}_{count}"


_FROZEN: dict[int, tuple[BaseModel, Hashable]] = {}
"""Keys of rows and records, which many worlds share, by identity; the value is kept, so that its identity stays its own."""


def _kept(value: BaseModel) -> Hashable:
    """The key of a row or record, made once for each."""
    known = _FROZEN.get(id(value))
    if known is None:
        if len(_FROZEN) >= 100_000:
            _FROZEN.clear()
        known = _FROZEN[id(value)] = (value, freeze(value))
    return known[1]


def freeze(value: Any) -> Hashable:
    """A hashable value that is equal for equal values of the library: jobs, records, effects, errors."""
    if value is None or isinstance(value, (str, int, float, bytes, frozenset, Enum)):
        return cast(Hashable, value)
    if isinstance(value, BaseModel):
        return (type(value).__name__, *map(freeze, value.__dict__.values()))
    if isinstance(value, Mapping):
        items = cast(Mapping[str, Any], value)
        return tuple((name, freeze(items[name])) for name in sorted(items))
    if isinstance(value, (tuple, list)):
        return (type(cast(object, value)).__name__, *map(freeze, cast("list[Any]", value)))
    if is_dataclass(value) and not isinstance(value, type):
        return (type(value).__name__, *(freeze(getattr(value, field.name)) for field in fields(value)))
    if isinstance(value, Exception):
        return (type(value).__name__, *map(freeze, value.args), *map(freeze, value.__dict__.values()))
    return (type(value).__name__, repr(value))


def brief(value: object) -> str:
    """A value in a few words, for a schedule."""
    if isinstance(value, Job):
        job = cast("AnyJob", cast(object, value))
        return f"{job.status} v{job.version} run {job.run}"
    if isinstance(value, Delivery):
        return f"delivery of run {value.run}"
    if isinstance(value, (fx.Save, fx.SaveAndDispatch)):
        return f"{type(value).__name__} {value.transition.event} at v{value.transition.version}"
    if isinstance(value, fx.SaveMany):
        return f"SaveMany {', '.join(f'{t.event} at v{t.version}' for t in value.transitions)}"
    if isinstance(value, fx.Effect):
        return type(cast(object, value)).__name__
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
