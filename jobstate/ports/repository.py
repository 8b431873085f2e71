"""Where jobs are kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, HistoryRecord
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest

Within = Callable[[Any], Any]
"""Called with the store's open transaction, before it commits; what it raises rolls the transaction back."""

AsyncWithin = Callable[[Any], Awaitable[Any]]
"""The same, awaited."""


class Repository(Protocol):
    """Keeps jobs, their payloads and their history.

    R01 `insert` stores the row, its payloads and its record.
    R02 `insert` of an id that is there stores nothing, and answers the job that is there, without payloads.
    R03 `insert` of an idempotency key that its organization has used does the same; other organizations' keys do not matter.
        Keys and organizations are compared by byte, here and in R05 and R17.
    R04 `load` of an unknown id is JobNotFoundError.
    R05 `load` for an organization finds another's job as little as an unknown one: the two errors look the same.
    R06 A payload is loaded only when it is asked for.
    R07 What is loaded shares nothing with what was stored, or loaded before.
    R08 `save` writes exactly `transition.changes`.
    R09 `save` writes the transition's record with it, if there is one.
    R10 `save` rewrites a payload only if `changes` names it; None removes it.
    R11 `save` of a row that is not at `transition.version`, or not there, is StaleJobError and writes nothing.
    R12 StaleJobError means *certainly not applied*: a write whose fate is not known is OutcomeUnknownError, also when the
        adapter repeated it itself and then met a conflict.
    R13 `save_many` answers for each transition, in the order given: None, or the error.
    R14 `save_many` is `save` for each: one that fails touches no other.
    R15 `list` pages by id in byte order, newest or oldest first.
    R16 `after` and `before` are ids, which need not exist; `before` answers the jobs nearest to it, in the order asked for.
    R17 All conditions of the filter hold for each job that is listed, and each job for which they hold is listed.
    R18 `due` answers the rows of `Due`'s table with a due time of `until` or before.
    R19 `due` orders by (due time, id) and goes on behind `after`: each row once, none left out.
    R20 `count` counts what `list` would list.
    R21 `history` answers a job's records behind a version, oldest first; for an unknown job, none.
    R22 `delete` removes row, payloads and history, and frees the idempotency key.
    R23 `delete` of a row that is not at that version, or not there, is StaleJobError and removes nothing.
    R24 A stored row that cannot be read is UnreadableJobError with the job's id when it is loaded.
    R25 Such a row is named by `list` and `due`, and stops neither.
    R26 With `within`, a write calls it once with its open transaction, and is done if it returns.
    R27 A write that is refused does not call `within`.
    R28 What `within` raises rolls the write back and is passed on.
    R29 Every method may be called by several threads at once (the async twin: by several tasks).
    """

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Within | None = None) -> AnyJob | None:
        """Store a new job: None when it was stored, else the job that is there. R01 to R03, R26 to R28. Idempotent by id."""
        ...

    def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """One job. R04 to R07, R24."""
        ...

    def save(self, transition: Accepted, *, within: Within | None = None) -> None:
        """Compare-and-set. R08 to R12, R26 to R28. Atomic; a second time it is stale."""
        ...

    def save_many(self, transitions: Sequence[Accepted]) -> Sequence[RepositoryError | None]:
        """Compare-and-set of many, of different jobs. R13, R14. Each atomic, not all together."""
        ...

    def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """The part of the list that `page` asks for. R06, R15 to R17, R25."""
        ...

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """At most `limit` rows of a due page, without payloads. R18, R19, R25."""
        ...

    def count(self, where: JobFilter) -> int:
        """How many. R20."""
        ...

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """A job's records. R21."""
        ...

    def delete(self, job_id: str, version: int) -> None:
        """Forget a job. R22, R23."""
        ...


class AsyncRepository(Protocol):
    """`Repository`, awaited; `within` is awaited too."""

    async def insert(self, job: AnyJob, record: HistoryRecord, *, within: AsyncWithin | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        ...

    async def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        ...

    async def save(self, transition: Accepted, *, within: AsyncWithin | None = None) -> None:
        """As `Repository.save`."""
        ...

    async def save_many(self, transitions: Sequence[Accepted]) -> Sequence[RepositoryError | None]:
        """As `Repository.save_many`."""
        ...

    async def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """As `Repository.list`."""
        ...

    async def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        ...

    async def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        ...

    async def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        ...

    async def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        ...
