"""The operations of the port on one connection: what is read and written. Knows no transaction and no engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Dialect

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.codec import Write, job_of, jobs_of, jobs_of_many, record_of
from jobstate.adapters.sqlalchemy.faults import Conflicts
from jobstate.adapters.sqlalchemy.lines import Line
from jobstate.adapters.sqlalchemy.postgresql import PostgreSQL
from jobstate.adapters.sqlalchemy.sqlite import SQLite
from jobstate.adapters.sqlalchemy.statements import Reading
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import JobNotFoundError, RepositoryError, StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.model import AnyJob, HistoryRecord
from jobstate.query import Cursor, Due, DuePage, JobFilter, Listing, PageRequest

Batch = Sequence[Accepted]
Answers = dict[str, RepositoryError | None]
"""By job id: None, or why not."""


class Part(NamedTuple):
    """A part of a due page, as `Repository.due` is asked for it; with requests for a worker."""

    due: Due
    until: int
    limit: int
    after: Cursor | None
    include_request: bool = False


_BACKENDS: dict[str, type[Backend]] = {"sqlite": SQLite, "postgresql": PostgreSQL}
MANY = 100
"""The limit from which on rows are read by columns: each column that an answer has costs a driver something."""

_TRIES = 5
"""How often a new job is stored again when the one in its way was deleted meanwhile."""


def _wanted(include_request: bool, include_response: bool) -> tuple[str, ...]:
    return (*(("request",) if include_request else ()), *(("response",) if include_response else ()))


class Store:
    """Reads and writes jobs on a connection. Thread-safe: it has no state but its statements."""

    def __init__(self, tables: Tables, dialect: Dialect, *, history: bool) -> None:
        if dialect.name not in _BACKENDS:
            raise ValueError(f"engine: {dialect.name} is not supported: give an engine of {' or '.join(_BACKENDS)}")
        self.backend = _BACKENDS[dialect.name](tables, dialect, history=history)
        self._reading = Reading(self.backend)

    def insert(self, line: Line, job: AnyJob, record: HistoryRecord) -> AnyJob | None:
        """As `Repository.insert`."""
        write = Write.new(job, record if self.backend.history else None)
        for _ in range(_TRIES):
            if self.backend.insert(line, write):
                return None
            standing = self._reading.standing.run(line, write.values).rows
            if standing:
                return job_of(standing[0][0], standing[0][1], {})
        raise RepositoryError(f"{job.id} was not stored: whatever stood in its way was deleted, {_TRIES} times: try again")

    def load(
        self, line: Line, job_id: str, organization_id: str | None, include_request: bool, include_response: bool
    ) -> AnyJob:
        """As `Repository.load`."""
        payloads = _wanted(include_request, include_response)
        statement = self._reading.load(organization_id is not None, payloads)
        rows = statement.run(line, {"id": job_id, "organization_id": organization_id}).rows
        if not rows:
            raise JobNotFoundError(job_id)
        row = rows[0]
        return job_of(row[0], row[1], dict(zip(payloads, row[2:], strict=True)))

    def save(self, line: Line, transition: Accepted) -> None:
        """As `Repository.save`."""
        with Conflicts(transition.job_id, transition.version):
            done = self.backend.save(line, Write.moved(transition, recorded=self.backend.history))
        if not done:
            raise StaleJobError(transition.job_id, transition.version)

    def batches(self, transitions: Sequence[Accepted]) -> Sequence[Batch]:
        """The transitions in as many batches as writes are needed."""
        return self.backend.batches(transitions)

    def save_batch(self, line: Line, batch: Batch) -> Answers:
        """Compare-and-set of each; an error of the database undoes them all."""
        done = self.backend.save_many(line, batch)
        return {
            one.job_id: None if saved else StaleJobError(one.job_id, one.version)
            for one, saved in zip(batch, done, strict=True)
        }

    def list(self, line: Line, where: JobFilter, page: PageRequest, include_request: bool, include_response: bool) -> Listing:
        """As `Repository.list`."""
        payloads = _wanted(include_request, include_response)
        values = {**self._reading.parameters(where), "cursor": page.cursor, "limit": page.limit}
        rows = self._reading.page(where, page, payloads).run(line, values).rows
        return Listing(*jobs_of(rows[::-1] if page.backwards else rows, payloads))

    def due(self, line: Line, part: Part, *, hold: bool = False) -> DuePage:
        """As `Repository.due`; with `hold`, for a transaction that writes to its rows."""
        after, payloads = part.after, _wanted(part.include_request, False)
        apart = part.limit >= MANY and not payloads
        statement = self._reading.due(part.due, after is not None, payloads, hold and self.backend.holds_rows, apart)
        place = {} if after is None else {"time": after.time, "id": after.job_id}
        rows = statement.run(line, {"until": part.until, "limit": part.limit, **place}).rows
        jobs, unreadable = jobs_of_many(rows) if apart else jobs_of(rows, payloads)
        last = Cursor(*rows[-1][-2:]) if len(rows) == part.limit else None
        return DuePage(jobs, last, unreadable)

    def count(self, line: Line, where: JobFilter) -> int:
        """As `Repository.count`."""
        return int(self._reading.count(where).run(line, self._reading.parameters(where)).value)

    def history(self, line: Line, job_id: str, after_version: int) -> Sequence[HistoryRecord]:
        """As `Repository.history`."""
        values = {"id": job_id, "after_version": after_version}
        return [record_of(row) for row in self._reading.history.run(line, values).rows]

    def delete(self, line: Line, job_id: str, version: int) -> None:
        """As `Repository.delete`."""
        with Conflicts(job_id, version):
            gone = self.backend.delete(line, job_id, version)
        if not gone:
            raise StaleJobError(job_id, version)
