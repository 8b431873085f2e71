"""What is asked of a repository besides one job: lists of jobs; due pages and their order.

A due page is a coarse question that an index can answer; whether a job on it may really move is decided by the lifecycle.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Generic, NamedTuple

from pydantic import Field

from jobstate.errors import UnreadableJobError
from jobstate.model import Job, JobId, JobStatus, Metadata, Name, RequestT, ResponseT, UnixSeconds, Value


class Due(StrEnum):
    """The due pages: which rows, and the time by which they are due and ordered.

    | page | rows | due time |
    |---|---|---|
    | pending | queued, `dispatched_at` none | `available_at`, else `retried_at`, else `created_at` |
    | unstarted | queued, `dispatched_at` set | the later of `dispatched_at` and `available_at` |
    | unleased | in_progress, the lease has an end | the lease's end |
    | expiring | every status but expired | `expires_at` |
    | uncleaned | expired, `cleanup_started_at` none | `expires_at` |
    | cleaning | expired, `cleanup_started_at` set, `cleanup_completed_at` none | `cleanup_started_at` |
    | cleaned | expired, `cleanup_completed_at` set | `cleanup_completed_at` |
    """

    PENDING = "pending"
    UNSTARTED = "unstarted"
    UNLEASED = "unleased"
    EXPIRING = "expiring"
    UNCLEANED = "uncleaned"
    CLEANING = "cleaning"
    CLEANED = "cleaned"


class Cursor(NamedTuple):
    """A place in a due page: behind the job with this due time (Unix seconds) and id."""

    time: int
    job_id: str


class DuePage(NamedTuple):
    """A part of a due page, by due time and id. `after` leads to the next part and is None at the end.

    A row that cannot be read stands in `unreadable` instead of stopping the page.
    """

    jobs: list[Job[Any, Any]]
    after: Cursor | None
    unreadable: list[UnreadableJobError]


class JobFilter(Value, frozen=True):
    """Which jobs: all conditions given must hold; None is no condition. Empty `ids` or `statuses` find nothing.

    `created_from` is inclusive and `created_to` exclusive, in Unix seconds; `metadata` pairs must match exactly.
    """

    organization_id: Name | None = None
    ids: Annotated[tuple[JobId, ...], Field(max_length=10_000)] | None = None
    statuses: tuple[JobStatus, ...] | None = None
    endpoint: Name | None = None
    created_from: UnixSeconds | None = None
    created_to: UnixSeconds | None = None
    metadata: Metadata | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing but a tenant is asked for."""
        asked = (self.ids, self.statuses, self.endpoint, self.created_from, self.created_to, self.metadata or None)
        return all(condition is None for condition in asked)


class PageRequest(NamedTuple):
    """Which part of a list: at most `limit` jobs behind `after`; or those nearest to `before`, still in the order asked for.

    `after` and `before` are ids, which need not exist; at most one of them is given.
    """

    limit: int
    after: str | None = None
    before: str | None = None
    newest_first: bool = True

    @property
    def cursor(self) -> str | None:
        """The id from which to walk, without it."""
        return self.after if self.before is None else self.before

    @property
    def backwards(self) -> bool:
        """What the walk finds is turned around to stand in the order asked for."""
        return self.before is not None

    @property
    def downwards(self) -> bool:
        """The walk goes to smaller ids."""
        return self.newest_first is not self.backwards


class Listing(NamedTuple):
    """A page of a list, in the order asked for. A row that cannot be read stands in `unreadable` instead of stopping it."""

    jobs: list[Job[Any, Any]]
    unreadable: list[UnreadableJobError]

    @property
    def ids(self) -> list[str]:
        """The ids of all rows, readable or not."""
        return [job.id for job in self.jobs] + [error.job_id for error in self.unreadable]


class JobPage(NamedTuple, Generic[RequestT, ResponseT]):
    """A page of jobs in the order asked for; pass `last_id` as `after` for the next one."""

    data: list[Job[RequestT, ResponseT]]
    has_more: bool

    @property
    def first_id(self) -> str | None:
        """The id of the first job; None for an empty page."""
        return self.data[0].id if self.data else None

    @property
    def last_id(self) -> str | None:
        """The id of the last job; None for an empty page."""
        return self.data[-1].id if self.data else None


def due_time(due: Due, job: Job[Any, Any]) -> int | None:
    """When the job is due for a page (Unix seconds); None when it does not belong there. The table of `Due` as a function."""
    status = job.status
    if due is Due.PENDING:
        return job.ready_at if job.dispatch_pending else None
    if due is Due.UNSTARTED:
        if status is not JobStatus.QUEUED or job.dispatched_at is None:
            return None
        return max(job.dispatched_at, job.available_at or 0)
    if due is Due.UNLEASED:
        return job.lease.expires_at if status is JobStatus.IN_PROGRESS and job.lease is not None else None
    if due is Due.EXPIRING:
        return job.expires_at if status is not JobStatus.EXPIRED else None
    if status is not JobStatus.EXPIRED:
        return None
    if due is Due.UNCLEANED:
        return job.expires_at if job.cleanup_started_at is None else None
    if due is Due.CLEANING:
        return job.cleanup_started_at if job.cleanup_completed_at is None else None
    return job.cleanup_completed_at
