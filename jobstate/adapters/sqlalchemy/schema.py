"""The schema's versions: how tables are created, and brought from each released version to this one.

Version 1 is that of 0.1 before its schema had a number: SQLite only. What has no number, and has jobs, is of version 1.

The functions here work on a connection in a transaction, which commits or rolls back: the repository's own, or that of a
migration of the host's (in Alembic, `op.get_bind()`).
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Column, Connection, Index, Integer, MetaData, Table, inspect, text

from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import RepositoryError

VERSION = 2
"""The version of the tables as they stand in `tables`."""

_LOCK = "SELECT pg_advisory_xact_lock(hashtext('jobstate schema'))"


def create(connection: Connection, tables: Tables) -> None:
    """Create the tables and indexes where there are none. Raises RepositoryError for those of another version."""
    _wait(connection)
    found = found_version(connection, tables)
    if found is None:
        tables.metadata.create_all(connection, tables=tables.own)
        _stamp(connection, tables)
    elif found != VERSION:
        raise mismatch(found)


def upgrade(connection: Connection, tables: Tables) -> tuple[int, int]:
    """Carry out each step from the version that is found to this one: the version before, and now.

    Raises RepositoryError when there are no tables, or those of a later release.
    """
    _wait(connection)
    found = found_version(connection, tables)
    if found is None:
        raise RepositoryError(f"there is no table {tables.jobs.fullname} to upgrade: call create_schema()")
    if found > VERSION:
        raise mismatch(found)
    for version in range(found, VERSION):
        _STEPS[version](connection, tables)
    _stamp(connection, tables)
    return found, VERSION


def stamp(connection: Connection, tables: Tables) -> None:
    """Say that the tables are of this release's version: for tables that the host's migration has made by itself."""
    _wait(connection)
    _stamp(connection, tables)


def _stamp(connection: Connection, tables: Tables) -> None:
    _ = connection.execute(tables.schema_version.delete())
    _ = connection.execute(tables.schema_version.insert().values(version=VERSION))


def _wait(connection: Connection) -> None:
    """Until nobody else changes the schema, and then nobody does until the transaction ends. On SQLite its beginning waits."""
    if connection.dialect.name == "postgresql":
        _ = connection.exec_driver_sql(_LOCK)


def found_version(connection: Connection, tables: Tables) -> int | None:
    """The version of the tables that are there; None for none."""
    there, table = inspect(connection), tables.schema_version
    if there.has_table(table.name, schema=table.schema):
        found = connection.execute(table.select()).scalar_one_or_none()
        if found is None:
            raise RepositoryError(f"{table.fullname} is empty: the migration that made the tables has to call schema.stamp()")
        return int(found)
    if not there.has_table(tables.jobs.name, schema=tables.jobs.schema):
        return None
    if connection.dialect.name != "sqlite":
        raise RepositoryError(
            f"there is a table {tables.jobs.fullname}, and no {table.fullname} that says of which version it is"
        )
    return 1


def mismatch(found: int) -> RepositoryError:
    """Tables of another version, and what to do."""
    advice = "call upgrade_schema()" if found < VERSION else "they were made by a later release; install that one"
    return RepositoryError(f"the tables are of version {found}, this release needs {VERSION}: {advice}")


# Steps. Each says in its own words what it makes, and looks nothing up in `tables` but names: those are of a later version.


def _to_2(connection: Connection, tables: Tables) -> None:
    """The version has a table, creation an index, and a dispatch's index an expression that PostgreSQL gives back as it is."""
    name, schema = tables.schema_version.name, tables.schema_version.schema
    Table(name, MetaData(), Column("version", Integer, primary_key=True, autoincrement=False), schema=schema).create(connection)
    later = "coalesce(max(available_at, dispatched_at), dispatched_at)"
    unstarted = _index(tables, "due_unstarted", ("status", later, "id"), "status = 'queued' AND dispatched_at IS NOT NULL")
    unstarted.drop(connection)
    unstarted.create(connection)
    _index(tables, "by_creation", ("organization_id", "created_at")).create(connection)


_STEPS: dict[int, Callable[[Connection, Tables], None]] = {1: _to_2}
"""By the version that a step begins with."""


def _index(tables: Tables, name: str, terms: tuple[str, ...], where: str | None = None) -> Index:
    jobs = Table(tables.jobs.name, MetaData(), schema=tables.jobs.schema)
    condition = None if where is None else text(where)
    full_name = f"{tables.prefix}{name}"
    return Index(full_name, *map(text, terms), _table=jobs, sqlite_where=condition, postgresql_where=condition)
