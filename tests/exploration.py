"""What is explored: which actors, from which worlds, up to when. The tests of it are in test_exploration.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from jobstate.model import Delivery
from jobstate.testing.explorer import Actor, Exploration, Faults, World, invariants
from jobstate.testing.explorer.actors import (
    CLEANUP,
    CLEANUP_END,
    COMPLETE,
    EXPIRY,
    FAIL,
    LEASE_OVER,
    POLICY,
    RELEASE,
    cancelled_world,
    canceller,
    cleaner,
    creator,
    empty_world,
    expired,
    expirer,
    finished_world,
    loser,
    queued_world,
    relayer,
    rescuer,
    retrier,
    running_world,
    the_job_id,
    worker,
)
from jobstate.testing.explorer.search import Search

KINDS: dict[str, Actor] = {
    "create": creator("setup"),  # its job has the id that the others ask for
    "retry": retrier(),
    "cancel": canceller(),
    "worker": worker(endings=(COMPLETE, RELEASE)),
    "second": worker("second", (FAIL,), delivery=Delivery(job_id=the_job_id(), run=1)),
    "relay": relayer(),
    "rescue": rescuer(),
    "expire": expirer(),
    "clean": cleaner(),
}
INVARIANTS = invariants(POLICY)
LOST = Faults(lost=1)
SKEWED = Faults(skewed=1, skew=2)


def worlds_for(names: Sequence[str]) -> list[World]:
    """Where these begin: with no job, if one of them creates it; else with a job in each state in which they can do more."""
    if "create" in names:
        return [empty_world()]
    dead = [running_world()] if {"rescue", "expire", "clean"} & {*names} else []
    ended = [finished_world(FAIL), cancelled_world()] if "retry" in names else []
    again = [finished_world(RELEASE)] if "worker" in names else []
    found = [queued_world(), *again, *dead, *ended]
    if "clean" not in names:
        return found
    late = [*found, finished_world(COMPLETE)]
    return [expired(world) for world in late] + ([world.at(EXPIRY) for world in late] if "expire" in names else [])


def instants_for(names: Sequence[str]) -> list[int]:
    """The moments that matter to these."""
    if "create" in names and "clean" in names:
        return [CLEANUP, CLEANUP_END]
    found = [LEASE_OVER] if {"relay", "rescue"} & {*names} and "clean" not in names else []
    found += [EXPIRY] if "expire" in names and "clean" not in names else []
    return found + ([CLEANUP, CLEANUP_END] if "clean" in names else [])


LOSER = loser()


def explore_all(search: Search, size: int, *others: Actor, part: int = 0, parts: int = 1) -> Exploration:
    """Every so many of the kinds together, and with them these others; or a part of it, for one of several processes."""
    for names in list(combinations(KINDS, size))[part::parts]:
        actors = [*(KINDS[name] for name in names), *others]
        search.explore(worlds_for(names), actors, instants=instants_for(names), limit=40_000_000)
    return search.total
