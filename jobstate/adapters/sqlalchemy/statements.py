"""Every statement that reads, built once for each shape and kept."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ClauseElement,
    ColumnElement,
    FromClause,
    Select,
    String,
    bindparam,
    false,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.codec import RECORD_COLUMNS, SNAPSHOT
from jobstate.adapters.sqlalchemy.prepared import Prepared
from jobstate.query import Due, JobFilter, PageRequest

Parameters = dict[str, Any]


class Reading:
    """The statements that read from one set of tables. A row of a job is: snapshot, progress, and what else was asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tables = backend.tables
        columns = [self._tables.jobs.c[name] for name in SNAPSHOT]
        self._snapshot = backend.snapshot(columns)
        self._apart = [*map(backend.plain, columns), self._tables.jobs.c.progress]
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
        shape = ("list", _shape(where), page.cursor is not None, page.downwards, payloads)
        return self._backend.kept.get(shape, lambda: self._page(where, page, payloads))

    def _page(self, where: JobFilter, page: PageRequest, payloads: tuple[str, ...]) -> ClauseElement:
        """Of several statuses, each has its first rows in an index, in order; the page is the first of all of these."""
        jobs = self._tables.jobs
        statuses = where.statuses or ()
        if len(statuses) < 2:
            return self._first(self._rows(payloads), where, page)
        each = [where.model_copy(update={"statuses": (status,)}) for status in statuses]
        parts = [self._first(select(jobs.c.id), one, page).subquery() for one in each]
        union = union_all(*(select(part.c.id) for part in parts)).subquery("found")
        ids = _ordered(select(union.c.id), union.c.id, page).subquery("page")
        return _ordered(self._rows(payloads).where(jobs.c.id.in_(select(ids.c.id))), jobs.c.id, page)

    def _first(self, rows: Select[*tuple[Any, ...]], where: JobFilter, page: PageRequest) -> Select[*tuple[Any, ...]]:
        key = self._tables.jobs.c.id
        found = rows.where(*self._conditions(where))
        if page.cursor is not None:
            found = found.where(key < bindparam("cursor") if page.downwards else key > bindparam("cursor"))
        return _ordered(found, key, page)

    def count(self, where: JobFilter) -> Prepared:
        """How many, with the filter's parameters."""

        def build() -> ClauseElement:
            return select(func.count()).select_from(self._tables.jobs).where(*self._conditions(where))

        return self._backend.kept.get(("count", _shape(where)), build)

    def _conditions(self, where: JobFilter) -> list[ColumnElement[bool]]:
        c, backend = self._tables.jobs.c, self._backend
        statuses = [literal_column(f"'{status.value}'", String) for status in where.statuses or ()]
        conditions: dict[str, ColumnElement[bool]] = {
            "organization_id": c.organization_id == bindparam("organization_id"),
            "ids": backend.among(c.id, "ids"),
            "statuses": c.status.in_(statuses) if statuses else false(),
            "endpoint": c.endpoint == bindparam("endpoint"),
            "created_from": c.created_at >= bindparam("created_from"),
            "created_to": c.created_at < bindparam("created_to"),
            "metadata": backend.has_pairs(c.metadata, "metadata"),
        }
        return [conditions[name] for name in _given(where)]

    def parameters(self, where: JobFilter) -> Parameters:
        """The parameters of a filter; statuses stand in the statement, where the planner can count them."""
        used: Parameters = {name: getattr(where, name) for name in _given(where) if name != "statuses"}
        if "ids" in used:
            used["ids"] = self._backend.many(used["ids"])
        if "metadata" in used:
            used["metadata"] = self._backend.pairs(used["metadata"])
        return used

    def due(self, due: Due, behind: bool, payloads: tuple[str, ...], hold: bool, apart: bool) -> Prepared:
        """A part of a due page: `until`, `limit`, and `time` and `id` where it lies behind a cursor.

        A row ends with its due time and its id. With `hold`, rows are held until the transaction ends, and those that others
        hold are passed over. With `apart`, the snapshot comes as its columns, without payloads.
        """

        def build() -> ClauseElement:
            jobs, terms = self._tables.jobs, self._tables.due[due]
            rows = select(*self._apart) if apart else self._rows(payloads)
            rows = rows.add_columns(terms.time.label("due_time"), jobs.c.id.label("due_id"))
            rows = rows.where(terms.where, terms.time <= bindparam("until"))
            if behind:
                rows = rows.where(tuple_(terms.time, jobs.c.id) > tuple_(bindparam("time"), bindparam("id")))
            rows = rows.order_by(terms.time, jobs.c.id).limit(self._backend.limit("limit"))
            return rows.with_for_update(skip_locked=True, of=jobs) if hold else rows

        return self._backend.kept.get(("due", due, behind, payloads, hold, apart), build)


_CONDITIONS = ("organization_id", "ids", "statuses", "endpoint", "created_from", "created_to", "metadata")


def _given(where: JobFilter) -> list[str]:
    """The conditions that a filter has; no pairs of metadata are none."""
    return [name for name in _CONDITIONS if getattr(where, name) is not None and (name != "metadata" or where.metadata)]


def _shape(where: JobFilter) -> tuple[object, ...]:
    return (*_given(where), where.statuses)


def _ordered(rows: Select[*tuple[Any, ...]], key: ColumnElement[Any], page: PageRequest) -> Select[*tuple[Any, ...]]:
    return rows.order_by(key.desc() if page.downwards else key).limit(bindparam("limit"))
