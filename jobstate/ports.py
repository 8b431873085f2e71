"""The ports: what a host brings, or takes from an adapter. Each clause is one numbered promise, and a test of that number.

An adapter holds no rules of the lifecycle: it stores, compares versions, and pages. An error that no clause names goes to the
caller as it is; an adapter that does not know whether a write was done says so with `OutcomeUnknownError`, so that the library
can find out.

The `Async` twins have the same methods, to be awaited, and the same clauses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import Delivery, HistoryRecord, Job, JobFilter
from jobstate.query import Cursor, Due, DuePage, Listing, PageRequest

AnyJob = Job[Any, Any]

Within = Callable[[Any], Any]
"""Called with the store's open transaction, before it commits; what it raises rolls the transaction back."""

AsyncWithin = Callable[[Any], Awaitable[Any]]
"""The same, awaited."""


class Repository(Protocol):
    """Keeps jobs, their payloads and their history.

    R1  `insert` stores row, payload and record together, or nothing.
    R2  `insert` of an id that is there, or of an idempotency key that its organization has used, stores nothing and answers
        the job that is there, without payloads. Two at once: one is stored, both get the same job.
    R3  `load` answers JobNotFoundError for an unknown id and, given an organization, for another's job: the two look the same.
    R4  A payload is loaded only when it is asked for; what is loaded shares nothing with what was stored or loaded before.
    R5  `save` writes exactly `transition.changes`, and the record if there is one, in one transaction, if and only if the row
        is at `transition.version`; else nothing, and StaleJobError.
    R6  StaleJobError means *certainly not applied*. A save whose fate is not known is OutcomeUnknownError, also when the
        adapter repeated it itself and then met a conflict.
    R7  `save_many` is `save` for each, with an outcome for each in the order given: None, or the error. One that fails touches
        no other.
    R8  `list` pages by id in byte order, newest or oldest first; `after` and `before` are ids, which need not exist; all
        conditions of the filter hold for each job.
    R9  `due` answers the rows of `Due`'s table with a due time of `until` or before, ordered by (due time, id), behind `after`.
        A row that cannot be read is named in the page and stops nothing.
    R10 `count` counts what `list` would list.
    R11 `history` answers a job's records behind a version, oldest first; for an unknown job, none.
    R12 `delete` removes row, payload and history, if and only if the row is at that version; else StaleJobError.
    R13 A stored row that cannot be read is UnreadableJobError, with the job's id: raised by `load`, named by `list`.
    R14 With `within`, a write calls it in its own transaction, before the commit, and once only if the write was not refused;
        what it raises rolls back and is passed on.
    R15 Every method may be called by several threads at once (the async twin: by several tasks).
    """

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Within | None = None) -> AnyJob | None:
        """Store a new job: None when it was stored, else the job that is there. R1, R2, R14. Idempotent by id."""
        ...

    def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """One job. R3, R4, R13."""
        ...

    def save(self, transition: Accepted, *, within: Within | None = None) -> None:
        """Compare-and-set. R5, R6, R14. Atomic; a second time it is stale."""
        ...

    def save_many(self, transitions: Sequence[Accepted]) -> Sequence[RepositoryError | None]:
        """Compare-and-set of many, of different jobs. R7. Each atomic, not all together."""
        ...

    def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """The part of the list that `page` asks for. R4, R8, R13."""
        ...

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """At most `limit` rows of a due page, without payloads. R9."""
        ...

    def count(self, where: JobFilter) -> int:
        """How many. R10."""
        ...

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """A job's records. R11."""
        ...

    def delete(self, job_id: str, version: int) -> None:
        """Forget a job. R12."""
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


class Dispatcher(Protocol):
    """Carries deliveries to workers.

    D1  `dispatch` that returns has taken the delivery: it is delivered at least once, at any later time, in any order.
    D2  `dispatch` that raises anything may or may not have taken it; the library dispatches again.
    D3  `task_name` names the delivery; an engine that drops a name it has seen drops only repeats. The answer is the engine's
        own name for the task, for `revoke`; the same name where the engine takes ours.
    D4  `revoke` takes a task back if it can, and says nothing if it cannot. Nothing rests on it.
    D5  A `transactional` dispatcher writes its delivery into the transaction it is given, so that it is delivered if and only
        if that transaction commits.
    D6  Every method may be called by several threads at once (the async twin: by several tasks).
    """

    @property
    def transactional(self) -> bool:
        """Whether it writes to the database of the job. D5."""
        ...

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """Take a delivery. D1, D2, D3; with `transaction`, D5."""
        ...

    def revoke(self, task_name: str) -> None:
        """Take a task back. D4."""
        ...


class AsyncDispatcher(Protocol):
    """`Dispatcher`, awaited."""

    @property
    def transactional(self) -> bool:
        """As `Dispatcher.transactional`."""
        ...

    async def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """As `Dispatcher.dispatch`."""
        ...

    async def revoke(self, task_name: str) -> None:
        """As `Dispatcher.revoke`."""
        ...


class ArtifactStore(Protocol):
    """Keeps bytes under keys that begin with a job's id and a slash.

    A1  `put` stores all of the bytes or nothing; the same bytes again are fine.
    A2  `put` of other bytes under a key that is there is ArtifactConflictError and changes nothing.
    A3  `get` answers what was put; ArtifactNotFoundError for an unknown key.
    A4  `delete` removes everything whose key begins with the prefix; nothing there is fine.
    """

    def put(self, key: str, data: bytes) -> None:
        """Store bytes. A1, A2."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes. A3."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove what stands under a prefix. A4. Idempotent."""
        ...


class AsyncArtifactStore(Protocol):
    """`ArtifactStore`, awaited."""

    async def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        ...

    async def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        ...

    async def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        ...


class Clock(Protocol):
    """Tells the time.

    C1  `now` answers Unix seconds, UTC, with fractions. It may step back or differ between machines within
        `Policy.clock_skew`; that may delay a transition and breaks no rule.
    """

    def now(self) -> float:
        """Unix seconds. C1."""
        ...


class AsyncClock(Protocol):
    """`Clock`, awaited: for a clock that lives elsewhere, such as a database server's."""

    async def now(self) -> float:
        """As `Clock.now`."""
        ...
