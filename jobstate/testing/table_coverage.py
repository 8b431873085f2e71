"""How much of the transition table has been exercised: which rows, refusals and repeats `decide` has answered with.

Counts decisions, whoever asks for them: a test, or the service under test. `explain`, `allowed_events` and what a refusal calls
legal are questions, not decisions, and do not count; nor does what `jobstate.testing.strategies` decides to make a history.
The pytest plugin (`pytest --jobstate-table`) records a whole suite.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from itertools import groupby
from typing import Any, NamedTuple

from jobstate.lifecycle import TABLE, Already, Decision, decision
from jobstate.lifecycle.guards import CODES, NO_ONLY_IN
from jobstate.lifecycle.machine import Facts, Row
from jobstate.model import AnyJob, Event, JobStatus
from jobstate.policy import Policy


class Group(StrEnum):
    """What can be exercised."""

    ROW = "rows"
    """A row of the table was accepted."""
    NO_ROW = "no row"
    """An event was refused in a status from which the table has no row for it."""
    REFUSAL = "refusals"
    """A guard of a row said no, with this code."""
    REPEAT = "repeats"
    """An event was answered with `Already`."""


class Item(NamedTuple):
    """One thing that can be exercised; plain strings, so that it can be sent to another process."""

    group: str
    event: str
    case: str


def _item(group: Group, event: Event, case: str) -> Item:
    return Item(group.value, event.value, case)


def _row(row: Row) -> Item:
    return _item(Group.ROW, row.event, f"{row.source.value} -> {row.target.value}")


def _refusal(row: Row, code: str) -> Item:
    return _item(Group.REFUSAL, row.event, f"{row.source.value} [{code}]")


def _no_row(event: Event, status: JobStatus) -> Item:
    return _item(Group.NO_ROW, event, status.value)


def _repeat(event: Event) -> Item:
    return _item(Group.REPEAT, event, "already")


def _whole_table() -> Iterator[Item]:
    for row in (row for rows in TABLE.values() for row in rows):
        yield _row(row)
        for guard in row.guards:
            if row.source in NO_ONLY_IN.get(guard, JobStatus):
                yield from (_refusal(row, code) for code in CODES[guard])
    yield from (_no_row(event, status) for event in Event for status in JobStatus if (event, status) not in TABLE)
    yield from (_repeat(event) for event in decision._REPEATS)


def _exercised(job: AnyJob, event: Event, at: int, facts: Facts, policy: Policy, answer: Decision) -> Iterator[Item]:
    """What a decision has exercised: guards are pure, so they are asked again to learn which rows were passed over, and why."""
    if isinstance(answer, Already):
        yield _repeat(event)
        return
    rows = TABLE.get((event, job.status))
    if rows is None:
        yield _no_row(event, job.status)
        return
    for row in rows:
        reasons = (guard(job, at, facts, policy) for guard in row.guards)
        reason = next((reason for reason in reasons if reason is not None), None)
        if reason is None:
            yield _row(row)
            return
        yield _refusal(row, reason.code)


_Answer = Callable[..., Decision]
_UNRECORDED: _Answer = decision._answer


class TableCoverage:
    """A record of what was exercised.

    Attributes:
        everything: all that can be.
        seen: what was, since `start` and until `stop`.
    """

    def __init__(self) -> None:
        self.everything = frozenset(_whole_table())
        self.seen: set[Item] = set()
        self._former: _Answer | None = None

    def start(self) -> None:
        """Record every decision of this process from now on. Recorders may be nested."""
        former = self._former = decision._answer

        def record(job: AnyJob, event: Event, at: int, facts: Facts, policy: Policy, marks: Any) -> Decision:
            answer = former(job, event, at, facts, policy, marks)
            self.add(_exercised(job, event, at, facts, policy, answer))
            return answer

        decision._answer = record

    def stop(self) -> None:
        """Put back what `start` found."""
        if self._former is not None:
            decision._answer = self._former
            self._former = None

    def add(self, items: Iterable[tuple[str, str, str]]) -> None:
        """Count these too: what another process has seen. Unknown ones do not count."""
        self.seen.update(self.everything.intersection(Item(*item) for item in items))

    def missing(self, group: Group) -> list[Item]:
        """What of a group was not exercised, in the order of events."""
        order = list(Event)
        missing = (item for item in self.everything - self.seen if item.group == group)
        return sorted(missing, key=lambda item: (order.index(Event(item.event)), item.case))

    def reaches(self, percent: float) -> bool:
        """Whether at least this share of everything was exercised."""
        return 100 * len(self.seen) >= percent * len(self.everything)

    @property
    def percent(self) -> float:
        """The share that was exercised, rounded down to a tenth: 100 means everything."""
        return 1000 * len(self.seen) // len(self.everything) / 10

    def report(self) -> list[str]:
        """A line for each group and one for all, then what is missing: a line for each group and event."""
        lines = [_counts(group.value, *self._of(group)) for group in Group]
        lines.append(_counts("all", len(self.seen), len(self.everything)) + f" ({self.percent:g} %)")
        for group in Group:
            for event, items in groupby(self.missing(group), key=lambda item: item.event):
                lines.append(f"missing {group.value}: {event}: {', '.join(item.case for item in items)}")
        return lines

    def _of(self, group: Group) -> tuple[int, int]:
        seen, everything = (sum(item.group == group for item in items) for items in (self.seen, self.everything))
        return seen, everything


def _counts(name: str, seen: int, everything: int) -> str:
    return f"{name:<9}{seen:>4} of {everything}"


@contextmanager
def unrecorded() -> Generator[None]:
    """What is decided in here, in any thread, counts for nothing."""
    former, decision._answer = decision._answer, _UNRECORDED
    try:
        yield
    finally:
        decision._answer = former
