"""SQLite: each write is a transaction of a few statements, begun with `BEGIN IMMEDIATE`, so that nobody else writes in it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Dialect,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import OperationalError

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.codec import Row, Write
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.payload import encode

BUSY_TIMEOUT = 10_000
"""How long a connection waits at least for another one's write, in milliseconds; a longer time of the host's is kept."""


class SQLite(Backend):
    """A SQLite file, version 3.38 or later."""

    begin = "BEGIN IMMEDIATE"
    in_one = False
    holds_rows = False

    def __init__(self, tables: Tables, dialect: Dialect, *, history: bool) -> None:
        super().__init__(tables, dialect, history=history)
        jobs, payloads, records = tables.jobs, tables.payloads, tables.history
        self._here = (jobs.c.id == bindparam("at_id")) & (jobs.c.version == bindparam("at_version"))
        prepare = self.kept.prepare
        self._insert = prepare(sqlite.insert(jobs).values(_named(jobs.c.keys())).on_conflict_do_nothing())
        self._record = prepare(insert(records).values(_named(records.c.keys())))
        put = sqlite.insert(payloads).values(_named(payloads.c.keys()))
        keys = [payloads.c.job_id, payloads.c.name]
        self._put = prepare(put.on_conflict_do_update(index_elements=keys, set_={"data": put.excluded.data}))
        this = (payloads.c.job_id == bindparam("job_id")) & (payloads.c.name == bindparam("name"))
        self._drop = prepare(delete(payloads).where(this))
        self._delete = prepare(delete(jobs).where(self._here))
        self._delete_parts = [
            prepare(delete(table).where(table.c.job_id == bindparam("at_id"))) for table in (payloads, records)
        ]

    def prepare(self, connection: Connection) -> None:
        """As `Backend.prepare`: once for each connection."""
        if not connection.info.get("jobstate"):
            if int(connection.exec_driver_sql("PRAGMA busy_timeout").scalar_one()) < BUSY_TIMEOUT:
                _ = connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
            connection.info["jobstate"] = True

    def join(self, connection: Connection) -> None:
        """As `Backend.join`: Python's sqlite3 begins one not before an INSERT or UPDATE, and a savepoint alone would commit."""
        there: Any = connection.connection.driver_connection
        if not there.in_transaction:
            _ = connection.exec_driver_sql(self.begin)

    def create(self, connection: Connection) -> None:
        """As `Backend.create`: switch the file to WAL. SQLite does not wait when two switch at once: so this does, as long."""
        deadline = time.monotonic() + BUSY_TIMEOUT / 1000
        while connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() != "wal":
            try:
                _ = connection.exec_driver_sql("PRAGMA journal_mode = WAL")
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

    def insert(self, connection: Connection, row: Row, payloads: Mapping[str, str | None], record: Row | None) -> bool:
        """As `Backend.insert`."""
        if self._insert.run(connection, row).rowcount != 1:
            return False
        self._write_parts(connection, row["id"], payloads, record)
        return True

    def save(self, connection: Connection, write: Write) -> bool:
        """As `Backend.save`."""
        names = tuple(write.row)
        statement = self.kept.get(("save", names), lambda: update(self.tables.jobs).where(self._here).values(_named(names)))
        if statement.run(connection, write.row | write.at).rowcount != 1:
            return False
        self._write_parts(connection, write.job_id, write.payloads, write.record)
        return True

    def _write_parts(self, connection: Connection, job_id: str, payloads: Mapping[str, str | None], record: Row | None) -> None:
        for name, text in payloads.items():
            statement = self._drop if text is None else self._put
            _ = statement.run(connection, {"job_id": job_id, "name": name, "data": text})
        if record is not None:
            _ = self._record.run(connection, record)

    def batches(self, writes: Sequence[Write]) -> Sequence[Sequence[Write]]:
        """As `Backend.batches`: one transaction for all."""
        return [writes] if writes else []

    def save_many(self, connection: Connection, writes: Sequence[Write]) -> list[bool]:
        """As `Backend.save_many`."""
        return [self.save(connection, write) for write in writes]

    def delete(self, connection: Connection, job_id: str, version: int) -> bool:
        """As `Backend.delete`."""
        at = {"at_id": job_id, "at_version": version}
        if self._delete.run(connection, at).rowcount != 1:
            return False
        for statement in self._delete_parts:
            _ = statement.run(connection, at)
        return True


def _named(names: Sequence[str]) -> dict[str, Any]:
    """Each column, and a parameter of its name."""
    return {name: bindparam(name) for name in names}
