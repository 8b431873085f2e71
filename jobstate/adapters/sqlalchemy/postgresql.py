"""PostgreSQL: each write is one statement, in which whatever belongs to a row is written from the row that was.

`WITH moved AS (UPDATE ... RETURNING ...)` compares and sets; payloads and the record are written `FROM moved`, so they are
written if, and only if, it did. One statement is one transaction, and one round trip. Many writes of one shape come as JSON
arrays, one for each column, so that a thousand of them are one statement too.
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
    Dialect,
    FromClause,
    Integer,
    String,
    Table,
    Text,
    any_,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.batches import SHARING, columns_of, divided
from jobstate.adapters.sqlalchemy.codec import RECORD_COLUMNS, Shape, Write, compact
from jobstate.adapters.sqlalchemy.lines import Line
from jobstate.adapters.sqlalchemy.notices import channel_of
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import InvalidInputError
from jobstate.lifecycle import Accepted

_NOTED = RECORD_COLUMNS[2:]
"""The columns of a record that are not the row's id and version."""

_BESIDE = ("payload_", "record_")
"""How the names of what goes to other tables begin."""


class PostgreSQL(Backend):
    """A PostgreSQL server; tested on version 18."""

    begin = "BEGIN ISOLATION LEVEL READ COMMITTED"
    in_one = True
    holds_rows = True

    def __init__(self, tables: Tables, dialect: Dialect, *, history: bool) -> None:
        super().__init__(tables, dialect, history=history)
        self._delete = self.kept.prepare(self._deletion())
        self.channel = channel_of(tables)

    def plain(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """As `Backend.plain`: JSONB would be nested."""
        return cast(column, Text) if column.key == "metadata" else column

    def snapshot(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
        """As `Backend.snapshot`."""
        return cast(func.json_build_array(*map(self.plain, columns)), Text)

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

    def notify(self, line: Line) -> None:
        """As `Backend.notify`."""
        _ = line.send(f'NOTIFY "{self.channel}"')

    def join(self, line: Line) -> None:
        """As `Backend.join`: the driver begins one, unless it is told not to."""
        if line.commits_itself:
            raise InvalidInputError("transaction", "its connection is in AUTOCOMMIT mode: bind to one in a transaction")

    # Insert

    def insert(self, line: Line, write: Write) -> bool:
        """As `Backend.insert`."""
        return (
            self.kept.get(("insert", write.shape), lambda: self._insertion(write.shape)).run(line, write.values).rowcount == 1
        )

    def _insertion(self, shape: Shape) -> ClauseElement:
        names, payloads, recorded = shape
        jobs = self.tables.jobs
        new = postgresql.insert(jobs).values({name: bindparam(name) for name in names}).on_conflict_do_nothing()
        if not payloads and not recorded:
            return new
        stored = new.returning(jobs.c.id).cte("stored")
        parts: list[Any] = [self._put(stored, name, bindparam(f"payload_{name}", type_=Text)) for name, _ in payloads]
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

    def save(self, line: Line, write: Write) -> bool:
        """As `Backend.save`."""
        statement = self.kept.get(("save", write.shape), lambda: self._saving(write.shape))
        result = statement.run(line, write.values)
        return bool(result.value if result.rows else result.rowcount)

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

    def batches(self, transitions: Sequence[Accepted]) -> Sequence[Sequence[Accepted]]:
        """As `Backend.batches`: what has one shape is one statement."""
        return divided(transitions)

    def save_many(self, line: Line, batch: Sequence[Accepted]) -> list[bool]:
        """As `Backend.save_many`."""
        shape = Write.moved(batch[0], recorded=self.history).shape
        shared, own = columns_of(batch, recorded=shape[-1], sharing=len(batch) >= SHARING)
        statement = self.kept.get(("save many", shape, *shared), lambda: self._saving_many(shape, shared))
        arrays = {name: compact(values) for name, values in own.items()}
        row: Any = statement.run(line, {**shared, **arrays, "asked": len(batch)}).rows[0]
        if row[0] == len(batch):
            return [True] * len(batch)
        done: set[str] = set(row[1] or ())
        return [one.job_id in done for one in batch]

    def _saving_many(self, shape: Shape, shared: Mapping[str, Any]) -> ClauseElement:
        """What is the same for all rows comes once; the rest as JSON, an array for each column."""
        names, payloads, recorded = shape
        jobs = self.tables.jobs
        types = self._types(shape)
        arrays = {name: func.json_array_elements_text(bindparam(name, type_=JSON)) for name in types if name not in shared}
        asked = select(*(cast(each, types[name]).label(name) for name, each in arrays.items())).cte("asked")

        def value(name: str, rows: FromClause) -> ColumnElement[Any]:
            return bindparam(name, type_=types[name]) if name in shared else rows.c[name]

        here = (jobs.c.id == asked.c.at_id) & (jobs.c.version == value("at_version", asked))
        changes = {name: value(name, asked) for name in names}
        if "metadata" in changes:
            changes["metadata"] = cast(changes["metadata"], JSONB)
        beside = [jobs.c.version, *(asked.c[name] for name in arrays if name.startswith(_BESIDE))]
        moved = update(jobs).where(here).values(changes).returning(jobs.c.id, *beside).cte("moved")
        parts: list[Any] = [self._drop(moved, name) for name, there in payloads if not there]
        parts += [self._put(moved, name, value(f"payload_{name}", moved)) for name, there in payloads if there]
        if recorded:
            noted = {name: value(f"record_{name}", moved) for name in _NOTED}
            parts.append(self._note(moved, {"version": moved.c.version, **noted}))
        count = func.count()
        which = case((count < bindparam("asked", type_=Integer), func.array_agg(moved.c.id)))
        return _with(select(count, which).select_from(moved), parts)

    def _types(self, shape: Shape) -> dict[str, TypeEngine[Any]]:
        """What a row of a batch has, and its types: text without its length, to which a cast would cut it."""
        names, payloads, recorded = shape
        jobs, records = self.tables.jobs.c, self.tables.history.c
        types = {"at_id": jobs.id.type, "at_version": jobs.version.type, **{name: jobs[name].type for name in names}}
        types |= {f"payload_{name}": Text() for name, there in payloads if there}
        types |= {f"record_{name}": records[name].type for name in _NOTED} if recorded else {}
        return {
            name: Text() if isinstance(kind, (String, JSONB)) or name == "metadata" else kind for name, kind in types.items()
        }

    # Delete

    def delete(self, line: Line, job_id: str, version: int) -> bool:
        """As `Backend.delete`."""
        return bool(self._delete.run(line, {"at_id": job_id, "at_version": version}).value)

    def _deletion(self) -> ClauseElement:
        jobs = self.tables.jobs
        here = (jobs.c.id == bindparam("at_id")) & (jobs.c.version == bindparam("at_version"))
        gone = delete(jobs).where(here).returning(jobs.c.id).cte("gone")
        tables = (self.tables.payloads, self.tables.history)
        return _counted(gone, [delete(table).where(table.c.job_id.in_(select(gone.c.id))) for table in tables])


def _record_parameters(history: Table) -> dict[str, ColumnElement[Any]]:
    return {name: bindparam(f"record_{name}", type_=history.c[name].type) for name in RECORD_COLUMNS}


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
