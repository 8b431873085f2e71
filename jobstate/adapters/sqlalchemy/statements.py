"""Every statement of the repository, built once for each shape and kept: building one costs more than running it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Delete,
    Executable,
    FromClause,
    Insert,
    Select,
    Update,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import sqlite

from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.model import JobFilter
from jobstate.query import Due

S = TypeVar("S", bound=Executable)

Parameters = dict[str, Any]


class Statements:
    """The statements on one set of tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._kept: dict[object, Executable] = {}
        jobs, payloads, history = tables.jobs, tables.payloads, tables.history
        key = jobs.c.idempotency_key == bindparam("idempotency_key")
        same_key = (jobs.c.organization_id == bindparam("organization_id")) & key
        self.insert_job: Insert = sqlite.insert(jobs).on_conflict_do_nothing()
        self.standing: Select[Any] = select(jobs).where(or_(jobs.c.id == bindparam("id"), same_key)).limit(1)
        new = sqlite.insert(payloads)
        self.put_payload: Insert = new.on_conflict_do_update(
            index_elements=[payloads.c.job_id, payloads.c.name], set_={"data": new.excluded.data}
        )
        this = (payloads.c.job_id == bindparam("job_id")) & (payloads.c.name == bindparam("name"))
        self.drop_payload: Delete = delete(payloads).where(this)
        self.insert_record: Insert = insert(history)
        self.history: Select[Any] = (
            select(history)
            .where(history.c.job_id == bindparam("id"), history.c.version > bindparam("after_version"))
            .order_by(history.c.version)
        )
        here = (jobs.c.id == bindparam("at_id")) & (jobs.c.version == bindparam("at_version"))
        self.delete_job: Delete = delete(jobs).where(here)
        self.delete_payloads: Delete = delete(payloads).where(payloads.c.job_id == bindparam("at_id"))
        self.delete_history: Delete = delete(history).where(history.c.job_id == bindparam("at_id"))
        self._here = here

    def _keep(self, shape: object, build: Callable[[], S]) -> S:
        statement = self._kept.get(shape)
        if statement is None:
            statement = self._kept[shape] = build()
        return statement  # type: ignore[return-value]  # what was kept under this shape was built by it

    def update_job(self, columns: tuple[str, ...]) -> Update:
        """Compare-and-set of some columns."""

        def build() -> Update:
            return update(self._tables.jobs).where(self._here).values({name: bindparam(name) for name in columns})

        return self._keep(("update", columns), build)

    def load(self, scoped: bool, request: bool, response: bool) -> Select[Any]:
        """One job by `id`, and `organization_id` where it is scoped."""

        def build() -> Select[Any]:
            jobs = self._tables.jobs
            found = self._rows(request, response).where(jobs.c.id == bindparam("id"))
            return found.where(jobs.c.organization_id == bindparam("organization_id")) if scoped else found

        return self._keep(("load", scoped, request, response), build)

    def _rows(self, request: bool, response: bool) -> Select[Any]:
        jobs = self._tables.jobs
        source: FromClause = jobs
        wanted: list[ColumnElement[Any]] = []
        for name, asked in (("request", request), ("response", response)):
            if asked:
                payload = self._tables.payloads.alias(name)
                this = (payload.c.job_id == jobs.c.id) & (payload.c.name == literal_column(f"'{name}'"))
                source = source.outerjoin(payload, this)
                wanted.append(payload.c.data.label(name))
        return select(jobs, *wanted).select_from(source)

    def page(self, where: JobFilter, cursor: str | None, downwards: bool, request: bool, response: bool) -> Select[Any]:
        """A keyset page by id: `cursor`, `limit`, and the filter's parameters."""

        def build() -> Select[Any]:
            key = self._tables.jobs.c.id
            rows = self._rows(request, response).where(*self._conditions(where))
            if cursor is not None:
                rows = rows.where(key < bindparam("cursor") if downwards else key > bindparam("cursor"))
            return rows.order_by(key.desc() if downwards else key).limit(bindparam("limit"))

        return self._keep(("list", _shape(where), cursor is None, downwards, request, response), build)

    def count(self, where: JobFilter) -> Select[Any]:
        """How many, with the filter's parameters."""

        def build() -> Select[Any]:
            return select(func.count()).select_from(self._tables.jobs).where(*self._conditions(where))

        return self._keep(("count", _shape(where)), build)

    def _conditions(self, where: JobFilter) -> list[ColumnElement[bool]]:
        c = self._tables.jobs.c
        conditions: dict[str, ColumnElement[bool]] = {
            "organization_id": c.organization_id == bindparam("organization_id"),
            "ids": c.id.in_(bindparam("ids", expanding=True)),
            "statuses": c.status.in_(bindparam("statuses", expanding=True)),
            "endpoint": c.endpoint == bindparam("endpoint"),
            "created_from": c.created_at >= bindparam("created_from"),
            "created_to": c.created_at < bindparam("created_to"),
        }
        pairs = [self._has_pair(number) for number in range(len(where.metadata or ()))]
        return [condition for name, condition in conditions.items() if getattr(where, name) is not None] + pairs

    def _has_pair(self, number: int) -> ColumnElement[bool]:
        pair = func.json_each(self._tables.jobs.c.metadata).table_valued("key", "value", name=f"pair_{number}")
        same_key = pair.c.key == bindparam(f"key_{number}")
        return exists(select(1).select_from(pair).where(same_key, pair.c.value == bindparam(f"value_{number}")))

    def due(self, due: Due, behind: bool) -> Select[Any]:
        """A part of a due page: `until`, `limit`, and `time` and `id` where it lies behind a cursor."""

        def build() -> Select[Any]:
            jobs, terms = self._tables.jobs, self._tables.due[due]
            rows = select(jobs).where(terms.where, terms.time <= bindparam("until"))
            if behind:
                rows = rows.where(tuple_(terms.time, jobs.c.id) > tuple_(bindparam("time"), bindparam("id")))
            return rows.add_columns(terms.time.label("due_time")).order_by(terms.time, jobs.c.id).limit(bindparam("limit"))

        return self._keep(("due", due, behind), build)


_CONDITIONS = ("organization_id", "ids", "statuses", "endpoint", "created_from", "created_to")


def _shape(where: JobFilter) -> tuple[object, ...]:
    given = (getattr(where, name) is not None for name in _CONDITIONS)
    return (*given, len(where.metadata or ()))


def parameters(where: JobFilter) -> Parameters:
    """The parameters of a filter."""
    values: Parameters = {
        "organization_id": where.organization_id,
        "ids": where.ids if where.ids is None else list(where.ids),
        "statuses": where.statuses if where.statuses is None else [status.value for status in where.statuses],
        "endpoint": where.endpoint,
        "created_from": where.created_from,
        "created_to": where.created_to,
    }
    used: Parameters = {name: value for name, value in values.items() if value is not None}
    for number, (key, value) in enumerate((where.metadata or {}).items()):
        used[f"key_{number}"], used[f"value_{number}"] = key, value
    return used
