"""Recoverability: from any world, all actors dead, the sweeps and a worker alone reach the goal.

Asked of each world that a search has seen: as it is, with every delivery lost, and with each late write landed. What makes no
difference is left out, so that many worlds are asked as one: who did what, and the history.
"""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field

from jobstate.errors import RepositoryError, TransitionError
from jobstate.flows import sweeps
from jobstate.flows.settle import Scope
from jobstate.memory import MemoryRepository
from jobstate.model import AnyJob, JobStatus, evolve
from jobstate.policy import Policy, seconds
from jobstate.testing.explorer.actors import worker
from jobstate.testing.explorer.space import Actor
from jobstate.testing.explorer.world import World, make_world

_ACTIVE = frozenset({JobStatus.QUEUED, JobStatus.IN_PROGRESS})
_ROUNDS = 8
"""Into how many sweeps the time is divided that a job may take to be run again."""


class NotRecoveredError(AssertionError):
    """A world from which the sweeps and a worker do not reach the goal."""


@dataclass
class Recovery:
    """What was asked: worlds, and how many different ones these were for it; and which goals were met."""

    worlds: int = 0
    different: int = 0
    seconds: float = 0.0
    goals: dict[str, int] = field(default_factory=dict[str, int])

    def __str__(self) -> str:
        met = ", ".join(f"{count:,} {goal}" for goal, count in sorted(self.goals.items()))
        return f"{self.worlds:,} worlds, {self.different:,} different, {self.seconds:.1f} s: {met}"


def recover(worlds: Iterable[World], scope: Scope) -> Recovery:
    """Ask each of these worlds whether the sweeps and a worker, alone, with time going on, reach the goal.

    A job that is queued or in progress long enough before its expiry is completed, or failed when its attempts are used up;
    every job is cleaned in the end, with no payload and no artifact left. Raises NotRecoveredError with the world that is not.
    """
    began, found, asked = time.perf_counter(), Recovery(), set[Hashable]()
    for world in worlds:
        found.worlds += 1
        for start in _starts(world):
            plain = _plain(start)
            if plain.key not in asked:
                asked.add(plain.key)
                for goal in _recovered(plain, scope):
                    found.goals[goal] = found.goals.get(goal, 0) + 1
    found.different, found.seconds = len(asked), time.perf_counter() - began
    return found


def _starts(world: World) -> Iterator[World]:
    """The world with nothing in the air, with its late writes landed, and each without its deliveries."""
    landed = world.with_flying(())
    for start in dict.fromkeys((landed, *(landed.perform(effect)[1] for effect in world.flying))):
        yield start
        if start.queue:
            yield start.with_queue(())


def _plain(world: World) -> World:
    """The world without what makes no difference here."""
    repository, there = MemoryRepository(), world.repository
    for job in world.jobs:
        row = evolve(job, {"operation": "op", "version": 1})
        repository._rows[row.id] = row
        repository._ids.append(row.id)
        repository._history[row.id] = []
        if row.idempotency_key is not None:
            repository._keys[row.organization_id, row.idempotency_key] = row.id
    repository._payloads = dict(there._payloads)
    return make_world(repository, world.queue, frozenset(), world.artifacts, world.time, ())


def _recovered(world: World, scope: Scope) -> Iterator[str]:
    """The goals that a world reaches."""
    active = [job for job in world.jobs if job.status in _ACTIVE]
    horizon = _horizon(active, world.time, scope.policy)
    later = world
    for number in range(1, _ROUNDS + 1):
        later = _round(later.at(world.time + number * horizon // _ROUNDS), scope)
    for job in active:
        if job.expires_at > later.time:
            yield _run(job, later)
    for _ in world.jobs:
        yield "cleaned"
    _clean(world, later, scope)


def _horizon(active: list[AnyJob], now: int, policy: Policy) -> int:
    """How long it may take until each of them was run: its lease ends, it is available, and it is dispatched again."""
    waits = [job.available_at - now for job in active if job.available_at is not None]
    return seconds(policy.redispatch_after) + (policy.lease_seconds or 0) + policy.skew_seconds + max(0, *waits, 0) + _ROUNDS


def _round(world: World, scope: Scope) -> World:
    """All sweeps, and then a worker for each delivery."""
    _, world = world.run(sweeps.sweep(scope), "sweep")
    while world.queue:
        delivery, world = world.queue[0], world.with_queue(world.queue[1:])
        world = _worked(world, worker(delivery=delivery, scope=scope))
    return world


def _worked(world: World, actor: Actor) -> World:
    """What a worker does; a delivery that is late changes nothing."""
    try:
        return world.run(actor.flow(), f"{actor.name} at {world.time}")[1]
    except (TransitionError, RepositoryError):
        return world


def _run(job: AnyJob, world: World) -> str:
    row = world.row(job.id)
    if row is not None and row.status is JobStatus.COMPLETED:
        return "completed"
    if row is not None and row.status is JobStatus.FAILED and row.attempts_used >= row.max_attempts:
        return "failed, its attempts used up"
    raise NotRecoveredError(f"at {world.time} it is {row}, from {job}")


def _clean(begin: World, world: World, scope: Scope) -> None:
    policy = scope.policy
    last = max([world.time, *(job.expires_at for job in world.jobs)])
    for number in range(1, 4):
        world = _round(world.at(last + number * (seconds(policy.cleanup_after) + policy.cleanup_grace)), scope)
    left = [job.id for job in world.jobs if job.cleanup_completed_at is None]
    payloads, artifacts = list(world.repository._payloads), list(world.artifacts)
    if left or payloads or artifacts:
        raise NotRecoveredError(f"not cleaned: {left}, {payloads}, {artifacts}, from {begin.jobs} at {begin.time}")
