"""The closed set of effects: every atomic step that a flow can ask of the world.

A flow is a generator that yields effects and is sent their results; `job = yield from Load(job_id)` is typed as a `Job`. One
effect is one atomic statement or transaction: the place where another actor, or a crash, may come between. How an effect is
carried out is the drivers' business; a port's error comes back at the `yield`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, NamedTuple, TypeVar

from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, Delivery, HistoryRecord
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Effect(Generic[R]):
    """One step of the world, with a result of type R. Always used as `result = yield from Effect(...)`."""

    def __iter__(self) -> Generator[Effect[Any], Any, R]:
        result: R = yield self
        return result


Flow = Generator[Effect[Any], Any, R]
"""A service operation: yields effects, returns R."""


class IdKind(StrEnum):
    """What an id is for; its prefix."""

    JOB = "job"
    OPERATION = "op"
    LEASE = "lease"


@dataclass(frozen=True, slots=True)
class Now(Effect[int]):
    """The clock: whole Unix seconds."""


@dataclass(frozen=True, slots=True)
class NewId(Effect[str]):
    """A new id: a prefix and 21 URL-safe characters, ordered by time."""

    kind: IdKind


@dataclass(frozen=True, slots=True)
class Load(Effect[AnyJob]):
    """One job, payloads only when asked for. JobNotFoundError also for another organization's."""

    job_id: str
    organization_id: str | None = None
    include_request: bool = False
    include_response: bool = False


@dataclass(frozen=True, slots=True)
class Insert(Effect["AnyJob | None"]):
    """A new row with its payload and its record: None, or the job that has this id or this tenant's key.

    With `task_name`, the transactional dispatcher takes its delivery in the same transaction; `not_before` as in `Dispatch`.
    """

    job: AnyJob
    record: HistoryRecord
    task_name: str | None = None
    not_before: int | None = None


@dataclass(frozen=True, slots=True)
class Save(Effect[None]):
    """Compare-and-set of one transition, with its record."""

    transition: Accepted


@dataclass(frozen=True, slots=True)
class SaveAndDispatch(Effect[None]):
    """The same, and a transactional dispatcher's delivery, in one transaction; `not_before` as in `Dispatch`."""

    transition: Accepted
    delivery: Delivery
    task_name: str
    not_before: int | None = None


@dataclass(frozen=True, slots=True)
class SaveMany(Effect[Sequence[RepositoryError | None]]):
    """Many transitions, each compared on its own; an outcome for each, in order: None, or why not."""

    transitions: Sequence[Accepted]


@dataclass(frozen=True, slots=True)
class List(Effect[Listing]):
    """A keyset page by id."""

    where: JobFilter
    page: PageRequest
    include_request: bool = False
    include_response: bool = False


@dataclass(frozen=True, slots=True)
class DueJobs(Effect[DuePage]):
    """A part of a due page: rows due at `until` (Unix seconds) or before, behind `after`."""

    due: Due
    until: int
    limit: int
    after: Cursor | None = None


Decide = Callable[[Sequence[AnyJob]], Sequence[Accepted]]
"""What moves of the rows of a due page. Pure, so that it can be asked in the middle of a transaction."""


class Moved(NamedTuple):
    """A part of a due page, what was decided to move of it, and an answer for each, in order: None, or why not."""

    page: DuePage
    transitions: Sequence[Accepted]
    answers: Sequence[RepositoryError | None]


@dataclass(frozen=True, slots=True)
class MoveDue(Effect[Moved]):
    """A part of a due page, decided and saved in one transaction that holds its rows; for a repository that offers it."""

    due: Due
    until: int
    limit: int
    after: Cursor | None
    decide: Decide
    include_request: bool = False


@dataclass(frozen=True, slots=True)
class Count(Effect[int]):
    """How many jobs a filter finds."""

    where: JobFilter


@dataclass(frozen=True, slots=True)
class History(Effect[list[HistoryRecord]]):
    """A job's records behind a version, oldest first."""

    job_id: str
    after_version: int = 0


@dataclass(frozen=True, slots=True)
class Delete(Effect[None]):
    """The row, its payload and its history, if it is at this version."""

    job_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Dispatch(Effect[str]):
    """A delivery handed to the dispatcher; its name for the task.

    With `not_before` (Unix seconds) it is handed over early, for a dispatcher that can delay.
    """

    delivery: Delivery
    task_name: str
    not_before: int | None = None


@dataclass(frozen=True, slots=True)
class Revoke(Effect[None]):
    """A task taken back, if the dispatcher can."""

    task_name: str


@dataclass(frozen=True, slots=True)
class PutArtifact(Effect[None]):
    """Bytes under a key, once."""

    key: str
    data: bytes


@dataclass(frozen=True, slots=True)
class GetArtifact(Effect[bytes]):
    """The bytes under a key."""

    key: str


@dataclass(frozen=True, slots=True)
class DeleteArtifacts(Effect[None]):
    """Everything whose key begins with a prefix."""

    prefix: str
