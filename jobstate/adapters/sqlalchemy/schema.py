"""The schema's versions: how tables are created, and brought from each released version to this one.

Version 1 is that of 0.1 before its schema had a number: SQLite only. What has no number, and has jobs, is of version 1.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, inspect

from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import RepositoryError

VERSION = 2
"""The version of the tables as they stand in `tables`."""


def create(connection: Connection, tables: Tables) -> None:
    """Create the tables and indexes where there are none. Raises RepositoryError for those of another version."""
    found = _version(connection, tables)
    if found is None:
        tables.metadata.create_all(connection, tables=tables.own)
        _stamp(connection, tables)
    elif found != VERSION:
        raise RepositoryError(f"the tables are of version {found}, this release needs {VERSION}: {_advice(found)}")


def upgrade(connection: Connection, tables: Tables) -> tuple[int, int]:
    """Carry out each step from the version that is found to this one. Raises RepositoryError when there is no way."""
    found = _version(connection, tables)
    if found is None:
        raise RepositoryError("there are no tables to upgrade: call create_schema()")
    if found > VERSION:
        raise RepositoryError(f"the tables are of version {found}, this release needs {VERSION}: {_advice(found)}")
    for version in range(found, VERSION):
        _STEPS[version](connection, tables)
    _stamp(connection, tables)
    return found, VERSION


def _advice(found: int) -> str:
    return "call upgrade_schema()" if found < VERSION else "they were made by a later release; install that one"


def _version(connection: Connection, tables: Tables) -> int | None:
    """The version of the tables that are there; None for none."""
    there = inspect(connection)
    if there.has_table(tables.schema_version.name, schema=tables.schema_version.schema):
        return int(connection.execute(tables.schema_version.select()).scalar_one())
    return 1 if there.has_table(tables.jobs.name, schema=tables.jobs.schema) else None


def _stamp(connection: Connection, tables: Tables) -> None:
    _ = connection.execute(tables.schema_version.delete())
    _ = connection.execute(tables.schema_version.insert().values(version=VERSION))


def _to_2(connection: Connection, tables: Tables) -> None:
    """The version has a table."""
    tables.schema_version.create(connection)


_STEPS: dict[int, Callable[[Connection, Tables], None]] = {1: _to_2}
"""By the version that a step begins with."""
