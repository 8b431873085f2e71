"""PostgreSQL's plans: lists, due pages and counts walk an index, also when a plan is made once for all values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine

from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.adapters.sqlalchemy.prepared import Prepared
from jobstate.adapters.sqlalchemy.statements import Reading
from jobstate.model import JobStatus
from jobstate.query import Due, JobFilter, PageRequest
from tests.postgresql import emptied, engine_of
from tests.rows import EXPIRED_BY, SECOND, filled, row_id

ROWS = 50_000
FAILED, CANCELLED = JobStatus.FAILED, JobStatus.CANCELLED
MIDDLE = row_id(ROWS // 2)

WALKED = {
    "all": JobFilter(),
    "tenant": JobFilter(organization_id="org_3"),
    "status": JobFilter(statuses=(FAILED,)),
    "tenant and status": JobFilter(organization_id="org_3", statuses=(FAILED,)),
    "tenant and endpoint": JobFilter(organization_id="org_3", endpoint="/v1/3"),
    "ids": JobFilter(organization_id="org_3", ids=(MIDDLE,)),
}
"""Their rows stand in an index in the order of the page."""

GATHERED = {
    "tenant and statuses": JobFilter(organization_id="org_3", statuses=(FAILED, CANCELLED)),
    "metadata": JobFilter(organization_id="org_3", metadata={"batch": "b7"}),
    "creation": JobFilter(organization_id="org_3", created_from=SECOND + 1_000, created_to=SECOND + 1_100),
}
"""Theirs are found by an index, and put in order: a page for each status, or the few that were found."""


@pytest.fixture(scope="module")
def engine(server: URL) -> Iterator[Engine]:
    made = engine_of(server, connect_args={"prepare_threshold": None})
    emptied(made)
    SQLAlchemyRepository(made).create_schema()
    filled(made, ROWS)
    yield made
    emptied(made)
    made.dispose()


@pytest.fixture(scope="module")
def reading(engine: Engine) -> Reading:
    return SQLAlchemyRepository(engine)._store._reading


@pytest.fixture(params=["for these values", "for all values"])
def connection(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Connection]:
    with engine.connect() as made:
        mode = "force_custom_plan" if request.param == "for these values" else "force_generic_plan"
        made.exec_driver_sql(f"SET LOCAL plan_cache_mode = {mode}")
        yield made
        made.rollback()


def plan(connection: Connection, statement: Prepared, values: dict[str, Any]) -> str:
    """The plan of a prepared statement, as it is after some executions."""
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", statement.text)))
    words = re.sub(r"%\((\w+)\)s", lambda name: f"${names.index(name[1]) + 1}", statement.text)
    connection.exec_driver_sql(f"PREPARE planned AS {words}")
    given = ", ".join(_literal(values[name]) for name in names)
    rows = connection.exec_driver_sql("EXPLAIN EXECUTE planned" + (f" ({given})" if given else "")).scalars().all()
    connection.exec_driver_sql("DEALLOCATE planned")
    return "\n".join(rows)


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"ARRAY[{', '.join(map(_literal, value))}]"  # pyright: ignore[reportUnknownArgumentType]
    return "NULL" if value is None else f"'{value}'" if isinstance(value, str) else str(value)


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("cursor", [None, MIDDLE])
@pytest.mark.parametrize("name", [*WALKED, *GATHERED])
def test_a_list_walks_an_index(
    connection: Connection, reading: Reading, name: str, cursor: str | None, newest_first: bool
) -> None:
    where = {**WALKED, **GATHERED}[name]
    page = PageRequest(50, after=cursor, newest_first=newest_first)
    values = {**reading.parameters(where), "cursor": cursor, "limit": 50}
    found = plan(connection, reading.page(where, page, ()), values)
    assert "Seq Scan" not in found, found
    assert "Index" in found
    assert name in GATHERED or "Sort" not in found, found


@pytest.mark.parametrize("payloads", [(), ("request",)])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("due", Due)
def test_a_due_page_walks_its_own_index_in_order(
    connection: Connection, reading: Reading, due: Due, behind: bool, payloads: tuple[str, ...]
) -> None:
    values = {"until": EXPIRED_BY, "limit": 500, "time": SECOND + 1_000, "id": MIDDLE}
    found = plan(connection, reading.due(due, behind, payloads, hold=True, apart=not payloads), values)
    assert f"Index Scan using jobstate_due_{due}" in found, found
    assert "Sort" not in found, found


@pytest.mark.parametrize("name", [name for name in (*WALKED, *GATHERED) if name != "all"])
def test_a_count_looks_into_an_index(connection: Connection, reading: Reading, name: str) -> None:
    where = {**WALKED, **GATHERED}[name]
    found = plan(connection, reading.count(where), reading.parameters(where))
    assert "Seq Scan" not in found, found
    assert "Index" in found


def test_a_load_and_a_save_look_up_one_row(connection: Connection, engine: Engine, reading: Reading) -> None:
    found = plan(connection, reading.load(True, ("request",)), {"id": MIDDLE, "organization_id": "org_1"})
    assert "Seq Scan" not in found, found
    assert found.count("Index Scan") == 2, found
