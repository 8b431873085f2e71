"""The states of a search, each kept once and known by a number: worlds, and actors after what they were answered.

A generator cannot be copied. So an actor's state is the tuple of answers that it has received: a node in a tree of answers. To
go on from a node its flow is made anew and given these answers again; what follows is remembered, so that each is done once.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from jobstate.effects import Dispatch, Effect, Flow, NewId, Now, SaveMany
from jobstate.errors import DispatchError, OutcomeUnknownError, RepositoryError, StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.model import Event
from jobstate.testing.explorer.world import SAVES, Answer, Choose, Take, World, brief, freeze, mint, transitions_of


@contextmanager
def uncollected() -> Generator[None]:
    """Without the garbage collector: a search makes millions of values that stay, and looking through them again costs most."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


MOST_EFFECTS = 1_000
"""What a flow makes of effects before it is told that it must end."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Somebody who runs a flow, once.

    Attributes:
        name: of its own in an exploration; its ids carry it.
        flow: makes the flow. It must do the same whenever it is given the same answers: no clock, no chance, no memory. And it
            must come to an end, whatever it is answered: before its effect 1,000.
        event: the command that its answer speaks of, for the invariants on answers; None if it gives none.
    """

    name: str
    flow: Callable[[], Flow[Any]]
    event: Event | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How often each thing may go wrong in one schedule; a crash needs no count: a dead actor is one that is never run again.

    Attributes:
        lost: a write is done and its answer lost, or the answer is lost and the write lands at any later time, or never.
        failed: an effect fails with an error of the store, and is not done.
        undelivered: the dispatcher raises; it has taken the delivery, or not.
        repeated: a delivery is received and comes again.
        skewed: a reading of the clock is `skew` seconds early or late.
        skew: seconds.
    """

    lost: int = 0
    failed: int = 0
    undelivered: int = 0
    repeated: int = 0
    skewed: int = 0
    skew: int = 1

    @property
    def budget(self) -> tuple[int, ...]:
        """How much is left of each at the beginning."""
        return (self.lost, self.failed, self.undelivered, self.repeated, self.skewed)


NO_FAULT, LOST, FAILED, UNDELIVERED, REPEATED, SKEWED = -1, 0, 1, 2, 3, 4


class Outcome(NamedTuple):
    """One thing that an effect may do in a world: what it costs, what is answered, the world after it, and it in words."""

    cost: int
    answer: Answer
    world: World
    words: str = ""


class Move(NamedTuple):
    """An outcome, numbered: what it costs, what is answered and its key, and the number of the world after it."""

    cost: int
    answer: Answer
    key: Hashable
    world: int
    words: str


class Node:
    """An actor after some answers: waiting for an effect, or at its end."""

    __slots__ = ("actor", "answers", "asks", "children", "effect", "end", "minted", "number", "setbacks", "ways")

    def __init__(self, number: int, actor: Actor, answers: tuple[Answer, ...], minted: tuple[str, ...]) -> None:
        self.number = number
        self.actor = actor
        self.answers = answers
        self.minted = minted
        self.effect: Effect[Any] | None = None
        self.asks = -1
        self.setbacks = sum(isinstance(answer.error, (StaleJobError, OutcomeUnknownError)) for answer in answers)
        self.end: Answer | None = None
        self.children: dict[Hashable, Node] = {}
        self.ways: dict[tuple[int, int], list[tuple[int, int, int]]] = {}


class Step(NamedTuple):
    """One step of a schedule: who did what, what it was answered, and the world before and after.

    `actor` is the actor's name, or `time` or `late write`. `minted` are the ids that the actor has made so far.
    """

    actor: str
    effect: Effect[Any] | None
    answer: Answer
    before: World
    after: World
    minted: tuple[str, ...]
    words: str = ""

    @property
    def saved(self) -> tuple[Accepted, ...]:
        """The transitions that took effect in this step."""
        return () if self.effect is None else tuple(self._took_effect(transitions_of(self.effect)))

    def _took_effect(self, transitions: Iterable[Accepted]) -> Iterator[Accepted]:
        for transition in transitions:
            before, after = self.before.row(transition.job_id), self.after.row(transition.job_id)
            if before is not None and after is not None and before.version == transition.version < after.version:
                yield transition

    def __str__(self) -> str:
        what = "" if self.effect is None else f"{brief(self.effect)} -> {self.answer!r}"
        return f"{self.actor:<16} {what}{' ' if what and self.words else ''}{f'({self.words})' if self.words else ''}"


@dataclass
class Space:
    """Worlds and nodes, each once."""

    faults: Faults
    worlds: list[World] = field(default_factory=list[World])
    nodes: list[Node] = field(default_factory=list[Node])
    _world_numbers: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    _effect_numbers: dict[Hashable, int] = field(default_factory=dict[Hashable, int])
    _moves: dict[tuple[int, int], list[Move]] = field(default_factory=dict[tuple[int, int], list[Move]])

    def number(self, world: World) -> int:
        """The number of a world."""
        number = self._world_numbers.get(world.key)
        if number is None:
            number = self._world_numbers[world.key] = len(self.worlds)
            self.worlds.append(world)
        return number

    def root(self, actor: Actor) -> Node:
        """An actor before its first effect."""
        return self._advance(actor, (), ())

    def child(self, node: Node, move: Move) -> Node:
        """The actor after one more answer."""
        child = node.children.get(move.key)
        if child is None:
            child = node.children[move.key] = self._advance(node.actor, (*node.answers, move.answer), node.minted)
        return child

    def _advance(self, actor: Actor, answers: tuple[Answer, ...], minted: tuple[str, ...]) -> Node:
        """Run the flow anew on these answers, on to its next effect. Ids are minted on the way: nobody else can see that."""
        flow = actor.flow()
        if not isinstance(cast(object, flow), Generator):
            raise TypeError(f"actor {actor.name!r}: its flow must be a generator of effects, and is {brief(flow)}")
        node = Node(len(self.nodes), actor, answers, minted)
        self.nodes.append(node)
        try:
            effect = next(flow)
            for answer in answers:
                effect = flow.send(answer.value) if answer.error is None else flow.throw(answer.error)
            while isinstance(effect, NewId) and len(node.answers) < MOST_EFFECTS:
                answer = Answer(mint(effect, actor.name, len(node.minted)))
                node.answers = (*node.answers, answer)
                node.minted = (*node.minted, answer.value)
                effect = flow.send(answer.value)
            node.effect = effect
            node.asks = self._effect_numbers.setdefault(freeze(effect), len(self._effect_numbers))
        except StopIteration as stop:
            node.end = Answer(stop.value)
        except Exception as error:  # noqa: BLE001  # what a flow raises is its answer
            node.end = Answer(error=error)
        finally:
            flow.close()
        if node.end is None:
            _check_effect(node)
        return node

    def moves(self, node: Node, world: int) -> list[Move]:
        """All that a node's effect may do in a world, each outcome once."""
        asked = (node.asks, world)
        moves = self._moves.get(asked)
        if moves is None:
            assert node.effect is not None
            moves = self._moves[asked] = []
            for outcome in self.outcomes(node.effect, self.worlds[world]):
                answer = outcome.answer
                key = freeze(answer.value if answer.error is None else answer.error)
                moves.append(Move(outcome.cost, answer, key, self.number(outcome.world), outcome.words))
        return moves

    def step(self, node: Node, world: int, move: Move) -> Step:
        """A move, as a step of a schedule."""
        before, after = self.worlds[world], self.worlds[move.world]
        return Step(node.actor.name, node.effect, move.answer, before, after, node.minted, move.words)

    def outcomes(self, effect: Effect[Any], world: World) -> Iterable[Outcome]:
        """All that the effect may do in a world, right and wrong; nothing when it has to wait."""
        if isinstance(effect, Take):
            return self._take(world)
        if isinstance(effect, Choose):
            return [Outcome(NO_FAULT, Answer(option), world, f"choice {option}") for option in range(effect.options)]
        if isinstance(effect, Now):
            return self._now(world)
        answer, after = world.perform(effect)
        found = [Outcome(NO_FAULT, answer, after)]
        if isinstance(effect, SAVES):
            found += self._lost(effect, world, answer, after)
        if isinstance(effect, Dispatch):
            broken = Answer(error=DispatchError("the broker is down"))
            if self.faults.undelivered:
                found.append(Outcome(UNDELIVERED, broken, world, "the dispatcher fails"))
                found.append(Outcome(UNDELIVERED, broken, after, "the dispatcher takes it and fails"))
        elif self.faults.failed:
            down = Answer(error=RepositoryError("the store is down"))
            found.append(Outcome(FAILED, down, world, "the store fails, nothing is done"))
        return found

    def _take(self, world: World) -> Iterable[Outcome]:
        for place, delivery in enumerate(world.queue):
            rest = world.with_queue(world.queue[:place] + world.queue[place + 1 :])
            yield Outcome(NO_FAULT, Answer(delivery), rest)
            if self.faults.repeated:
                yield Outcome(REPEATED, Answer(delivery), world, "and it will come again")

    def _now(self, world: World) -> Iterable[Outcome]:
        yield Outcome(NO_FAULT, Answer(world.time), world)
        if self.faults.skewed:
            for skew in (-self.faults.skew, self.faults.skew):
                yield Outcome(SKEWED, Answer(world.time + skew), world, f"the clock is {skew:+} s off")

    def _lost(self, effect: Effect[Any], world: World, answer: Answer, after: World) -> Iterable[Outcome]:
        if not self.faults.lost or isinstance(answer.error, StaleJobError):
            return
        lost = _unknown(effect)
        yield Outcome(LOST, lost, after, "done, and the answer is lost")
        yield Outcome(LOST, lost, world.with_flying((*world.flying, effect)), "the answer is lost, it may land later")

    def passing(self, world: World, instants: Sequence[int]) -> Iterator[Step]:
        """What happens without any actor: time moves on to the next instant, or a write that is in the air lands."""
        then = next((instant for instant in instants if instant > world.time), None)
        if then is not None:
            yield Step("time", None, Answer(), world, world.at(then), (), f"it is {then} now")
        for place, effect in enumerate(world.flying):
            grounded = world.with_flying(world.flying[:place] + world.flying[place + 1 :])
            answer, after = grounded.perform(effect)
            if answer.error is None:
                yield Step("late write", effect, answer, world, after, (), "it lands")


def _check_effect(node: Node) -> None:
    """Whether an actor can be gone on with."""
    effect: object = node.effect
    if not isinstance(effect, Effect):
        raise TypeError(
            f"actor {node.actor.name!r}: its flow yielded {brief(effect)}, which is no effect; "
            "use `result = yield from` with one of jobstate.effects, or with another flow"
        )
    if len(node.answers) >= MOST_EFFECTS:
        raise ValueError(
            f"actor {node.actor.name!r}: its flow made {MOST_EFFECTS:,} effects without an end; flows must be finite"
        )


def _unknown(effect: Effect[Any]) -> Answer:
    """A lost answer, as the clauses have it: `save_many` says it for each."""
    error = OutcomeUnknownError("job", "the answer was lost")
    if isinstance(effect, SaveMany):
        return Answer([OutcomeUnknownError(transition.job_id, "the answer was lost") for transition in effect.transitions])
    return Answer(error=error)
