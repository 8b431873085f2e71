"""The search: every interleaving of the effects of some actors, breadth first, with faults; what it tells is shortest."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

from jobstate.effects import Effect, Now
from jobstate.testing.explorer.space import NO_FAULT, Actor, Faults, Move, Node, Space, Step, uncollected
from jobstate.testing.explorer.world import WRITES, Answer, Choose, World

Schedule = tuple[Step, ...]


class Ending(NamedTuple):
    """An actor at its end: what its flow answered, in a world of then or later."""

    actor: Actor
    answer: Answer
    world: World
    minted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Invariant:
    """What must hold, always. A check answers None when it has nothing to say, "" when it holds, else what is wrong.

    Attributes:
        name: a sentence in short.
        keeps: the properties of the project's list that it keeps.
        world: asked of every world.
        step: asked of every step.
        ending: asked of every actor at its end, then and later.
        of_history: it asks the whole history, which a thread-modular proof does not keep.
    """

    name: str
    keeps: tuple[str, ...] = ()
    world: Callable[[World], str | None] | None = None
    step: Callable[[Step], str | None] | None = None
    ending: Callable[[Ending], str | None] | None = None
    of_history: bool = False


class ViolationError(AssertionError):
    """An invariant is broken. Printed with the shortest schedule that breaks it; `replay` runs that again.

    Attributes:
        invariant: its name.
        problem: what is wrong.
        schedule: the steps, in order.
    """

    def __init__(self, invariant: str, problem: str, schedule: Schedule, actors: Sequence[Actor]) -> None:
        self.invariant = invariant
        self.problem = problem
        self.schedule = schedule
        self.actors = tuple(actors)
        steps = "\n".join(f"  {number:>2}. {step}" for number, step in enumerate(schedule, 1))
        super().__init__(f"{invariant}: {problem}\n{steps}")

    def replay(self, before_step: Callable[[Step], object] | None = None) -> list[Answer | None]:
        """Run the schedule once more, each flow made once and driven from its beginning to where it stopped.

        Put a breakpoint into a flow and call this. `before_step` is called before each step. Answers what each actor's flow
        answered, None for one that had not come to its end.
        """
        from jobstate.testing.explorer.replay import replay

        return replay(self.schedule, self.actors, before_step)


class SearchLimitError(AssertionError):
    """A search met its limit before its end: it has proved nothing."""


@dataclass
class Exploration:
    """What a search has seen.

    Attributes:
        states: how many distinct states: a world, the actors, and the faults left.
        worlds: the distinct worlds, by their numbers in `space`.
        seconds: how long it took.
        seen: what was reached, in words such as `status failed`, `event retry`, `run 2`, `cleaned`.
        asked: how often each invariant had something to say.
    """

    states: int = 0
    worlds: set[int] = field(default_factory=set[int])
    seconds: float = 0.0
    space: Space | None = field(default=None, repr=False)
    seen: set[str] = field(default_factory=set[str])
    asked: Counter[str] = field(default_factory=Counter[str])

    def __str__(self) -> str:
        return f"{self.states:,} states, {len(self.worlds):,} worlds, {self.seconds:.1f} s"

    def add(self, other: Exploration) -> None:
        """Count another search of the same space in."""
        self.states += other.states
        self.worlds |= other.worlds
        self.seconds += other.seconds
        self.space = other.space

    def missing(self, expected: Iterable[str]) -> list[str]:
        """What was expected to be reached, or asked, and was not: a search that sees nothing proves nothing."""
        return sorted(set(expected) - self.seen - {name for name, times in self.asked.items() if times})


State = tuple[int, tuple[int, ...], int]
"""A world, the actors' nodes and the faults left, by their numbers."""

GONE = -1
"""An actor at its end, whose answer holds in every later world."""


class Search:
    """Searches that share a space: what a step does is found once, and remembered for the next search."""

    def __init__(self, invariants: Sequence[Invariant], faults: Faults | None = None) -> None:
        self.invariants = tuple(invariants)
        self.space = Space(Faults() if faults is None else faults)
        self.total = Exploration()
        self._roots: dict[Actor, int] = {}
        self._ended: set[tuple[int, int]] = set()
        self._checked: set[int] = set()
        self._looked: set[Hashable] = set()
        self._budgets: list[tuple[int, ...]] = [self.space.faults.budget]
        self._spent: dict[tuple[int, int], int] = {}
        self._instants: tuple[int, ...] = ()
        self._passing: dict[int, list[int]] = {}
        self._private_first = True

    def explore(
        self, worlds: Iterable[World], actors: Sequence[Actor], *, instants: Sequence[int] = (), limit: int = 5_000_000
    ) -> Exploration:
        """As the function `explore`."""
        began = time.perf_counter()
        self._begin(actors, instants)
        try:
            starts = [self._start(world, actors) for world in worlds]
        except _CheckError as error:
            raise ViolationError(error.invariant, error.problem, (), actors) from None
        if not starts:
            raise ValueError("worlds: there is none to begin with, so nothing would be searched; give at least one")
        try:
            with uncollected():
                seen = self._breadth_first(starts, limit)
        except _BrokenError as broken:
            raise self._explained([self.space.worlds[start[0]] for start in starts], actors, broken) from None
        found = Exploration(len(seen), {state[0] for state in seen}, time.perf_counter() - began, self.space)
        self.total.add(found)
        return found

    def _begin(self, actors: Sequence[Actor], instants: Sequence[int]) -> None:
        if len({actor.name for actor in actors}) < len(actors):
            raise ValueError("actors: each needs a name of its own, since its ids carry it")
        if self._instants != tuple(sorted(instants)):
            self._instants, self._passing = tuple(sorted(instants)), {}

    def _start(self, world: World, actors: Sequence[Actor]) -> State:
        """A world and its actors before their first effects; who has none is at its end, and asked for its answer."""
        self._check_world(world, None)
        number = self.space.number(world)
        return number, tuple(self._settled(self._root(actor), number) for actor in actors), 0

    def _root(self, actor: Actor) -> int:
        if actor not in self._roots:
            self._roots[actor] = self.space.root(actor).number
        return self._roots[actor]

    def _breadth_first(self, starts: list[State], limit: int, parents: dict[State, State] | None = None) -> set[State]:
        seen: set[State] = set(starts)
        frontier = list(starts)
        while frontier:
            following: list[State] = []
            for state in frontier:
                for after in self._after(state):
                    if after not in seen:
                        seen.add(after)
                        following.append(after)
                        if parents is not None:
                            parents[after] = state
                if len(seen) > limit:
                    raise SearchLimitError(f"{len(seen):,} states and no end: the limit is {limit:,}, so nothing is proved")
            frontier = following
        return seen

    def _after(self, state: State) -> list[State]:
        """The states that one step leads to.

        A step that nobody else can see, and that sees nothing which may still change, is made first and alone: a choice, and a
        look at a clock that moves no more. What is broken is broken all the same, but perhaps some such steps later.
        """
        world, nodes, budget = state
        try:
            for place, number in enumerate(nodes if self._private_first else ()):
                if number != GONE and self._is_private(self.space.nodes[number].effect, world):
                    return self._stepped(state, place)
            after = [step for place, number in enumerate(nodes) if number != GONE for step in self._stepped(state, place)]
            for then in self._passed(world):
                ended = tuple([self._settled(number, then) for number in nodes]) if self.space.worlds[world].flying else nodes
                after.append((then, ended, budget))
        except _CheckError as error:
            raise _BrokenError(error.invariant, error.problem, error.step, state) from None
        return after

    def _is_private(self, effect: Effect[Any] | None, world: int) -> bool:
        if isinstance(effect, Now):
            return not self._instants or self.space.worlds[world].time >= self._instants[-1]
        return isinstance(effect, Choose)

    def _stepped(self, state: State, place: int) -> list[State]:
        """The states that one actor's step leads to."""
        world, nodes, budget = state
        node = self.space.nodes[nodes[place]]
        ways = node.ways.get((world, budget))
        if ways is None:
            ways = node.ways[world, budget] = self._ways(node, world, budget)
        before, behind = nodes[:place], nodes[place + 1 :]
        return [(after, (*before, then, *behind), left) for after, then, left in ways]

    def _ways(self, node: Node, world: int, budget: int) -> list[tuple[int, int, int]]:
        """Every outcome of an actor's next effect in a world that the faults left allow: what is there after it.

        Each is held against the invariants once, before it is gone on from.
        """
        found: list[tuple[int, int, int]] = []
        for move in () if node.end is not None else self.space.moves(node, world):
            left = budget if move.cost == NO_FAULT else self._left(budget, move.cost)
            if left >= 0:
                self._look(node, world, move)
                found.append((move.world, self._settled(self.space.child(node, move).number, move.world), left))
        return found

    def _look(self, node: Node, world: int, move: Move) -> None:
        seen = (node.asks, world, move.key, move.world)
        if seen not in self._looked:
            step = self.space.step(node, world, move)
            if isinstance(node.effect, WRITES):
                self._check_step(step)
            self._check_world(step.after, step)
            self._looked.add(seen)

    def _passed(self, number: int) -> list[int]:
        """The worlds that come after this one without any actor: time moves on, a late write lands."""
        after = self._passing.get(number)
        if after is None:
            after = self._passing[number] = []
            for step in self.space.passing(self.space.worlds[number], self._instants):
                self._check_step(step)
                self._check_world(step.after, step)
                after.append(self.space.number(step.after))
        return after

    def _left(self, budget: int, cost: int) -> int:
        """The faults that are left when one more is made; -1 when it must not be."""
        left = self._spent.get((budget, cost))
        if left is None:
            counts = tuple(count - (kind == cost) for kind, count in enumerate(self._budgets[budget]))
            if counts not in self._budgets:
                self._budgets.append(counts)
            left = self._spent[budget, cost] = -1 if min(counts) < 0 else self._budgets.index(counts)
        return left

    # What is checked

    def _check_world(self, world: World, step: Step | None) -> None:
        number = self.space.number(world)
        if number in self._checked:
            return
        self.total.seen.update(reached(world))
        for invariant in self.invariants:
            if invariant.world is not None:
                self._judge(invariant, invariant.world(world), step)
        self._checked.add(number)

    def _check_step(self, step: Step) -> None:
        for invariant in self.invariants:
            if invariant.step is not None:
                self._judge(invariant, invariant.step(step), step)

    def _settled(self, number: int, world: int) -> int:
        """An actor at its end is asked for its answer; while a write may still land, it is asked again later."""
        if number == GONE or (node := self.space.nodes[number]).end is None:
            return number
        if (number, world) not in self._ended:
            ending = Ending(node.actor, node.end, self.space.worlds[world], node.minted)
            for invariant in self.invariants:
                if invariant.ending is not None:
                    self._judge(invariant, invariant.ending(ending), None)
            self._ended.add((number, world))
        return number if self.space.worlds[world].flying else GONE

    def _judge(self, invariant: Invariant, verdict: str | None, step: Step | None) -> None:
        if verdict is None:
            return
        self.total.asked[invariant.name] += 1
        if verdict:
            raise _CheckError(invariant.name, verdict, step)

    # What is said when something is wrong

    def _explained(self, worlds: Sequence[World], actors: Sequence[Actor], broken: _BrokenError) -> ViolationError:
        """A shortest way to a broken state: the search once more, no step made first, and the way back from each state kept."""
        again = Search(self.invariants, self.space.faults)
        again._private_first = False
        again._begin(actors, self._instants)
        parents: dict[State, State] = {}
        starts = [again._start(world, actors) for world in worlds]
        try:
            again._breadth_first(starts, 10**9, parents)
        except _BrokenError as found:
            way = [found.state]
            while way[-1] in parents:
                way.append(parents[way[-1]])
            steps = [again._between(before, after) for after, before in pairwise(way)][::-1]
            last = [found.step or again._last_step(found.state, found)]
            return ViolationError(found.invariant, found.problem, (*steps, *last), actors)
        raise RuntimeError(f"a flow did not do the same twice, after: {broken.invariant}: {broken.problem}")

    def _steps_from(self, state: State) -> Iterator[tuple[Step, Callable[[], State]]]:
        """Each step from a state, and the state that it leads to."""
        world, nodes, budget = state
        for place, number in enumerate(nodes):
            if number == GONE or self.space.nodes[number].end is not None:
                continue
            node = self.space.nodes[number]
            for move in self.space.moves(node, world):
                left = budget if move.cost == NO_FAULT else self._left(budget, move.cost)
                if left >= 0:
                    yield self.space.step(node, world, move), partial(self._then, nodes, place, node, move, left)
        for step in self.space.passing(self.space.worlds[world], self._instants):
            after = self.space.number(step.after)
            yield step, partial(self._passed_to, nodes, after, budget)

    def _then(self, nodes: tuple[int, ...], place: int, node: Node, move: Move, left: int) -> State:
        then = self._settled(self.space.child(node, move).number, move.world)
        return move.world, (*nodes[:place], then, *nodes[place + 1 :]), left

    def _passed_to(self, nodes: tuple[int, ...], world: int, budget: int) -> State:
        return world, tuple(self._settled(number, world) for number in nodes), budget

    def _between(self, before: State, after: State) -> Step:
        for step, then in self._steps_from(before):
            try:
                if then() == after:
                    return step
            except _CheckError:
                continue
        raise AssertionError("no step leads there")

    def _last_step(self, state: State, broken: _BrokenError) -> Step:
        """The step after which an actor's answer was found wrong."""
        for step, then in self._steps_from(state):
            try:
                then()
            except _CheckError as error:
                if (error.invariant, error.problem) == (broken.invariant, broken.problem):
                    return step
        raise AssertionError("no step is wrong")


class _CheckError(Exception):
    """A check said what is wrong."""

    def __init__(self, invariant: str, problem: str, step: Step | None) -> None:
        self.invariant = invariant
        self.problem = problem
        self.step = step


class _BrokenError(_CheckError):
    """The same, with the state from which the step was made."""

    def __init__(self, invariant: str, problem: str, step: Step | None, state: State) -> None:
        super().__init__(invariant, problem, step)
        self.state = state


def reached(world: World) -> Iterator[str]:
    """What a world has reached, in words."""
    for job in world.jobs:
        yield f"status {job.status}"
        yield f"run {job.run}"
        if job.cleanup_completed_at is not None:
            yield "cleaned"
        for record in world.history(job.id)[-1:]:
            yield f"event {record.event}"


def explore(
    worlds: World | Iterable[World],
    actors: Sequence[Actor],
    *,
    invariants: Sequence[Invariant],
    faults: Faults | None = None,
    instants: Sequence[int] = (),
    limit: int = 5_000_000,
) -> Exploration:
    """Run the actors' flows through every interleaving of their effects, from each of these worlds.

    `instants` (Unix seconds) are the times to which the clock may move on, at any step, each after the one before. Raises
    ViolationError with a shortest schedule when an invariant is broken; SearchLimitError when there are more than `limit`
    states; ValueError for two actors of one name, for no world, and for a flow that makes 1,000 effects without an end;
    TypeError for a flow that is no generator, or yields what is no effect. An exception that a flow raises is its answer, which
    an invariant may judge.
    """
    search = Search(invariants, faults)
    found = search.explore([worlds] if isinstance(worlds, World) else worlds, actors, instants=instants, limit=limit)
    found.seen, found.asked = search.total.seen, search.total.asked
    return found
