"""PostgreSQL: each write is one statement, in which whatever belongs to a row is written from the row that was.

`WITH moved AS (UPDATE ... RETURNING ...)` compares and sets; payloads and the record are written `FROM moved`, so they are
written if, and only if, it did. One statement is one transaction, and one round trip. Many writes of one shape come as one JSON
array of rows, so that a thousand of them are one statement too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    JSON,
    ClauseElement,
    ColumnElement,
    Connection,
    Dialect,
    FromClause,
    Integer,
    Table,
    Text,
    any_,
    bindparam,
    cast,
    column,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.codec import RECORD_COLUMNS, Row, Write
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import InvalidInputError
from jobstate.payload import encode

Shape = tuple[tuple[str, ...], tuple[tuple[str, bool], ...], bool]


class PostgreSQL(Backend):
    """A PostgreSQL server, version 13 or later."""

    begin = "BEGIN"
    in_one = True
    holds_rows = True

    def __init__(self, tables: Tables, dialect: Dialect, *, history: bool) -> None:
        super().__init__(tables, dialect, history=history)
        self._delete = self.kept.prepare(self._deletion())

    def snapshot(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
        """As `Backend.snapshot`."""
        plain = [cast(one, Text) if one.key == "metadata" else one for one in columns]  # JSONB would be nested
        return cast(func.json_build_array(*plain), Text)

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """As `Backend.among`."""
        return column == any_(bindparam(name, type_=ARRAY(Text)))

    def has_pairs(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """As `Backend.has_pairs`; what has no pair is not in the index."""
        tagged = column != literal_column("'{}'")
        return tagged & column.op("@>")(bindparam(name, type_=JSONB))

    def limit(self, name: str) -> ColumnElement[int]:
        """As `Backend.limit`: unseen by the planner, which then plans for the first rows, and never sorts a whole due page.

        It takes the conditions of a partial index for independent, and a page of thousands for one of a few rows.
        """
        return select(bindparam(name, type_=Integer)).scalar_subquery()

    def many(self, values: Sequence[str]) -> object:
        """As `Backend.many`."""
        return list(values)

    def join(self, connection: Connection) -> None:
        """As `Backend.join`: the driver begins one, unless it is told not to."""
        there = connection.connection.dbapi_connection
        if there is not None and connection.dialect.detect_autocommit_setting(there):
            raise InvalidInputError("transaction", "its connection is in AUTOCOMMIT mode: bind to one in a transaction")

    # Insert

    def insert(self, connection: Connection, row: Row, payloads: Mapping[str, str | None], record: Row | None) -> bool:
        """As `Backend.insert`."""
        there = tuple(name for name, text in payloads.items() if text is not None)
        statement = self.kept.get(("insert", there, record is not None), lambda: self._insertion(there, record is not None))
        values = {**row, **_named(payloads), **_prefixed(record)}
        return statement.run(connection, values).rowcount == 1

    def _insertion(self, payloads: tuple[str, ...], recorded: bool) -> ClauseElement:
        jobs = self.tables.jobs
        columns: dict[str, Any] = {name: bindparam(name) for name in jobs.c.keys()}  # noqa: SIM118  # a collection of columns is no mapping
        new = postgresql.insert(jobs).values(columns).on_conflict_do_nothing()
        if not payloads and not recorded:
            return new
        stored = new.returning(jobs.c.id).cte("stored")
        parts = [self._put(stored, name, bindparam(f"payload_{name}", type_=Text)) for name in payloads]
        return _last(parts + ([self._note(stored, _record_parameters(self.tables.history))] if recorded else []))

    def _put(self, moved: FromClause, name: str, data: ColumnElement[Any]) -> postgresql.Insert:
        payloads = self.tables.payloads
        rows = select(moved.c.id, literal_column(f"'{name}'", Text), data)
        put = postgresql.insert(payloads).from_select(["job_id", "name", "data"], rows)
        keys = [payloads.c.job_id, payloads.c.name]
        return put.on_conflict_do_update(index_elements=keys, set_={"data": put.excluded.data})

    def _note(self, moved: FromClause, values: Mapping[str, ColumnElement[Any]]) -> postgresql.Insert:
        rows = select(moved.c.id, *(values[name] for name in RECORD_COLUMNS[1:]))
        return postgresql.insert(self.tables.history).from_select(list(RECORD_COLUMNS), rows)

    # Save

    def save(self, connection: Connection, write: Write) -> bool:
        """As `Backend.save`."""
        statement = self.kept.get(("save", write.shape), lambda: self._saving(write.shape))
        result = statement.run(connection, {**write.row, **write.at, **_named(write.payloads), **_prefixed(write.record)})
        return bool(result.scalar_one() if result.returns_rows else result.rowcount)

    def _saving(self, shape: Shape) -> ClauseElement:
        names, payloads, recorded = shape
        jobs = self.tables.jobs
        here = (jobs.c.id == bindparam("at_id")) & (jobs.c.version == bindparam("at_version"))
        change = update(jobs).where(here).values({name: bindparam(name) for name in names})
        if not payloads and not recorded:
            return change
        moved = change.returning(jobs.c.id).cte("moved")
        parts: list[Any] = [self._drop(moved, name) for name, there in payloads if not there]
        parts += [self._put(moved, name, bindparam(f"payload_{name}", type_=Text)) for name, there in payloads if there]
        if recorded:
            parts.append(self._note(moved, _record_parameters(self.tables.history)))
        elif not payloads[-1][1]:
            return _counted(moved, parts)
        return _last(parts)

    def _drop(self, moved: FromClause, name: str) -> Any:
        payloads = self.tables.payloads
        return delete(payloads).where(payloads.c.job_id.in_(select(moved.c.id)), payloads.c.name == literal_column(f"'{name}'"))

    # Save many

    def batches(self, writes: Sequence[Write]) -> Sequence[Sequence[Write]]:
        """As `Backend.batches`: what has one shape is one statement."""
        shapes: dict[Shape, list[Write]] = {}
        for write in writes:
            shapes.setdefault(write.shape, []).append(write)
        return list(shapes.values())

    def save_many(self, connection: Connection, writes: Sequence[Write]) -> list[bool]:
        """As `Backend.save_many`."""
        shape = writes[0].shape
        statement = self.kept.get(("save many", shape), lambda: self._saving_many(shape))
        rows = [{**write.row, **write.at, **_named(write.payloads), **_prefixed(write.record)} for write in writes]
        done = set(statement.run(connection, {"rows": encode(rows)}).scalars())
        return [write.job_id in done for write in writes]

    def _saving_many(self, shape: Shape) -> ClauseElement:
        names, payloads, recorded = shape
        jobs, records = self.tables.jobs, self.tables.history
        columns: list[Any] = [column("at_id", jobs.c.id.type), column("at_version", jobs.c.version.type)]
        columns += [column(name, jobs.c[name].type) for name in names]
        columns += [column(f"payload_{name}", Text) for name, there in payloads if there]
        columns += [column(f"record_{name}", records.c[name].type) for name in RECORD_COLUMNS] if recorded else []
        source = func.json_to_recordset(bindparam("rows", type_=JSON))
        asked = select(source.table_valued(*columns, name="row").render_derived(with_types=True)).cte("asked")
        here = (jobs.c.id == asked.c.at_id) & (jobs.c.version == asked.c.at_version)
        moved = update(jobs).where(here).values({name: asked.c[name] for name in names}).returning(jobs.c.id).cte("moved")
        both = select(moved.c.id, *asked.c).join_from(moved, asked, moved.c.id == asked.c.at_id).subquery("both")
        parts: list[Any] = [self._drop(moved, name) for name, there in payloads if not there]
        parts += [self._put(both, name, both.c[f"payload_{name}"]) for name, there in payloads if there]
        if recorded:
            parts.append(self._note(both, {name: both.c[f"record_{name}"] for name in RECORD_COLUMNS}))
        return _with(select(moved.c.id), parts)

    # Delete

    def delete(self, connection: Connection, job_id: str, version: int) -> bool:
        """As `Backend.delete`."""
        return bool(self._delete.run(connection, {"at_id": job_id, "at_version": version}).scalar_one())

    def _deletion(self) -> ClauseElement:
        jobs = self.tables.jobs
        here = (jobs.c.id == bindparam("at_id")) & (jobs.c.version == bindparam("at_version"))
        gone = delete(jobs).where(here).returning(jobs.c.id).cte("gone")
        tables = (self.tables.payloads, self.tables.history)
        return _counted(gone, [delete(table).where(table.c.job_id.in_(select(gone.c.id))) for table in tables])


def _record_parameters(history: Table) -> dict[str, ColumnElement[Any]]:
    return {name: bindparam(f"record_{name}", type_=history.c[name].type) for name in RECORD_COLUMNS}


def _prefixed(record: Row | None) -> Row:
    return {} if record is None else {f"record_{name}": value for name, value in record.items()}


def _named(payloads: Mapping[str, str | None]) -> Row:
    return {f"payload_{name}": text for name, text in payloads.items() if text is not None}


def _with(statement: Any, parts: Sequence[Any]) -> ClauseElement:
    """The statement behind these parts: all of them are carried out, on one state of the database."""
    ctes: list[CTE] = [part.cte(f"part_{number}") for number, part in enumerate(parts)]
    both: ClauseElement = statement.add_cte(*ctes) if ctes else statement
    return both


def _last(parts: Sequence[Any]) -> ClauseElement:
    """The parts as one statement, whose last one writes one row, or none: its row count tells."""
    return _with(parts[-1], parts[:-1])


def _counted(moved: CTE, parts: Sequence[Any]) -> ClauseElement:
    """The parts as one statement that answers how many rows were moved."""
    return _with(select(func.count()).select_from(moved), parts)
