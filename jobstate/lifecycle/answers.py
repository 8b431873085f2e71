"""What is answered to an event: accepted, done already, or refused. Values that compare and pickle; no rule is here."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from jobstate.errors import GuardRefusedError, IllegalTransitionError, LeaseLostError, TransitionError
from jobstate.lifecycle.table import TABLE, UNRECORDED
from jobstate.model import Event, HistoryRecord, JobStatus, construct, plain_fields


class Accepted(NamedTuple):
    """A transition: the event is accepted. `changes` holds every field that is to be written, and nothing else.

    `version` is the version it was decided on, which a save compares; the row's version afterwards is one more.
    """

    job_id: str
    event: Event
    source: JobStatus
    target: JobStatus
    version: int
    at: int
    attempt: int
    operation: str
    actor: str | None
    reason: str | None
    changes: dict[str, Any]

    def __str__(self) -> str:
        return f"{self.event} of {self.job_id} ({self.source}) is accepted: it becomes {self.target}"

    @property
    def record(self) -> HistoryRecord | None:
        """The history record that is written with the save; None for an event that leaves none."""
        fields = self.record_fields
        return None if fields is None else construct(HistoryRecord, **fields)

    @property
    def record_fields(self) -> dict[str, Any] | None:
        """The fields of `record`, for a store that writes thousands."""
        if self.event in UNRECORDED:
            return None
        return {
            "job_id": self.job_id,
            "version": self.version + 1,
            "event": self.event,
            "source": self.source,
            "target": self.target,
            "at": self.at,
            "attempt": self.attempt,
            "operation": self.operation,
            "actor": self.actor,
            "reason": self.reason,
            "changes": plain_fields(self.changes),
        }


class Already(NamedTuple):
    """The same thing was done before: nothing changes, and the caller gets the job."""

    job_id: str
    event: Event
    status: JobStatus
    words: str

    def __str__(self) -> str:
        return f"{self.event} of {self.job_id} ({self.status}) was done already: {self.words}"


class Choices:
    """What would have been accepted instead: found out when it is first read, since most refusals are told without it.

    As a value it is its events: it compares, hashes and pickles as they do.
    """

    __slots__ = ("_found",)

    def __init__(self, found: tuple[Event, ...] | partial[tuple[Event, ...]]) -> None:
        self._found = found

    @property
    def events(self) -> tuple[Event, ...]:
        """In the order of `Event`."""
        found = self._found
        if isinstance(found, partial):
            found = self._found = found()
        return found

    def __eq__(self, other: object) -> bool:
        return self.events == other.events if isinstance(other, Choices) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.events)

    def __repr__(self) -> str:
        return repr(self.events)

    def __reduce__(self) -> tuple[Any, ...]:
        return Choices, (self.events,)


class Refused(NamedTuple):
    """A refusal that explains itself: a stable code, the guard's words, what is legal now, and whether waiting helps."""

    job_id: str
    event: Event
    status: JobStatus
    code: str
    words: str
    choices: Choices
    wait_until: int | None

    @property
    def legal(self) -> tuple[Event, ...]:
        """The events that would have been accepted in its place, in the order of `Event`."""
        return self.choices.events

    def __str__(self) -> str:
        return str(self.error())

    def error(self) -> TransitionError:
        """The error that a command raises for this refusal."""
        if self.code == "lease_lost":
            kind: type[TransitionError] = LeaseLostError
        elif (self.event, self.status) in TABLE:
            kind = GuardRefusedError
        else:
            kind = IllegalTransitionError
        legal = tuple(event.value for event in self.legal)
        return kind(self.job_id, self.code, self.event.value, self.status.value, self.words, legal, self.wait_until)


Decision = Accepted | Already | Refused
