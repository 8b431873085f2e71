"""How a transition table is declared with the `transitions` package, read back, checked and compiled.

Knows rows, guards and events, and nothing of what they mean. The package declares and judges; it is never run on a job.
`transitions` accepts mistyped names silently, so what it was told is read back through its public attributes and checked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

from transitions import Machine, Transition

from jobstate.errors import TableError
from jobstate.model import AnyJob, Event, JobStatus
from jobstate.policy import Policy


class Reason(NamedTuple):
    """Why a guard says no: a stable code, words with figures, and from when on waiting may help (Unix seconds)."""

    code: str
    words: str
    wait_until: int | None = None


Facts = Mapping[str, Any]
Guard = Callable[[AnyJob, int, Facts, Policy], Reason | None]
Change = Callable[[AnyJob, int, Facts, Policy], dict[str, Any]]


class Row(NamedTuple):
    """One compiled row: what an event does in one status."""

    event: Event
    source: JobStatus
    target: JobStatus
    guards: tuple[Guard, ...]
    change: Change
    writes: tuple[str, ...]
    doc: str


class Rule(Transition):
    """A row as `transitions` holds it, with its guards, what it writes, and its sentence for the documentation."""

    def __init__(
        self,
        source: str,
        dest: str,
        conditions: Any = None,
        unless: Any = None,
        before: Any = None,
        after: Any = None,
        prepare: Any = None,
        *,
        guards: tuple[Guard, ...],
        change: Change,
        writes: tuple[str, ...],
        doc: str,
    ) -> None:
        super().__init__(source, dest, [partial(_holds, guard) for guard in guards])  # type: ignore[arg-type]  # a list is taken too
        self.guards = guards
        self.change = change
        self.writes = writes
        self.doc = doc


def _holds(guard: Guard, job: AnyJob, at: int, facts: Facts, policy: Policy) -> bool:
    """The guard as a condition, for `transitions`' own engine."""
    return guard(job, at, facts, policy) is None


class RuleMachine(Machine):
    """A machine without a model, whose transitions are rules."""

    transition_cls = Rule


def declare(rows: Iterable[Mapping[str, Any]], *, initial: JobStatus, states: type[StrEnum] = JobStatus) -> RuleMachine:
    """The machine that holds the rows: no model, no callbacks, no automatic transitions."""
    machine = RuleMachine(model=None, states=states, initial=initial, auto_transitions=False)
    for row in rows:
        machine.add_transition(**row)
    return machine


_EVENTS = frozenset(event.value for event in Event)

Table = dict[tuple[Event, JobStatus], tuple[Row, ...]]


def compile_table(machine: Machine) -> Table:
    """Read the machine back, check it, and make the lookup that decisions use.

    Raises TableError for a name that is no event or status, an event without a row, a status that cannot be reached, a row
    that stands twice, and a row that an earlier one always hides.
    """
    table: dict[tuple[Event, JobStatus], tuple[Row, ...]] = {}
    for row in _read_back(machine):
        before = table.get((row.event, row.source), ())
        for earlier in before:
            if set(earlier.guards) <= set(row.guards):
                word = "stands twice" if earlier.guards == row.guards else "is hidden by an earlier row"
                raise TableError(f"{row.event} from {row.source} to {row.target} {word}")
        table[row.event, row.source] = (*before, row)
    _check_complete(table, JobStatus[machine.initial.name if isinstance(machine.initial, JobStatus) else str(machine.initial)])
    return table


def _read_back(machine: Machine) -> Iterator[Row]:
    for name, event in machine.events.items():
        if name not in _EVENTS:
            raise TableError(f"{name!r} is no event")
        for source, rules in list(event.transitions.items()):
            for rule in rules:
                if not isinstance(rule, Rule):
                    raise TableError(f"{name} from {source} is not a Rule")
                for status in (source, rule.dest):
                    if status not in JobStatus.__members__:
                        raise TableError(f"{name} from {source} to {rule.dest}: {status!r} is no status")
                target = JobStatus[str(rule.dest)]
                yield Row(Event(name), JobStatus[source], target, rule.guards, rule.change, rule.writes, rule.doc)


def _check_complete(table: Table, initial: JobStatus) -> None:
    if missing := set(Event) - {event for event, _ in table}:
        raise TableError(f"no row for {', '.join(sorted(missing))}")
    reached, frontier = {initial}, {initial}
    while frontier:
        frontier = {row.target for rows in table.values() for row in rows if row.source in frontier} - reached
        reached |= frontier
    if lost := set(JobStatus) - reached:
        raise TableError(f"never reached from {initial}: {', '.join(sorted(lost))}")


def fingerprint(table: Table) -> str:
    """16 hex digits that change when a row, its guards or the fields it writes change; prose does not count."""
    rows = sorted(
        " ".join((row.event, row.source, row.target, *(guard.__name__ for guard in row.guards), "writes", *row.writes))
        for group in table.values()
        for row in group
    )
    return sha256("\n".join(rows).encode()).hexdigest()[:16]
