"""The repository in memory, of both colours. A payload is kept as JSON text, so that nothing is shared with what was stored."""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from copy import deepcopy
from heapq import nsmallest
from threading import RLock
from typing import Any

from jobstate.errors import (
    JobNotFoundError,
    RepositoryError,
    StaleJobError,
)
from jobstate.lifecycle import Accepted
from jobstate.model import PAYLOADS, AnyJob, HistoryRecord, JobResponse, construct, evolve
from jobstate.payload import encode
from jobstate.ports import AsyncWithin, Within
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest, due_time

_BARE = dict.fromkeys(PAYLOADS)


def _encode_payload(name: str, value: Any) -> str:
    return encode([value.status_code, value.body] if name == "response" else value)


def _decode_payload(name: str, text: str) -> Any:
    value = json.loads(text)
    return construct(JobResponse[Any], status_code=value[0], body=value[1]) if name == "response" else value


_MUTABLE = ("metadata", "trace_context", "error", "warnings")


def _unshared(row: AnyJob) -> dict[str, Any]:
    """Copies of what a caller could change in place."""
    return {name: deepcopy(value) for name in _MUTABLE if (value := getattr(row, name))}


class MemoryRepository:
    """A `Repository` in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._rows: dict[str, AnyJob] = {}
        self._ids: list[str] = []
        self._keys: dict[tuple[str, str | None], str] = {}
        self._payloads: dict[tuple[str, str], str] = {}
        self._history: dict[str, list[HistoryRecord]] = {}

    def copy(self) -> MemoryRepository:
        """Another repository with the same jobs; what is written to one is not seen in the other."""
        with self._lock:
            other = MemoryRepository()
            other._rows = self._rows.copy()
            other._ids = self._ids.copy()
            other._keys = self._keys.copy()
            other._payloads = self._payloads.copy()
            other._history = {job_id: records.copy() for job_id, records in self._history.items()}
            return other

    def insert(self, job: AnyJob, record: HistoryRecord, *, within: Within | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        with self._lock:
            if (there := self._standing(job)) is not None:
                return evolve(there, _unshared(there))
            if within is not None:
                within(None)
            self._store(job, record)
            return None

    def _standing(self, job: AnyJob) -> AnyJob | None:
        there = job.id if job.id in self._rows else self._keys.get((job.organization_id, job.idempotency_key))
        return None if there is None else self._rows[there]

    def _store(self, job: AnyJob, record: HistoryRecord) -> None:
        self._write_payloads(job.id, {name: getattr(job, name) for name in PAYLOADS})
        self._rows[job.id] = evolve(job, {**_unshared(job), **_BARE})
        insort(self._ids, job.id)
        if job.idempotency_key is not None:
            self._keys[job.organization_id, job.idempotency_key] = job.id
        self._history[job.id] = [record]

    def _write_payloads(self, job_id: str, changes: dict[str, Any]) -> None:
        for name in PAYLOADS & changes.keys():
            if changes[name] is None:
                self._payloads.pop((job_id, name), None)
            else:
                self._payloads[job_id, name] = _encode_payload(name, changes[name])

    def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        with self._lock:
            row = self._rows.get(job_id)
            if row is None or organization_id not in (None, row.organization_id):
                raise JobNotFoundError(job_id)
            return self._with_payloads(row, include_request, include_response)

    def _with_payloads(self, row: AnyJob, include_request: bool, include_response: bool) -> AnyJob:
        wanted = [name for name, asked in (("request", include_request), ("response", include_response)) if asked]
        texts = {name: self._payloads.get((row.id, name)) for name in wanted}
        loaded = {name: _decode_payload(name, text) for name, text in texts.items() if text is not None}
        return evolve(row, {**_unshared(row), **loaded})

    def save(self, transition: Accepted, *, within: Within | None = None) -> None:
        """As `Repository.save`."""
        with self._lock:
            row = self._at(transition.job_id, transition.version)
            if within is not None:
                within(None)
            self._write(row, transition)

    def _at(self, job_id: str, version: int) -> AnyJob:
        row = self._rows.get(job_id)
        if row is None or row.version != version:
            raise StaleJobError(job_id, version)
        return row

    def _write(self, row: AnyJob, transition: Accepted) -> None:
        self._write_payloads(row.id, transition.changes)
        written = evolve(row, {**transition.changes, **_BARE})
        self._rows[row.id] = evolve(written, _unshared(written))
        if (record := transition.record) is not None:
            self._history[row.id].append(record)

    def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`."""
        answers: list[RepositoryError | None] = []
        for transition in transitions:
            try:
                self.save(transition)
                answers.append(None)
            except RepositoryError as error:
                answers.append(error)
        return answers

    def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """As `Repository.list`."""
        with self._lock:
            found: list[AnyJob] = []
            for job_id in self._walk(page.cursor, downwards=page.downwards):
                if len(found) == page.limit:
                    break
                if _matches(self._rows[job_id], where):
                    found.append(self._with_payloads(self._rows[job_id], include_request, include_response))
            return Listing(found[::-1] if page.backwards else found, [])

    def _walk(self, start: str | None, *, downwards: bool) -> Iterator[str]:
        """Ids from a place on, not including it."""
        if downwards:
            end = len(self._ids) if start is None else bisect_left(self._ids, start)
            return (self._ids[index] for index in range(end - 1, -1, -1))
        begin = 0 if start is None else bisect_right(self._ids, start)
        return (self._ids[index] for index in range(begin, len(self._ids)))

    def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        with self._lock:
            keyed = ((due_time(due, row), row.id) for row in self._rows.values())
            behind = ((time, job_id) for time, job_id in keyed if time is not None and time <= until)
            page = nsmallest(limit, (key for key in behind if after is None or key > after))
            last = Cursor(*page[-1]) if len(page) == limit else None
            return DuePage([self._rows[job_id] for _, job_id in page], last, [])

    def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        with self._lock:
            return sum(_matches(row, where) for row in self._rows.values())

    def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        with self._lock:
            records = self._history.get(job_id, ())
            return [record.model_copy(deep=True) for record in records if record.version > after_version]

    def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        with self._lock:
            row = self._at(job_id, version)
            del self._rows[job_id], self._history[job_id], self._ids[bisect_left(self._ids, job_id)]
            self._write_payloads(job_id, _BARE)
            if row.idempotency_key is not None:
                del self._keys[row.organization_id, row.idempotency_key]


def _matches(row: AnyJob, where: JobFilter) -> bool:
    return (
        where.organization_id in (None, row.organization_id)
        and (where.ids is None or row.id in where.ids)
        and (where.statuses is None or row.status in where.statuses)
        and where.endpoint in (None, row.endpoint)
        and (where.created_from is None or row.created_at >= where.created_from)
        and (where.created_to is None or row.created_at < where.created_to)
        and (where.metadata or {}).items() <= row.metadata.items()
    )


class AsyncMemoryRepository:
    """An `AsyncRepository` in memory; give it a `MemoryRepository` to share its jobs."""

    def __init__(self, shared: MemoryRepository | None = None) -> None:
        self._sync = MemoryRepository() if shared is None else shared
        self._writes = asyncio.Lock()

    async def insert(self, job: AnyJob, record: HistoryRecord, *, within: AsyncWithin | None = None) -> AnyJob | None:
        """As `Repository.insert`."""
        async with self._writes:
            if within is not None and self._sync._standing(job) is None:
                await within(None)
            return self._sync.insert(job, record)

    async def load(
        self,
        job_id: str,
        *,
        organization_id: str | None = None,
        include_request: bool = False,
        include_response: bool = False,
    ) -> AnyJob:
        """As `Repository.load`."""
        return self._sync.load(
            job_id,
            organization_id=organization_id,
            include_request=include_request,
            include_response=include_response,
        )

    async def save(self, transition: Accepted, *, within: AsyncWithin | None = None) -> None:
        """As `Repository.save`."""
        async with self._writes:
            if within is not None:
                self._sync._at(transition.job_id, transition.version)
                await within(None)
            self._sync.save(transition)

    async def save_many(self, transitions: Sequence[Accepted]) -> list[RepositoryError | None]:
        """As `Repository.save_many`."""
        async with self._writes:
            return self._sync.save_many(transitions)

    async def list(
        self,
        where: JobFilter,
        page: PageRequest,
        *,
        include_request: bool = False,
        include_response: bool = False,
    ) -> Listing:
        """As `Repository.list`."""
        return self._sync.list(where, page, include_request=include_request, include_response=include_response)

    async def due(self, due: Due, *, until: int, limit: int, after: Cursor | None = None) -> DuePage:
        """As `Repository.due`."""
        return self._sync.due(due, until=until, limit=limit, after=after)

    async def count(self, where: JobFilter) -> int:
        """As `Repository.count`."""
        return self._sync.count(where)

    async def history(self, job_id: str, *, after_version: int = 0) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        return self._sync.history(job_id, after_version=after_version)

    async def delete(self, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        async with self._writes:
            self._sync.delete(job_id, version)
