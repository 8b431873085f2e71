"""The ports: what a host brings, or takes from an adapter. Each clause is one numbered promise, and a test of that number.

An adapter holds no rules of the lifecycle: it stores, compares versions, and pages. An error that no clause names goes to the
caller as it is; an adapter that does not know whether a write was done says so with `OutcomeUnknownError`, so that the library
can find out.

The `Async` twins have the same methods, to be awaited, and the same clauses.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from inspect import getattr_static
from typing import Any, Protocol

from jobstate.effects import Decide, Moved
from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import Delivery, HistoryRecord, Job, JobFilter
from jobstate.query import Cursor, Due, DuePage, Listing, PageRequest

AnyJob = Job[Any, Any]

Within = Callable[[Any], Any]
"""Called with the store's open transaction, before it commits; what it raises rolls the transaction back."""

AsyncWithin = Callable[[Any], Awaitable[Any]]
"""The same, awaited."""


def offers(port: object, method: str) -> bool:
    """Whether a port has a method that it need not have, on its class or in its own attributes.

    One that only `__getattr__` finds does not count: it belongs to what the port wraps, and would go past the port.
    """
    return getattr_static(port, method, None) is not None


class Repository(Protocol):
    """Keeps jobs, their payloads and their history.

    R01 `insert` stores the row, its payloads and its record.
    R02 `insert` of an id that is there stores nothing, and answers the job that is there, without payloads.
    R03 `insert` of an idempotency key that its organization has used does the same; other organizations' keys do not matter.
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


class SharedSweeps(Protocol):
    """What a repository offers besides, when it can hold rows for one sweep, so that several sweeps at once share the work.

    Without it a sweep asks for `due` and then for `save_many`: the same in the end, but two sweeps at once decide on the same
    rows, and one of them in vain.

    S01 `move_due` answers a part of a due page as `due` does, with their requests if asked for, gives its readable rows to
        `decide` once, and saves what that accepts as `save_many` does. Rows that another one holds at that moment may be left
        out.
    S02 What `decide` raises is passed on, and nothing is saved.
    S03 Of several at once, each row is given to one.
    """

    def move_due(
        self,
        due: Due,
        *,
        until: int,
        limit: int,
        after: Cursor | None = None,
        decide: Decide,
        include_request: bool = False,
    ) -> Moved:
        """Decide and save a part of a due page, holding its rows meanwhile. S01 to S03. Each row atomic, not all together."""
        ...


class AsyncSharedSweeps(Protocol):
    """`SharedSweeps`, awaited; `decide` is a plain function."""

    async def move_due(
        self,
        due: Due,
        *,
        until: int,
        limit: int,
        after: Cursor | None = None,
        decide: Decide,
        include_request: bool = False,
    ) -> Moved:
        """As `SharedSweeps.move_due`."""
        ...


class HostTransactions(Protocol):
    """What a repository offers besides, when it can write in a transaction of the host's.

    B01 What the repository that `bind` answers has written is there if the host commits, and is not if it rolls back.
    B02 It begins no transaction and ends none; a write of its own that fails is whole, or not there.
    """

    def bind(self, transaction: Any) -> Any:
        """The same repository, of the same colour, as a part of the transaction. B01, B02."""
        ...


class Notices(Protocol):
    """What a repository offers besides, when it can wake workers that wait for pending jobs.

    N01 `wait` of each listener answers True soon after a write of the repository that `announcing` answers has queued a job
        that is due, and has been committed. One notice stands for all of the following `jobstate.notices.PAUSE`: who hears it
        looks at once, and once more after that.
    N02 Without that, it answers False when the seconds have passed.

    A write is done whether it could be announced or not.
    """

    def announcing(self) -> Any:
        """The same repository, whose writes tell listeners when they have queued a job that is due. N01."""
        ...

    def listen(self) -> Listener:
        """Listen from now on. N01, N02."""
        ...


class Listener(Protocol):
    """One who waits for notices. For one thread (the async twin: one task) at a time."""

    def wait(self, seconds: float) -> bool:
        """Whether there was a notice within these seconds, or since the last call. N01, N02. Raises RepositoryError."""
        ...

    def close(self) -> None:
        """Listen no more."""
        ...


class AsyncNotices(Protocol):
    """`Notices`, awaited; `announcing` is a plain method."""

    def announcing(self) -> Any:
        """As `Notices.announcing`."""
        ...

    async def listen(self) -> AsyncListener:
        """As `Notices.listen`."""
        ...


class AsyncListener(Protocol):
    """`Listener`, awaited."""

    async def wait(self, seconds: float) -> bool:
        """As `Listener.wait`."""
        ...

    async def close(self) -> None:
        """As `Listener.close`."""
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

    `dispatch` may raise anything, having taken the delivery or not; the library dispatches again.

    D01 `dispatch` that returns has taken the delivery: it is delivered at least once, at any later time, in any order.
    D02 `dispatch` answers a name for `revoke`: the engine's own, or the one it was given.
    D03 An engine that drops a `task_name` it has seen drops only repeats: another name for the same run is delivered.
    D04 `revoke` takes a task back if it can, and says nothing if it cannot, or never saw it. Nothing rests on it.
    D05 A `transactional` dispatcher's delivery is delivered if and only if the transaction it was given commits.
    D06 Every method may be called by several threads at once (the async twin: by several tasks).
    """

    @property
    def transactional(self) -> bool:
        """Whether it writes to the database of the job. D05."""
        ...

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        """Take a delivery. D01 to D03; with `transaction`, D05."""
        ...

    def revoke(self, task_name: str) -> None:
        """Take a task back. D04."""
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


class DelayedDispatch(Protocol):
    """What a dispatcher offers besides, when its engine can hold a delivery until a time.

    Without it a job that may not start yet stays pending, and the relay dispatches it when it is due. A time that the engine
    cannot hold, because it is too far away, may raise anything, as ever: then the relay does it as well.

    L01 What `dispatch_at` has taken is not delivered before `not_before`, by a clock that may differ from the library's by
        `Policy.clock_skew`. One that comes early all the same is returned by its worker, and breaks nothing.
    L02 It is delivered at least once afterwards; at once if `not_before` is past. In all else it is as `dispatch`.
    L03 A `transactional` dispatcher's delayed delivery is delivered if and only if the transaction it was given commits.
    """

    def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """Take a delivery that is due at `not_before` (Unix seconds); answer its name. L01, L02; with `transaction`, L03."""
        ...


class AsyncDelayedDispatch(Protocol):
    """`DelayedDispatch`, awaited."""

    async def dispatch_at(self, delivery: Delivery, task_name: str, not_before: int, *, transaction: Any = None) -> str:
        """As `DelayedDispatch.dispatch_at`."""
        ...


class ArtifactStore(Protocol):
    """Keeps bytes under keys that begin with a job's id and a slash.

    A01 `put` stores all of the bytes, and `get` answers them.
    A02 `put` of the same bytes again is fine.
    A03 `put` of other bytes under a key that is there is ArtifactConflictError and changes nothing.
    A04 `get` of an unknown key is ArtifactNotFoundError.
    A05 `delete` removes everything whose key begins with the prefix, and nothing else.
    A06 `delete` where nothing is, is fine.
    A07 Every method may be called by several threads at once (the async twin: by several tasks).
    """

    def put(self, key: str, data: bytes) -> None:
        """Store bytes. A01 to A03."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes. A01, A04."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove what stands under a prefix. A05, A06. Idempotent."""
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

    C01 `now` answers Unix seconds, UTC, with fractions. It may step back or differ between machines within
        `Policy.clock_skew`; that may delay a transition and breaks no rule.
    """

    def now(self) -> float:
        """Unix seconds. C01."""
        ...


class AsyncClock(Protocol):
    """`Clock`, awaited: for a clock that lives elsewhere, such as a database server's."""

    async def now(self) -> float:
        """As `Clock.now`."""
        ...
