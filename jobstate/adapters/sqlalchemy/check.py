"""Whether what is stored is what this release knows: the tables' version, each row, and each recorded move. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from sqlalchemy import Connection, Engine, func, select

from jobstate.adapters.sqlalchemy import schema
from jobstate.adapters.sqlalchemy.faults import NothingDone
from jobstate.adapters.sqlalchemy.repository import SQLAlchemyRepository
from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import RepositoryError
from jobstate.lifecycle import TABLE
from jobstate.query import JobFilter, PageRequest

PAGE = 1_000


class Findings(NamedTuple):
    """The tables' version (None for no tables) and the one that is needed, how many jobs there are, and what is wrong."""

    version: int | None
    needed: int
    jobs: int
    problems: list[str]


def check(engine: Engine, tables: Tables) -> Findings:
    """Read all of it, a page of jobs at a time. Tables of another version are not read."""
    with NothingDone(), engine.connect() as connection:
        try:
            version = schema.found_version(connection, tables)
        except RepositoryError as error:
            return Findings(None, schema.VERSION, 0, [str(error)])
        if version is None:
            return Findings(None, schema.VERSION, 0, [f"there is no table {tables.jobs.fullname}: call create_schema()"])
        if version != schema.VERSION:
            return Findings(version, schema.VERSION, 0, [str(schema.mismatch(version))])
        problems = [*_statuses(connection, tables), *_moves(connection, tables)]
    repository = SQLAlchemyRepository(engine, tables)
    problems += _unreadable(repository)
    return Findings(version, schema.VERSION, repository.count(JobFilter()), problems)


def _statuses(connection: Connection, tables: Tables) -> Iterator[str]:
    """Stored statuses that the table has no word for."""
    status = tables.jobs.c.status
    known = {source.value for _, source in TABLE}
    for name, number in connection.execute(select(status, func.count()).group_by(status).order_by(status)):
        if name not in known:
            yield f"{number} jobs are in status {name!r}, which this release does not know: they were stored by another one"


def _moves(connection: Connection, tables: Tables) -> Iterator[str]:
    """Recorded moves that no row of the table makes."""
    history = tables.history.c
    known = {(event.value, source.value, row.target.value) for (event, source), rows in TABLE.items() for row in rows}
    columns = (history.event, history.source, history.target)
    asked = select(*columns, func.count()).where(history.event != "created").group_by(*columns).order_by(*columns)
    for event, source, target, number in connection.execute(asked):
        if (event, source, target) not in known:
            yield f"the history has {event} from {source} to {target}, which the table does not allow ({number} times)"


def _unreadable(repository: SQLAlchemyRepository) -> Iterator[str]:
    """Rows that cannot be read, each with its field."""
    after: str | None = None
    while True:
        page = repository.list(JobFilter(), PageRequest(PAGE, after))
        yield from map(str, page.unreadable)
        if len(page.ids) < PAGE:
            return
        after = min(page.ids)
