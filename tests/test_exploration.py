"""The flows of the library, explored: all pairs, triples and fours of actors; any number of them; and the way back.

What is explored is in exploration.py. Each test prints what it has seen; a search that has not seen what it should is red.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from jobstate.model import Delivery, Event, JobStatus
from jobstate.testing.explorer import Actor, Ending, Faults, Invariant, World, explore, prove, recover
from jobstate.testing.explorer.actors import (
    BEGIN,
    CLEANUP,
    CLEANUP_END,
    COMPLETE,
    EXPIRY,
    FAIL,
    GIVE_BACK,
    HEARTBEAT,
    LEASE_OVER,
    RELEASE,
    SCOPE,
    bulk_retrier,
    cancelled_world,
    canceller,
    cleaner,
    creator,
    empty_world,
    expired,
    expirer,
    finished_world,
    queued_world,
    relayer,
    rescuer,
    resender,
    retrier,
    running_world,
    the_job_id,
    worker,
)
from jobstate.testing.explorer.search import Search
from tests.exploration import INVARIANTS, LOSER, LOST, SKEWED, explore_all

FAULTS = {
    "a lost answer": LOST,
    "a skewed clock": SKEWED,
    "a failed effect": Faults(failed=1),
    "a failed dispatch": Faults(undelivered=1),
    "a repeated delivery": Faults(repeated=1),
}
REACHED = {
    *(f"status {status}" for status in JobStatus if status is not JobStatus.VALIDATING),
    *(f"event {event}" for event in ("start", "complete", "fail", "release", "rescue", "cancel", "retry", "expire")),
    *("event begin_cleanup", "event end_cleanup", "cleaned", "run 2"),
    *(invariant.name for invariant in INVARIANTS),
}
RUN_1, RUN_2 = (Delivery(job_id=the_job_id(), run=run) for run in (1, 2))


# All of so many


def seen_all(search: Search, what: str) -> None:
    """The search has seen what it should, and from every world that it saw there is a way back."""
    print(f"{what}: {search.total}")
    assert search.total.missing(REACHED) == []
    print("recovery:", recovery := recover(search.space.worlds, SCOPE))
    assert {"completed", "cleaned"} <= recovery.goals.keys()


@pytest.mark.parametrize(
    "fault", [pytest.param(fault, marks=pytest.mark.full) if fault == "a skewed clock" else fault for fault in FAULTS]
)
def test_all_pairs(fault: str) -> None:
    search = Search(INVARIANTS, FAULTS[fault])
    explore_all(search, 2)
    seen_all(search, f"all pairs, {fault}")


def test_all_pairs_and_a_lost_message() -> None:
    search = Search(INVARIANTS)
    explore_all(search, 2, LOSER)
    seen_all(search, "all pairs, a lost message")


PARTS = 2
"""Into how many tests the longest are divided, for as many processes."""


@pytest.mark.full
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("fault", ["a lost answer", "a skewed clock"])
def test_all_triples(fault: str, part: int) -> None:
    search = Search(INVARIANTS, FAULTS[fault])
    explore_all(search, 3, part=part, parts=PARTS)
    seen_all(search, f"all triples, {fault}, part {part + 1} of {PARTS}")


@pytest.mark.full
def test_all_triples_and_a_lost_message() -> None:
    search = Search(INVARIANTS)
    explore_all(search, 3, LOSER)
    seen_all(search, "all triples, a lost message")


FOURS = 7
"""Into how many tests the fours are divided: what a search remembers is let go after each."""


@pytest.mark.nightly
@pytest.mark.parametrize("part", range(FOURS))
def test_all_fours(part: int) -> None:
    search = Search(INVARIANTS)
    explore_all(search, 4, part=part, parts=FOURS)
    seen_all(search, f"all fours, no faults, part {part + 1} of {FOURS}")


# Any number of them


def two_runs(world: World) -> bool:
    """How far the proofs go: two runs, each dispatched twice at most."""
    return all(job.run <= 2 and job.dispatch_count <= 2 for job in world.jobs)


WORKERS = [worker("first", (COMPLETE, RELEASE), delivery=RUN_1), worker("later", (COMPLETE, FAIL), delivery=RUN_2)]
PROOFS: dict[str, tuple[list[World], list[Actor], list[int]]] = {
    "work": ([queued_world()], [canceller(), retrier(), relayer(), rescuer(), *WORKERS], [LEASE_OVER]),
    "expiry": ([queued_world()], [canceller(), retrier(), relayer(), rescuer(), expirer(), *WORKERS], [EXPIRY]),
    "clean-up": ([queued_world()], [canceller(), retrier(), expirer(), cleaner(), WORKERS[0]], [CLEANUP, CLEANUP_END]),
}


def proved(name: str, faults: Faults) -> None:
    worlds, actors, instants = PROOFS[name]
    proof = prove(worlds, actors, invariants=INVARIANTS, faults=faults, instants=instants, within=two_runs)
    print(f"any number of {', '.join(actor.name for actor in actors)} ({name}): {proof}")
    assert {"run 2", "event start", "event complete", "event cancel", "event retry"} <= proof.seen
    assert proof.space is not None
    print("recovery:", recover(proof.space.worlds, SCOPE))


def test_any_number_of_workers_cancels_and_retries() -> None:
    actors = [canceller(), retrier(), *WORKERS]
    proof = prove(queued_world(), actors, invariants=INVARIANTS, faults=LOST, within=two_runs)
    print(f"any number of {', '.join(actor.name for actor in actors)}: {proof}")
    assert {"run 2", "event start", "event complete", "event cancel", "event retry"} <= proof.seen


@pytest.mark.full
@pytest.mark.parametrize("name", PROOFS)
def test_any_number_of_all(name: str) -> None:
    proved(name, LOST)


# What needs actors, worlds or faults of its own


def once(name: str, event: Event, *, key: str | None = None) -> Invariant:
    """This event stands once in a job's history (under this retry key)."""

    def holds(world: World) -> str | None:
        for job in world.jobs:
            records = [r for r in world.history(job.id) if r.event is event and r.changes.get("retry_key") == key]
            if len(records) > 1:
                return f"{event} stands {len(records)} times in the history"
        return ""

    return Invariant(name, world=holds)


def explored(
    worlds: Sequence[World], actors: Sequence[Actor], faults: Faults, instants: Sequence[int] = (), *more: Invariant
) -> set[str]:
    found = explore(worlds, actors, invariants=(*INVARIANTS, *more), faults=faults, instants=instants)
    print(f"{', '.join(actor.name for actor in actors)}: {found}")
    return found.seen


def test_the_four_that_a_missing_fence_takes() -> None:
    actors = [worker("late", (COMPLETE, FAIL)), canceller(), retrier(), worker("second", (COMPLETE, HEARTBEAT))]
    assert "run 2" in explored([queued_world()], actors, Faults())


@pytest.mark.parametrize("others", [[canceller()], [worker()], [expirer()], [relayer()]])
def test_a_resent_retry_is_one_retry(others: list[Actor]) -> None:
    """The second request finds the first: no second run, and a cancel in between is not undone."""
    one = once("a resent retry is one retry", Event.RETRY)
    seen = explored([finished_world(FAIL), cancelled_world()], [resender(), *others], Faults(undelivered=2), (), one)
    assert "event retry" in seen


def test_two_retries_of_one_key_are_one() -> None:
    actors = [retrier("one", key="k"), retrier("two", key="k"), canceller(), worker()]
    one = once("a key is one retry", Event.RETRY, key="k")
    assert "run 2" in explored([finished_world(FAIL)], actors, Faults(), (), one)
    assert "run 2" in explored([finished_world(FAIL)], actors[:3], LOST, (), one)


@pytest.mark.parametrize("artifacts", [False, True])
def test_two_creates_of_one_key_are_one_job(artifacts: bool) -> None:
    def one_job(world: World) -> str:
        return "" if len(world.jobs) <= 1 else f"{len(world.jobs)} jobs"

    def told(ending: Ending) -> str | None:
        return "" if ending.answer.error is not None or ending.answer.value.id == ending.world.jobs[0].id else "another job"

    checks = [Invariant("one job", world=one_job), Invariant("the same answer", ending=told)]
    actors = [creator("one", artifacts=artifacts), creator("two", artifacts=artifacts)]
    assert "status queued" in explored([empty_world()], actors, Faults(lost=1, undelivered=1), (), *checks)


@pytest.mark.parametrize("other", [retrier(), cleaner("second"), expirer(), worker("late", artifacts=True, delivery=RUN_1)])
def test_artifacts_are_there_for_a_retry_and_gone_after_clean_up(other: Actor) -> None:
    worlds = [finished_world(FAIL, artifacts=True), queued_world(artifacts=True), finished_world(COMPLETE, artifacts=True)]
    worlds = [later for world in worlds for later in (world.at(CLEANUP), expired(world))]
    for faults in (LOST, Faults(failed=1)):
        found = explore(worlds, [cleaner(), other], invariants=INVARIANTS, faults=faults, instants=[CLEANUP_END])
        print(f"clean, {other.name}, artifacts: {found}")
        assert "event begin_cleanup" in found.seen
        assert found.space is not None
        assert recover(found.space.worlds, SCOPE).goals["cleaned"] > 0


@pytest.mark.parametrize("other", [canceller(), rescuer(), expirer(), retrier()])
def test_every_ending_of_an_attempt(other: Actor) -> None:
    endings = worker("worker", (COMPLETE, FAIL, RELEASE, GIVE_BACK, HEARTBEAT))
    seen = explored([queued_world()], [endings, other], LOST, [EXPIRY])
    assert {"event complete", "event fail", "event release", "event give_back"} <= seen


@pytest.mark.parametrize("sweep", [rescuer(), expirer()])
def test_a_live_lease_is_left_alone_by_clocks_that_differ(sweep: Actor) -> None:
    """Two seconds before the end, and the margin is two: no clock that is right within the margin takes it over."""
    seen = explored([running_world()], [sweep, worker("late", (HEARTBEAT,))], SKEWED, [BEGIN + 18, BEGIN + 19, LEASE_OVER])
    assert "event start" in seen


@pytest.mark.parametrize("other", [canceller(), worker(), retrier(), bulk_retrier("another")])
def test_retries_of_many(other: Actor) -> None:
    one = once("one of them", Event.RETRY)
    more = () if other.name in {"worker", "cancel"} else (one,)
    assert "event retry" in explored([finished_world(FAIL)], [bulk_retrier(), other], LOST, (), *more)


@pytest.mark.parametrize("kind", [relayer, rescuer, expirer, cleaner])
def test_two_sweeps_of_one_kind_share_the_work(kind: Callable[[str], Actor]) -> None:
    worlds = [queued_world(), running_world(), finished_world(COMPLETE)]
    worlds += [expired(world) for world in worlds]
    explored(worlds, [kind("one"), kind("two")], LOST, [LEASE_OVER, EXPIRY, CLEANUP_END])
