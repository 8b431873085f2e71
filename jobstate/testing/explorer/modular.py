"""The thread-modular proof: one actor against everything that any number of others was seen to do to the world.

An interleaving search knows how many actors there are. Here one actor is followed at a time, through worlds in which nobody but
it has a name: every other id is `other`. What it does to the world is done, under that name, by any number of others, at any
time, to every actor in the same world, until nothing new comes up. So what holds here holds for any number of actors of these
kinds, each as slow as it likes or dead, with any number of lost answers, late writes, failures and skewed clocks; and, since a
worker may bring any delivery at any time, with any loss and any repetition of messages.

Two things bound it. `within` says which worlds are gone on from. `setbacks` says how many conflicts and lost answers the
followed operation meets; what others meet is not counted.

Source: thread-modular model checking (Flanagan and Qadeer, 2003).
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, NamedTuple, cast

from pydantic import BaseModel

from jobstate.effects import Effect
from jobstate.memory import MemoryRepository
from jobstate.model import Event, HistoryRecord, evolve
from jobstate.testing.explorer.search import Ending, Invariant, SearchLimitError, reached
from jobstate.testing.explorer.space import Actor, Faults, Node, Space, Step, uncollected
from jobstate.testing.explorer.world import WRITES, World, freeze, make_world

OTHER = "other"


@dataclass
class Proof:
    """What a proof has seen: pairs of an actor's state and a world, worlds, what others do, and how often the bound was met."""

    pairs: int = 0
    worlds: int = 0
    nodes: int = 0
    interference: int = 0
    cut: int = 0
    seconds: float = 0.0
    seen: set[str] = field(default_factory=set[str])
    asked: Counter[str] = field(default_factory=Counter[str])
    space: Space | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs, {self.worlds:,} worlds, {self.interference:,} deeds of others, {self.seconds:.1f} s"


class ModularError(AssertionError):
    """An invariant is broken in the thread-modular search; look for the schedule with `explore`."""


Pairs = tuple[tuple[str, str], ...]
"""Strings to be replaced, each by another."""


def rename(value: Any, pairs: Pairs) -> Any:
    """The same value with these strings replaced, wherever they stand in it; the value itself when there are none."""
    if not pairs or value is None:
        return value
    if isinstance(value, str):
        if type(value) is not str:
            return value
        for old, new in pairs:
            if old in value:
                value = value.replace(old, new)
        return value
    if isinstance(value, BaseModel):
        changed = _changed(value.__dict__, pairs)
        return evolve(cast(Any, value), changed) if changed else value
    if is_dataclass(value) and not isinstance(value, type):
        changed = _changed({field.name: getattr(value, field.name) for field in fields(value)}, pairs)
        return replace(value, **changed) if changed else value
    if isinstance(value, Mapping):
        mapping = cast(Mapping[str, Any], value)
        changed = _changed(mapping, pairs)
        return {**mapping, **changed} if changed else mapping
    if isinstance(value, (tuple, list)):
        items = cast("list[Any]", value)
        renamed = [rename(item, pairs) for item in items]
        if all(new is old for new, old in zip(renamed, items, strict=True)):
            return items
        kind = cast(Any, type(cast(object, value)))
        return kind(*renamed) if hasattr(kind, "_fields") else kind(renamed)
    return value


def _everybody(world: World) -> Pairs:
    """Every operation and lease in a world, as another's."""
    found: set[tuple[str, str]] = set()
    for job in world.jobs:
        found.add((job.operation, f"op_{OTHER}"))
        found |= {(record.operation, f"op_{OTHER}") for record in world.history(job.id)}
        found |= {(job.lease.token, f"lease_{OTHER}")} if job.lease is not None else set()
    return tuple(sorted(found, reverse=True))


def _changed(parts: Mapping[str, Any], pairs: Pairs) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, part in parts.items():
        renamed = rename(part, pairs)
        if renamed is not part and renamed != part:
            found[name] = renamed
    return found


def _rebuilt(world: World, own: frozenset[str], pairs: Pairs, *, grounded: bool) -> World:
    """A world as one actor sees it: own records, keys of retries, no deliveries; renamed, and without what is in the air."""
    there, repository = world.repository, MemoryRepository()
    for job_id, row in there._rows.items():
        row = rename(row, pairs)
        repository._rows[row.id] = row
        repository._ids.append(row.id)
        if row.idempotency_key is not None:
            repository._keys[row.organization_id, row.idempotency_key] = row.id
        records = there._history[job_id]
        repository._history[row.id] = [kept for record in records if (kept := _projected(record, own, pairs)) is not None]
    repository._payloads = {(rename(job_id, pairs), name): text for (job_id, name), text in there._payloads.items()}
    sent = frozenset((rename(job_id, pairs), run) for job_id, run in world.sent)
    artifacts = {rename(key, pairs): data for key, data in world.artifacts.items()}
    return make_world(repository, (), sent, artifacts, world.time, () if grounded else world.flying)


def _projected(record: HistoryRecord, own: frozenset[str], pairs: Pairs) -> HistoryRecord | None:
    """Of the history flows read only their own operations and the keys of retries."""
    key = record.changes.get("retry_key") if record.event is Event.RETRY else None
    mine = record.operation in own and not pairs
    if not mine and key is None:
        return None
    changes = {} if key is None else {"retry_key": key}
    told = {"changes": changes, "at": 0, "attempt": 0, "source": None, "actor": None, "reason": None}
    if not mine:
        told |= {"operation": f"op_{OTHER}", "version": 0, "job_id": rename(record.job_id, pairs)}
    return record.model_copy(update=told)


class _Deed(NamedTuple):
    """What some actor was seen to do to a world: its effect, under the name of others, and what in that world was its own.

    What was its own can be nobody else's: an actor in a like world, where that is its own, cannot meet it.
    """

    effect: Effect[Any]
    owned: frozenset[str]


def _owned(world: World) -> frozenset[str]:
    """Which of a world's ids are the followed actor's own."""
    owned: set[str] = set()
    for job in world.jobs:
        if OTHER not in job.operation:
            owned.add(f"operation of {job.id}")
        if job.lease is not None and OTHER not in job.lease.token:
            owned.add(f"lease of {job.id}")
    return frozenset(owned)


class ModularSearch:
    """The search for the proof; see the module."""

    def __init__(
        self,
        invariants: Sequence[Invariant],
        *,
        faults: Faults,
        instants: Sequence[int] = (),
        within: Callable[[World], bool] = lambda world: True,
        setbacks: int = 1,
    ) -> None:
        self.invariants = tuple(invariant for invariant in invariants if not invariant.of_history)
        self.space = Space(faults)
        self.proof = Proof(space=self.space)
        self._instants = tuple(sorted(instants))
        self._within = within
        self._setbacks = setbacks
        self._nodes_at: dict[int, set[int]] = defaultdict(set)
        self._after: dict[int, list[int]] = {}
        self._shared: dict[tuple[int, str], int] = {}
        self._alike: dict[int, list[int]] = defaultdict(list)
        self._owner: dict[int, str] = {}
        self._done: dict[int, dict[Hashable, _Deed]] = defaultdict(dict)
        self._ways: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._todo: list[tuple[int, int]] = []
        self._views: dict[tuple[int, tuple[str, ...]], int] = {}

    def prove(self, worlds: Iterable[World], actors: Sequence[Actor], limit: int) -> Proof:
        """As the function `prove`."""
        began = time.perf_counter()
        for world in worlds:
            start = self.space.number(_rebuilt(world, frozenset(), _everybody(world), grounded=False))
            for actor in actors:
                self._add(start, self.space.root(actor))
        if not self.space.worlds:
            raise ValueError("worlds: there is none to begin with, so nothing would be proved; give at least one")
        while self._todo:
            number, node = self._todo.pop()
            self._follow(number, self.space.nodes[node])
            if self.proof.pairs > limit:
                raise SearchLimitError(f"{self.proof.pairs:,} pairs and no end: nothing is proved")
        self.proof.worlds = len(self._nodes_at)
        self.proof.nodes = len(self.space.nodes)
        self.proof.seconds = time.perf_counter() - began
        return self.proof

    def _add(self, world: int, node: Node) -> None:
        if node.end is not None:
            self._settle(world, node)
            if not self.space.worlds[world].flying:
                return
        there = self._nodes_at[world]
        if node.number in there:
            return
        if node.setbacks > self._setbacks:
            self.proof.cut += 1
            return
        if not there:
            self._enter(world, node)
        there.add(node.number)
        self.proof.pairs += 1
        self._todo.append((world, node.number))

    def _enter(self, world: int, node: Node) -> None:
        """A world that is new: time, and what others were seen to do to one like it, go on from it."""
        there = self.space.worlds[world]
        self.proof.seen.update(reached(there))
        for invariant in self.invariants:
            if invariant.world is not None:
                self._judge(invariant, invariant.world(there), f"in a world of {there.jobs}")
        self._after[world] = []
        then = next((instant for instant in self._instants if instant > there.time), None)
        if then is not None:
            self._leads(world, there.at(then))
        shared = self._shared_by(world, node)
        self._alike[shared].append(world)
        for deed in list(self._done[shared].values()):
            self._meet(world, deed)

    def _shared_by(self, world: int, node: Node) -> int:
        """The world as all see it: every id of the actor's own is another's."""
        there = self.space.worlds[world]
        return self.space.number(_rebuilt(there, frozenset(), self._names(node.actor.name, there), grounded=True))

    def _names(self, name: str, world: World) -> Pairs:
        pairs: list[tuple[str, str]] = []
        for kind in ("op", "lease"):
            pairs += [(f"{kind}_{name}_{count}", f"{kind}_{OTHER}") for count in range(40, -1, -1)]
        return tuple(pairs)

    def _meet(self, world: int, deed: _Deed) -> None:
        """Somebody else does this in a world, if it can be somebody else."""
        there = self.space.worlds[world]
        if deed.owned.isdisjoint(_owned(there)):
            _, after = there.perform(deed.effect)
            self._leads(world, _rebuilt(after, self._own(after), (), grounded=False))

    def _own(self, world: World) -> frozenset[str]:
        return frozenset(
            record.operation
            for records in world.repository._history.values()
            for record in records
            if OTHER not in record.operation
        )

    def _leads(self, world: int, after: World) -> None:
        """From this world, whoever is there, one comes to that world."""
        if not self._within(after):
            self.proof.cut += 1
            return
        number = self.space.number(after)
        if number != world and number not in self._after[world]:
            self._after[world].append(number)
            for node in list(self._nodes_at[world]):
                self._add(number, self.space.nodes[node])

    def _follow(self, world: int, node: Node) -> None:
        there = self.space.worlds[world]
        if node.end is None:
            moves = self._ways.get((node.asks, world))
            if moves is None:
                moves = self._ways[node.asks, world] = self._moves(node, world)
            for place, after in moves:
                self._add(after, self.space.child(node, self.space.moves(node, world)[place]))
        for step in self.space.passing(there, ()):
            self._check_step(step)
            self._did(world, node, step.effect, step.after)
            landed = _rebuilt(step.after, frozenset(node.minted), (), grounded=False)
            if self._within(landed):
                self._add(self.space.number(landed), node)
            else:
                self.proof.cut += 1
        for then in self._after[world]:
            self._add(then, node)

    def _moves(self, node: Node, world: int) -> list[tuple[int, int]]:
        there = self.space.worlds[world]
        found: list[tuple[int, int]] = []
        for place, move in enumerate(self.space.moves(node, world)):
            if isinstance(node.effect, WRITES):
                self._check_step(self.space.step(node, world, move))
            after = self.space.worlds[move.world]
            if after is not there:
                if not self._within(after):
                    self.proof.cut += 1
                    continue
                after = _rebuilt(after, frozenset(node.minted), (), grounded=False)
                self._did(world, node, node.effect, after)
            found.append((place, self.space.number(after)))
        return found

    def _did(self, world: int, node: Node, effect: Effect[Any] | None, after: World) -> None:
        """What an actor did to a world, others do to every world like it."""
        if effect is None:
            return
        names = self._names(node.actor.name, after)
        shared = self._shared_by(world, node)
        if shared == self.space.number(_rebuilt(after, frozenset(), names, grounded=True)):
            return
        deed = _Deed(rename(effect, names), _owned(self.space.worlds[world]))
        key = (freeze(deed.effect), deed.owned)
        if key not in self._done[shared]:
            self._done[shared][key] = deed
            self.proof.interference += 1
            for alike in list(self._alike[shared]):
                self._meet(alike, deed)

    def _settle(self, world: int, node: Node) -> None:
        assert node.end is not None
        ending = Ending(node.actor, node.end, self.space.worlds[world], node.minted)
        for invariant in self.invariants:
            if invariant.ending is not None:
                self._judge(invariant, invariant.ending(ending), f"{node.actor.name} answers {node.end!r}")

    def _check_step(self, step: Step) -> None:
        for invariant in self.invariants:
            if invariant.step is not None:
                self._judge(invariant, invariant.step(step), str(step))

    def _judge(self, invariant: Invariant, verdict: str | None, words: str) -> None:
        if verdict is not None:
            self.proof.asked[invariant.name] += 1
            if verdict:
                raise ModularError(f"{invariant.name}: {verdict}\n  {words}")


def prove(
    worlds: World | Iterable[World],
    actors: Sequence[Actor],
    *,
    invariants: Sequence[Invariant],
    faults: Faults,
    instants: Sequence[int] = (),
    within: Callable[[World], bool] = lambda world: True,
    setbacks: int = 1,
    limit: int = 5_000_000,
) -> Proof:
    """Follow each actor from each of these worlds on, against any number of others of all these kinds.

    `faults` says which kinds of fault there are; how often does not matter. Invariants that ask the history of everybody
    (`of_history`) are left out. Raises ModularError when one is broken: some such world may be one that no schedule reaches, so
    look for the schedule with `explore`. Raises SearchLimitError above `limit` pairs, and ValueError for no world.
    """
    search = ModularSearch(invariants, faults=faults, instants=instants, within=within, setbacks=setbacks)
    with uncollected():
        return search.prove([worlds] if isinstance(worlds, World) else worlds, actors, limit)
