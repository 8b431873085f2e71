"""SQLite: each write is a transaction of a few statements, begun with `BEGIN IMMEDIATE`, so that nobody else writes in it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Dialect,
    bindparam,
    delete,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.codec import RECORD_COLUMNS, Write
from jobstate.adapters.sqlalchemy.lines import Line
from jobstate.adapters.sqlalchemy.prepared import Prepared
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.lifecycle import Accepted
from jobstate.model import PAYLOADS
from jobstate.payload import encode

BUSY_TIMEOUT = 10_000
"""How long a connection waits at least for another one's write, in milliseconds; a longer time of the host's is kept."""


class SQLite(Backend):
    """A SQLite file; tested on version 3.40."""

    begin = "BEGIN IMMEDIATE"
    in_one = False
    holds_rows = False

    def __init__(self, tables: Tables, dialect: Dialect, *, history: bool) -> None:
        super().__init__(tables, dialect, history=history)
        jobs, payloads, records = tables.jobs, tables.payloads, tables.history
        self._here = (jobs.c.id == bindparam("at_id")) & (jobs.c.version == bindparam("at_version"))
        prepare = self.kept.prepare
        self._record = prepare(insert(records).values({name: bindparam(f"record_{name}") for name in RECORD_COLUMNS}))
        self._put = {name: prepare(self._putting(name)) for name in PAYLOADS}
        self._drop = {name: prepare(delete(payloads).where(self._this(name))) for name in PAYLOADS}
        self._delete = prepare(delete(jobs).where(self._here))
        self._delete_parts = [
            prepare(delete(table).where(table.c.job_id == bindparam("at_id"))) for table in (payloads, records)
        ]

    def prepare(self, line: Line) -> None:
        """As `Backend.prepare`: once for each connection."""
        if not line.pooled.info.get("jobstate"):
            if int(line.send("PRAGMA busy_timeout").value) < BUSY_TIMEOUT:
                _ = line.send(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            line.pooled.info["jobstate"] = True

    def join(self, line: Line) -> None:
        """As `Backend.join`: Python's sqlite3 begins one not before an INSERT or UPDATE, and a savepoint alone would commit."""
        there: Any = line.pooled.driver_connection
        if not there.in_transaction:
            _ = line.send(self.begin)

    def create(self, line: Line) -> None:
        """As `Backend.create`: switch the file to WAL. SQLite does not wait when two switch at once: so this does, as long."""
        deadline = time.monotonic() + BUSY_TIMEOUT / 1000
        while line.send("PRAGMA journal_mode").value != "wal":
            try:
                _ = line.send("PRAGMA journal_mode = WAL")
            except OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def snapshot(self, columns: Sequence[ColumnElement[Any]]) -> ColumnElement[str]:
        """As `Backend.snapshot`."""
        return func.json_array(*columns)

    def among(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """As `Backend.among`."""
        return column.in_(select(func.json_each(bindparam(name)).table_valued("value").c.value))

    def has_pairs(self, column: ColumnElement[Any], name: str) -> ColumnElement[bool]:
        """As `Backend.has_pairs`: no pair is missing."""
        wanted = func.json_each(bindparam(name)).table_valued("key", "value", name="wanted")
        there = func.json_each(column).table_valued("key", "value", name="there")
        same = (there.c.key == wanted.c.key) & (there.c.value == wanted.c.value)
        missing = ~select(there.c.key).where(same).correlate(wanted, self.tables.jobs).exists()
        return ~select(wanted.c.key).where(missing).correlate(self.tables.jobs).exists()

    def many(self, values: Sequence[str]) -> object:
        """As `Backend.many`: a JSON array."""
        return encode(list(values))

    def _this(self, name: str) -> ColumnElement[bool]:
        payloads = self.tables.payloads.c
        return (payloads.job_id == bindparam("at_id")) & (payloads.name == literal_column(f"'{name}'"))

    def _putting(self, name: str) -> sqlite.Insert:
        payloads = self.tables.payloads
        row: dict[str, Any] = {"job_id": bindparam("at_id"), "name": literal_column(f"'{name}'")}
        put = sqlite.insert(payloads).values({**row, "data": bindparam(f"payload_{name}")}).inline()  # no RETURNING of its key
        keys = [payloads.c.job_id, payloads.c.name]
        return put.on_conflict_do_update(index_elements=keys, set_={"data": put.excluded.data})

    def insert(self, line: Line, write: Write) -> bool:
        """As `Backend.insert`."""
        names = write.shape[0]
        new = self.kept.get(
            ("insert", names), lambda: sqlite.insert(self.tables.jobs).values(_named(names)).on_conflict_do_nothing()
        )
        return self._write(line, new, write)

    def save(self, line: Line, write: Write) -> bool:
        """As `Backend.save`."""
        names = write.shape[0]
        change = self.kept.get(("save", names), lambda: update(self.tables.jobs).where(self._here).values(_named(names)))
        return self._write(line, change, write)

    def _write(self, line: Line, row: Prepared, write: Write) -> bool:
        """The row, and if that was written, what belongs to it."""
        if row.run(line, write.values).rowcount != 1:
            return False
        _, payloads, recorded = write.shape
        for name, there in payloads:
            _ = (self._put if there else self._drop)[name].run(line, write.values)
        if recorded:
            _ = self._record.run(line, write.values)
        return True

    def batches(self, transitions: Sequence[Accepted]) -> Sequence[Sequence[Accepted]]:
        """As `Backend.batches`: one transaction for all."""
        return [transitions] if transitions else []

    def save_many(self, line: Line, batch: Sequence[Accepted]) -> list[bool]:
        """As `Backend.save_many`."""
        return [self.save(line, Write.moved(one, recorded=self.history)) for one in batch]

    def delete(self, line: Line, job_id: str, version: int) -> bool:
        """As `Backend.delete`."""
        at = {"at_id": job_id, "at_version": version}
        if self._delete.run(line, at).rowcount != 1:
            return False
        for statement in self._delete_parts:
            _ = statement.run(line, at)
        return True


def _named(names: Sequence[str]) -> dict[str, Any]:
    """Each column, and a parameter of its name."""
    return {name: bindparam(name) for name in names}
