"""The explorer itself: what it explores, what it finds, and how it says so."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest

from jobstate.effects import Flow, IdKind, Load, NewId, Now, Save
from jobstate.errors import OutcomeUnknownError, RepositoryError
from jobstate.flows import attempts
from jobstate.flows.settle import Dispatching, Scope
from jobstate.lifecycle import Accepted, Facts, decide
from jobstate.model import AnyJob, Delivery, Event, JobResponse
from jobstate.testing.explorer import (
    Actor,
    Choose,
    Ending,
    Faults,
    Invariant,
    ModularError,
    NotRecoveredError,
    SearchLimitError,
    Step,
    Take,
    ViolationError,
    World,
    explore,
    invariants,
    prove,
    recover,
)
from jobstate.testing.explorer.actors import (
    BEGIN,
    EXPIRY,
    FAIL,
    LEASE_OVER,
    POLICY,
    SCOPE,
    cancelled_world,
    canceller,
    expired,
    finished_world,
    queued_world,
    retrier,
    running_world,
    the_job_id,
    worker,
)
from jobstate.testing.explorer.search import Search

JOB_ID = the_job_id()
INVARIANTS = invariants(POLICY)


def look(times: int) -> Flow[AnyJob]:
    """Reads the job so many times."""
    for _ in range(times - 1):
        _ = yield from Load(JOB_ID)
    return (yield from Load(JOB_ID))


def cancel_once() -> Flow[None]:
    """A cancel by hand, that neither tries again nor asks what became of it."""
    job = yield from Load(JOB_ID)
    now = yield from Now()
    decision = decide(job, Event.CANCEL, now, policy=POLICY, operation="op_by hand_0")
    assert isinstance(decision, Accepted)
    yield from Save(decision)


def unfenced(delivery: Delivery | None = None) -> Flow[None]:
    """A worker that completes what it finds in progress: with the lease that it finds, not with the one that it was given."""
    if delivery is None:
        delivery = yield from Take()
    _ = yield from attempts.start(SCOPE, delivery, lambda job: None)
    operation = yield from NewId(IdKind.OPERATION)
    job = yield from Load(JOB_ID)
    now = yield from Now()
    token = "" if job.lease is None else job.lease.token
    facts: Facts = {"token": token, "response": JobResponse[Any](body=1), "digest": "late", "response_artifacts": None}
    found = decide(job, Event.COMPLETE, now, policy=POLICY, operation=operation, **facts)
    if isinstance(found, Accepted):
        yield from Save(found)


UNFENCED = Actor("late", unfenced)
RUN_1 = Delivery(job_id=JOB_ID, run=1)
RUN_2 = Delivery(job_id=JOB_ID, run=2)


def told(actors: list[Actor], faults: Faults | None = None, **options: Any) -> set[tuple[str, str]]:
    """Which answers these actors may come to, from a queued job: the actor, and a word for the answer."""
    found: set[tuple[str, str]] = set()

    def listen(ending: Ending) -> None:
        error = ending.answer.error
        found.add((ending.actor.name, "done" if error is None else type(error).__name__))

    explore(queued_world(), actors, invariants=[Invariant("listen", ending=listen)], faults=faults, **options)
    return found


# What is explored


@pytest.mark.parametrize("steps", [(1,), (3,), (2, 3), (1, 2, 4)])
def test_every_interleaving_is_explored_and_like_states_are_one(steps: tuple[int, ...]) -> None:
    """Readers do not disturb one another: a state is how far each has come."""
    actors = [Actor(f"reader {number}", partial(look, times)) for number, times in enumerate(steps)]
    expected = 1
    for times in steps:
        expected *= times + 1
    assert explore(queued_world(), actors, invariants=[]).states == expected


def test_of_two_saves_on_one_version_one_is_refused() -> None:
    assert told([canceller("a"), Actor("b", cancel_once)]) == {
        ("a", "done"),
        ("a", "IllegalTransitionError"),
        ("b", "done"),
        ("b", "StaleJobError"),
        ("b", "AssertionError"),
    }


@pytest.mark.parametrize(
    ("faults", "answers"),
    [
        (Faults(), {"done"}),
        (Faults(lost=1), {"done", "OutcomeUnknownError"}),
        (Faults(failed=1), {"done", "RepositoryError"}),
        (Faults(skewed=1), {"done"}),
    ],
)
def test_a_fault_is_made_where_it_is_asked_for(faults: Faults, answers: set[str]) -> None:
    assert {answer for _, answer in told([Actor("b", cancel_once)], faults)} == answers


def test_a_lost_answer_was_done_or_is_done_later_or_never() -> None:
    """Seen on the job at the end, when the save of the only actor had no answer."""
    found: set[tuple[str, bool]] = set()

    def listen(ending: Ending) -> None:
        if isinstance(ending.answer.error, OutcomeUnknownError):
            [job] = ending.world.jobs
            found.add((job.status.value, bool(ending.world.flying)))

    explore(queued_world(), [Actor("b", cancel_once)], invariants=[Invariant("listen", ending=listen)], faults=Faults(lost=1))
    assert found == {("cancelled", False), ("queued", True)}


def test_a_late_write_lands_on_its_own_version_only() -> None:
    late = queued_world().with_flying((Save(cancelled(queued_world())),))
    assert late.flying, "it may land"
    moved = late.perform(Save(cancelled(queued_world())))[1]
    assert moved.flying == (), "its version has passed"


def cancelled(world: World) -> Accepted:
    [job] = world.jobs
    decision = decide(job, Event.CANCEL, BEGIN, policy=POLICY, operation="op_flying_0")
    assert isinstance(decision, Accepted)
    return decision


def test_a_budget_is_for_a_whole_schedule() -> None:
    """A reader that may fail once, and a budget of one: only with two does it fail twice."""
    assert told([Actor("one", twice)], Faults(failed=1)) == {("one", "done")}
    assert told([Actor("one", twice)], Faults(failed=2)) == {("one", "done"), ("one", "RepositoryError")}
    both = told([Actor("one", lambda: look(1)), Actor("two", twice)], Faults(failed=2))
    assert both == {("one", "done"), ("one", "RepositoryError"), ("two", "done"), ("two", "RepositoryError")}
    assert ("two", "RepositoryError") not in told([Actor("one", lambda: look(1)), Actor("two", twice)], Faults(failed=1))


def twice() -> Flow[AnyJob]:
    """Reads, and once more if that failed."""
    try:
        return (yield from Load(JOB_ID))
    except RepositoryError:
        return (yield from Load(JOB_ID))


def test_a_delivery_is_taken_once_unless_it_is_repeated() -> None:
    workers = [worker("one"), worker("two")]
    assert told(workers) == {("one", "done"), ("two", "done")}, "either takes it, the other waits"
    assert told(workers, Faults(repeated=1)) > told(workers), "the second start is refused"


def test_time_moves_on_at_any_step() -> None:
    def when() -> Flow[int]:
        first = yield from Now()
        _ = yield from Load(JOB_ID)
        second = yield from Now()
        return second - first

    found: set[int] = set()

    def listen(ending: Ending) -> None:
        found.add(ending.answer.value)

    check = Invariant("listen", ending=listen)
    explore(queued_world(), [Actor("clock", when)], invariants=[check], instants=[BEGIN + 5, BEGIN + 7])
    assert found == {0, 2, 5, 7}


def test_each_choice_is_tried() -> None:
    def choose() -> Flow[int]:
        return (yield from Choose(3))

    found: set[int] = set()
    check = Invariant("listen", ending=lambda ending: found.add(ending.answer.value))
    explore(queued_world(), [Actor("chooser", choose)], invariants=[check])
    assert found == {0, 1, 2}


# What is found


def test_a_missing_fence_takes_four_actors_and_is_found() -> None:
    others = [canceller(), retrier(), worker("second")]
    for missing in range(3):
        fewer = [UNFENCED, *(actor for place, actor in enumerate(others) if place != missing)]
        explore(queued_world(), fewer, invariants=INVARIANTS)
    with pytest.raises(ViolationError, match="a fenced worker changes nothing") as caught:
        explore(queued_world(), [UNFENCED, *others], invariants=INVARIANTS)
    steps = caught.value.schedule
    assert {step.actor for step in steps} == {"late", "cancel", "retry", "second"}
    assert steps[-1].actor == "late"
    assert str(caught.value).count("\n") == len(steps)


def test_the_schedule_that_is_told_is_a_shortest_one() -> None:
    """No state nearer to the beginning breaks it: as many steps as the search was deep."""
    with pytest.raises(ViolationError) as caught:
        explore(queued_world(), [Actor("b", cancel_once)], invariants=[Invariant("is not cancelled", world=not_cancelled)])
    assert [type(step.effect).__name__ for step in caught.value.schedule] == ["Load", "Now", "Save"]
    actors = [Actor("a", lambda: look(5)), Actor("b", cancel_once)]
    with pytest.raises(ViolationError) as caught:
        explore(queued_world(), actors, invariants=[Invariant("is not cancelled", world=not_cancelled)])
    assert [step.actor for step in caught.value.schedule] == ["b", "b", "b"], "nobody else is in the way"


def test_a_step_that_only_its_own_actor_sees_is_told_if_it_is_needed() -> None:
    """Such steps are made first, and one that leads nowhere is none of the schedule: neither the clock's nor a choice."""

    def idle() -> Flow[AnyJob]:
        _ = yield from Now()
        _ = yield from Choose(2)
        return (yield from Load(JOB_ID))

    with pytest.raises(ViolationError) as caught:
        explore(queued_world(), [Actor("a", idle), canceller()], invariants=[Invariant("not", world=not_cancelled)])
    assert [(step.actor, type(step.effect).__name__) for step in caught.value.schedule] == [
        ("cancel", name) for name in ("Load", "Now", "Save")
    ]


def not_cancelled(world: World) -> str:
    return "" if all(not job.cancelled for job in world.jobs) else "it is"


def test_a_schedule_can_be_run_again() -> None:
    seen: list[Step] = []
    with pytest.raises(ViolationError) as caught:
        explore(queued_world(), [canceller(), Actor("b", cancel_once)], invariants=[Invariant("not", world=not_cancelled)])
    answers = caught.value.replay(seen.append)
    assert tuple(seen) == caught.value.schedule
    assert len(answers) == 2
    assert all(answer is None or answer.error is None for answer in answers)


def test_what_breaks_at_the_beginning_is_told_with_no_step() -> None:
    with pytest.raises(ViolationError) as caught:
        explore(cancelled_world(), [canceller()], invariants=[Invariant("not", world=not_cancelled)])
    assert caught.value.schedule == ()


def test_a_search_that_meets_its_limit_fails() -> None:
    with pytest.raises(SearchLimitError, match="the limit is 100"):
        explore(queued_world(), [canceller(), retrier(), worker()], invariants=INVARIANTS, limit=100)
    with pytest.raises(SearchLimitError, match="nothing is proved"):
        prove(queued_world(), [canceller(), retrier()], invariants=INVARIANTS, faults=Faults(), within=two_runs, limit=100)


def two_runs(world: World) -> bool:
    return all(job.run <= 2 and job.dispatch_count <= 2 for job in world.jobs)


def test_a_limit_is_looked_at_within_a_level() -> None:
    """The second choice has 400 ways, of 20 states; the first of these is too many."""

    def choose() -> Flow[int]:
        return (yield from Choose(20)) + (yield from Choose(20)) + (yield from Choose(2))

    with pytest.raises(SearchLimitError, match=r"^41 states and no end: the limit is 40"):
        explore(queued_world(), [Actor("chooser", choose)], invariants=[], limit=40)


def loads_for_ever() -> Flow[None]:
    while True:
        _ = yield from Load(JOB_ID)


def mints_for_ever() -> Flow[None]:
    while True:
        _ = yield from NewId(IdKind.JOB)


@pytest.mark.parametrize("endless", [loads_for_ever, mints_for_ever])
def test_a_flow_without_an_end_is_told(endless: Any) -> None:
    with pytest.raises(ValueError, match="actor 'endless': its flow made 1,000 effects without an end; flows must be finite"):
        explore(queued_world(), [Actor("endless", endless)], invariants=INVARIANTS)


def test_what_is_no_flow_is_told() -> None:
    def yields() -> Any:
        yield "a word"

    with pytest.raises(TypeError, match="actor 'none': its flow must be a generator of effects, and is None"):
        explore(queued_world(), [Actor("none", lambda: cast(Any, None))], invariants=[])
    with pytest.raises(
        TypeError, match="actor 'word': its flow yielded 'a word', which is no effect; use `result = yield from`"
    ):
        explore(queued_world(), [Actor("word", yields)], invariants=[])


def test_a_search_from_nowhere_is_refused() -> None:
    with pytest.raises(ValueError, match="worlds: there is none to begin with"):
        explore([], [canceller()], invariants=INVARIANTS)
    with pytest.raises(ValueError, match="worlds: there is none to begin with"):
        prove([], [canceller()], invariants=INVARIANTS, faults=Faults())


def test_two_actors_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="a name of its own"):
        explore(queued_world(), [canceller(), canceller()], invariants=[])


def test_a_search_that_sees_nothing_says_so() -> None:
    found = explore(cancelled_world(), [canceller()], invariants=INVARIANTS)
    assert found.missing(["status cancelled", "status failed", "a fenced worker changes nothing"]) == [
        "a fenced worker changes nothing",
        "status failed",
    ]


@pytest.mark.parametrize("event", [Event.CANCEL, None])
def test_an_unexpected_error_of_a_flow_is_not_truthful(event: Event | None) -> None:
    """Also of a flow whose answer speaks of no command."""

    def broken() -> Flow[Any]:
        _ = yield from Load(JOB_ID)
        raise KeyError("a bug")

    with pytest.raises(ViolationError, match="answers are truthful: it raised KeyError"):
        explore(queued_world(), [Actor("broken", broken, event)], invariants=INVARIANTS)


def raises_at_once() -> Flow[None]:
    yield from ()
    raise KeyError("a bug")


def raises_after_an_id() -> Flow[None]:
    _ = yield from NewId(IdKind.JOB)
    raise KeyError("a bug")


@pytest.mark.parametrize("broken", [raises_at_once, raises_after_an_id])
@pytest.mark.parametrize("others", [[], [worker()]])
def test_a_flow_that_ends_before_its_first_step_is_judged(broken: Any, others: list[Actor]) -> None:
    with pytest.raises(ViolationError, match="answers are truthful: it raised KeyError") as caught:
        explore(queued_world(), [*others, Actor("broken", broken)], invariants=INVARIANTS)
    assert caught.value.schedule == ()
    assert [type(answer.error) for answer in caught.value.replay() if answer is not None] == [KeyError]


def test_an_answer_without_a_step_is_an_ending() -> None:
    def answers() -> Flow[int]:
        yield from ()
        return 1

    assert told([Actor("answers", answers)]) == {("answers", "done")}


def test_searches_that_share_a_space_find_what_they_find_alone() -> None:
    shared = Search(INVARIANTS, Faults(lost=1))
    for actors in ([canceller(), retrier()], [canceller(), worker()], [retrier(), worker()], [canceller(), retrier()]):
        alone = explore(finished_world(FAIL), actors, invariants=INVARIANTS, faults=Faults(lost=1))
        again = shared.explore([finished_world(FAIL)], actors)
        assert (again.states, len(again.worlds)) == (alone.states, len(alone.worlds))


# The proof, and recovery


def test_the_proof_finds_a_missing_fence_with_any_number_of_workers() -> None:
    late = [Actor("late one", lambda: unfenced(RUN_1)), Actor("late two", lambda: unfenced(RUN_2))]
    with pytest.raises(ModularError, match="a fenced worker changes nothing"):
        prove(queued_world(), [*late, canceller(), retrier()], invariants=INVARIANTS, faults=Faults(), within=two_runs)


def test_every_world_that_an_interleaving_reaches_is_one_of_the_proof() -> None:
    """The proof follows more than any interleaving does: seen as all see them, its worlds are among the proof's."""
    from jobstate.testing.explorer.modular import _everybody, _rebuilt

    def shared(world: World) -> Any:
        alike = _rebuilt(world, frozenset(), _everybody(world), grounded=True)
        return (alike.repository._rows[JOB_ID].model_copy(update={"request": None}), alike.time)

    actors = [canceller(), retrier(), worker("first", delivery=RUN_1), worker("later", delivery=RUN_2)]
    proof = prove(queued_world(), actors, invariants=INVARIANTS, faults=Faults(), within=two_runs)
    assert proof.space is not None
    proved = {str(shared(world)) for world in proof.space.worlds}
    found = explore(queued_world(), actors, invariants=INVARIANTS)
    assert found.space is not None
    reached = {str(shared(found.space.worlds[number])) for number in found.worlds}
    assert len(reached) > 15
    assert reached <= proved


def test_a_world_that_nothing_brings_on_is_found() -> None:
    alone = Scope(POLICY, None, Dispatching.NEVER, has_artifacts=True)
    with pytest.raises(NotRecoveredError, match="queued"):
        recover([queued_world().with_queue(())], alone)
    found = recover([queued_world(), running_world(), running_world().at(LEASE_OVER)], SCOPE)
    assert found.goals["completed"] >= 3


def test_what_makes_no_difference_to_recovery_is_asked_once() -> None:
    found = recover([finished_world(FAIL), finished_world(FAIL), expired(finished_world(FAIL), EXPIRY)], SCOPE)
    assert (found.worlds, found.different) == (3, 2)
