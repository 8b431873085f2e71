"""Every statement that reads, built once for each shape and kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ClauseElement, ColumnElement, FromClause, Select, bindparam, func, literal_column, or_, select, tuple_

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.codec import RECORD_COLUMNS, SNAPSHOT
from jobstate.adapters.sqlalchemy.prepared import Prepared
from jobstate.model import JobFilter
from jobstate.query import Due, PageRequest

Parameters = dict[str, Any]


class Reading:
    """The statements that read from one set of tables. A row of a job is: snapshot, progress, and what else was asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tables = backend.tables
        self._snapshot = backend.snapshot([self._tables.jobs.c[name] for name in SNAPSHOT])
        self.standing = backend.kept.prepare(self._standing())
        self.history = backend.kept.prepare(self._history())

    def _standing(self) -> ClauseElement:
        """The job with this `id`, or this `idempotency_key` of this `organization_id`."""
        jobs = self._tables.jobs
        key = jobs.c.idempotency_key == bindparam("idempotency_key")
        same_key = (jobs.c.organization_id == bindparam("organization_id")) & key
        found = select(self._snapshot, jobs.c.progress).where(or_(jobs.c.id == bindparam("id"), same_key))
        return found.order_by(jobs.c.id != bindparam("id")).limit(literal_column("1"))

    def _history(self) -> ClauseElement:
        c = self._tables.history.c
        behind = (c.job_id == bindparam("id")) & (c.version > bindparam("after_version"))
        return select(*(c[name] for name in RECORD_COLUMNS)).where(behind).order_by(c.version)

    def load(self, scoped: bool, payloads: tuple[str, ...]) -> Prepared:
        """One job by `id`, and `organization_id` where it is scoped, with these payloads."""

        def build() -> ClauseElement:
            jobs = self._tables.jobs
            found = self._rows(payloads).where(jobs.c.id == bindparam("id"))
            return found.where(jobs.c.organization_id == bindparam("organization_id")) if scoped else found

        return self._backend.kept.get(("load", scoped, payloads), build)

    def _rows(self, payloads: tuple[str, ...]) -> Select[*tuple[Any, ...]]:
        jobs = self._tables.jobs
        source: FromClause = jobs
        wanted: list[ColumnElement[Any]] = []
        for name in payloads:
            payload = self._tables.payloads.alias(name)
            own = (payload.c.job_id == jobs.c.id) & (payload.c.name == literal_column(f"'{name}'"))
            source = source.outerjoin(payload, own)
            wanted.append(payload.c.data)
        return select(self._snapshot, jobs.c.progress, *wanted).select_from(source)

    def page(self, where: JobFilter, page: PageRequest, payloads: tuple[str, ...]) -> Prepared:
        """A keyset page by id: `cursor`, `limit`, and the filter's parameters."""
        cursor, down = page.cursor is not None, page.downwards

        def build() -> ClauseElement:
            key = self._tables.jobs.c.id
            rows = self._rows(payloads).where(*self._conditions(where))
            if cursor:
                rows = rows.where(key < bindparam("cursor") if down else key > bindparam("cursor"))
            return rows.order_by(key.desc() if down else key).limit(bindparam("limit"))

        return self._backend.kept.get(("list", _shape(where), cursor, down, payloads), build)

    def count(self, where: JobFilter) -> Prepared:
        """How many, with the filter's parameters."""

        def build() -> ClauseElement:
            return select(func.count()).select_from(self._tables.jobs).where(*self._conditions(where))

        return self._backend.kept.get(("count", _shape(where)), build)

    def _conditions(self, where: JobFilter) -> list[ColumnElement[bool]]:
        c, backend = self._tables.jobs.c, self._backend
        conditions: dict[str, ColumnElement[bool]] = {
            "organization_id": c.organization_id == bindparam("organization_id"),
            "ids": backend.among(c.id, "ids"),
            "statuses": backend.among(c.status, "statuses"),
            "endpoint": c.endpoint == bindparam("endpoint"),
            "created_from": c.created_at >= bindparam("created_from"),
            "created_to": c.created_at < bindparam("created_to"),
            "metadata": backend.has_pairs(c.metadata, "metadata"),
        }
        if where.statuses is not None and len(where.statuses) == 1:  # an index by status then has them in order
            conditions["statuses"] = c.status == bindparam("statuses")
        return [conditions[name] for name in _given(where)]

    def parameters(self, where: JobFilter) -> Parameters:
        """The parameters of a filter."""
        used: Parameters = {name: getattr(where, name) for name in _given(where)}
        if "ids" in used:
            used["ids"] = self._backend.many(used["ids"])
        if "statuses" in used:
            values = [status.value for status in used["statuses"]]
            used["statuses"] = values[0] if len(values) == 1 else self._backend.many(values)
        if "metadata" in used:
            used["metadata"] = self._backend.pairs(used["metadata"])
        return used

    def due(self, due: Due, behind: bool, hold: bool) -> Prepared:
        """A part of a due page: `until`, `limit`, and `time` and `id` where it lies behind a cursor.

        With `hold`, its rows are held until the transaction ends, and those that others hold are passed over.
        """

        def build() -> ClauseElement:
            jobs, terms = self._tables.jobs, self._tables.due[due]
            rows = select(self._snapshot, jobs.c.progress, terms.time.label("due_time"), jobs.c.id)
            rows = rows.where(terms.where, terms.time <= bindparam("until"))
            if behind:
                rows = rows.where(tuple_(terms.time, jobs.c.id) > tuple_(bindparam("time"), bindparam("id")))
            rows = rows.order_by(terms.time, jobs.c.id).limit(bindparam("limit"))
            return rows.with_for_update(skip_locked=True) if hold else rows

        return self._backend.kept.get(("due", due, behind, hold), build)


_CONDITIONS = ("organization_id", "ids", "statuses", "endpoint", "created_from", "created_to", "metadata")


def _given(where: JobFilter) -> list[str]:
    """The conditions that a filter has; no pairs of metadata are none."""
    return [name for name in _CONDITIONS if getattr(where, name) is not None and (name != "metadata" or where.metadata)]


def _shape(where: JobFilter) -> tuple[object, ...]:
    return (*_given(where), where.statuses is not None and len(where.statuses) == 1)
