"""The schema: created once by whoever comes first, brought from each released version to this one, refused when it is later."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, Engine, MetaData, inspect, text

from jobstate import Job, Jobs
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository, Tables, schema
from jobstate.errors import RepositoryError
from jobstate.model import HistoryRecord
from jobstate.query import JobFilter
from tests import schemas
from tests.postgresql import async_engine_of, emptied, engine_of
from tests.sql import aiosqlite_engine, shape, sqlite_engine
from tests.support import at_once

SEVERAL = 6
RELEASED = sorted(tuple(path.name.split(".")[:2]) for path in schemas.FOLDER.glob("*.sql"))


def version(engine: Engine) -> list[int]:
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT version FROM jobstate_schema_version")).scalars())


@pytest.mark.parametrize("dialect", schemas.ADDRESSES)
def test_the_tables_that_stand_are_those_of_their_version(dialect: str) -> None:
    """Whoever changes them raises `schema.VERSION`, writes the step, and freezes the new version: see docs/release.md."""
    assert schemas.ddl(dialect) == (schemas.FOLDER / f"{schema.VERSION}.{dialect}.sql").read_text()


def test_each_released_version_has_a_step_to_the_next() -> None:
    assert {int(number) for number, _ in RELEASED} == set(range(1, schema.VERSION + 1))
    assert list(schema._STEPS) == list(range(1, schema.VERSION))


def _upgrade(engine: Engine, driver: str, folder: Path) -> tuple[int, int]:
    if not driver:
        return SQLAlchemyRepository(engine).upgrade_schema()

    async def main() -> tuple[int, int]:
        made = aiosqlite_engine(folder) if driver == "aiosqlite" else async_engine_of(engine.url, driver)
        try:
            return await AsyncSQLAlchemyRepository(made).upgrade_schema()
        finally:
            await made.dispose()

    return asyncio.run(main())


DRIVERS = {"sqlite": ["", "aiosqlite"], "postgresql": ["", "postgresql+psycopg", "postgresql+asyncpg"]}
UPGRADES = [(int(number), dialect, driver) for number, dialect in RELEASED for driver in DRIVERS[dialect]]


@pytest.mark.parametrize(("number", "engines", "driver"), UPGRADES, indirect=["engines"])
def test_an_old_schema_is_upgraded_to_what_a_fresh_one_is_and_every_job_reads_back(
    number: int, engines: Callable[[], Engine], driver: str, tmp_path: Path
) -> None:
    engine = engines()
    with engine.begin() as connection:
        schemas.run(connection, number)
    before = shape(engine)
    assert _upgrade(engine, driver, tmp_path) == (number, schema.VERSION)
    after = shape(engine)
    assert (before == after) == (number == schema.VERSION)
    repository = SQLAlchemyRepository(engine)
    expected = schemas.frozen(number)
    jobs = [Job[Any, Any].model_validate(job) for job in expected["jobs"]]
    assert len({job.status for job in jobs}) == 7
    assert [repository.load(job.id, include_request=True, include_response=True) for job in jobs] == jobs
    assert repository.count(JobFilter()) == len(jobs)
    records = [HistoryRecord.model_validate(record) for record in expected["records"]]
    assert [record for job in jobs for record in repository.history(job.id)] == records
    emptied(engine)
    repository.create_schema()
    assert after == shape(engine)


def test_an_upgrade_that_was_made_is_not_made_again(engines: Callable[[], Engine]) -> None:
    repository = SQLAlchemyRepository(engines())
    repository.create_schema()
    before = shape(engines())
    assert repository.upgrade_schema() == (schema.VERSION, schema.VERSION)
    repository.create_schema()
    assert (shape(engines()), version(engines())) == (before, [schema.VERSION])


class Next:
    """A version after this one, whose step adds an index, and may break behind it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.carried_out = 0
        self.breaks = False
        patch.setattr(schema, "VERSION", schema.VERSION + 1)
        patch.setitem(schema._STEPS, schema.VERSION - 1, self.step)

    def step(self, connection: Connection, tables: Tables) -> None:
        self.carried_out += 1
        connection.execute(text("CREATE INDEX jobstate_next ON jobstate_jobs (endpoint)"))
        if self.breaks:
            connection.execute(text("SELECT * FROM nowhere"))


def test_an_upgrade_that_breaks_leaves_everything_as_it_was(
    engines: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = SQLAlchemyRepository(engines())
    repository.create_schema()
    before, number = shape(engines()), schema.VERSION
    later = Next(monkeypatch)
    later.breaks = True
    with pytest.raises(RepositoryError, match=r"nothing was done: .*nowhere"):
        repository.upgrade_schema()
    assert (shape(engines()), version(engines())) == (before, [number])
    later.breaks = False
    assert repository.upgrade_schema() == (number, number + 1)
    assert shape(engines()) != before


def test_of_several_that_upgrade_at_once_one_does_it(engines: Callable[[], Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    SQLAlchemyRepository(engines()).create_schema()
    number = schema.VERSION
    later = Next(monkeypatch)
    answers = at_once([SQLAlchemyRepository(engines()).upgrade_schema for _ in range(SEVERAL)])
    assert sorted(answers, key=str) == [(number, number + 1)] + [(number + 1, number + 1)] * (SEVERAL - 1)
    assert (later.carried_out, version(engines())) == (1, [number + 1])


def test_of_several_that_create_at_once_each_finds_it_created(engines: Callable[[], Engine]) -> None:
    answers = at_once([SQLAlchemyRepository(engines()).create_schema for _ in range(SEVERAL)])
    assert answers == [None] * SEVERAL
    assert version(engines()) == [schema.VERSION]


def test_a_server_whose_transactions_keep_the_view_they_began_with_is_no_trap(server: URL) -> None:
    """Who waited for the lock sees what was created meanwhile."""
    options = {"connect_args": {"options": "-c default_transaction_isolation=serializable"}}
    engines = [engine_of(server, **options) for _ in range(SEVERAL)]
    emptied(engines[0])
    assert at_once([SQLAlchemyRepository(engine).create_schema for engine in engines]) == [None] * SEVERAL
    for engine in engines:
        engine.dispose()


def test_tables_of_a_later_release_are_refused(engines: Callable[[], Engine]) -> None:
    repository = SQLAlchemyRepository(engines())
    repository.create_schema()
    with engines().begin() as connection:
        connection.execute(text("UPDATE jobstate_schema_version SET version = 99"))
    words = rf"of version 99, this release needs {schema.VERSION}: .* later release; install that one"
    for ask in (repository.create_schema, repository.upgrade_schema):
        with pytest.raises(RepositoryError, match=words):
            ask()
    assert version(engines()) == [99]


def test_tables_of_an_earlier_release_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path)
    with engine.begin() as connection:
        schemas.run(connection, 1)
    with pytest.raises(RepositoryError, match=rf"of version 1, this release needs {schema.VERSION}: call upgrade_schema\(\)"):
        SQLAlchemyRepository(engine).create_schema()
    engine.dispose()


def test_what_is_not_there_is_not_upgraded(engines: Callable[[], Engine]) -> None:
    with pytest.raises(RepositoryError, match=r"no table jobstate_jobs to upgrade: call create_schema\(\)"):
        SQLAlchemyRepository(engines()).upgrade_schema()
    assert shape(engines()) == []


def test_tables_that_do_not_say_of_which_version_they_are_are_refused(engines: Callable[[], Engine]) -> None:
    engine = engines()
    repository = SQLAlchemyRepository(engine)
    Tables(metadata := MetaData())
    metadata.create_all(engine)
    for ask in (repository.create_schema, repository.upgrade_schema):
        with pytest.raises(RepositoryError, match=r"jobstate_schema_version is empty: .*schema\.stamp\(\)"):
            ask()
    with engine.begin() as connection:
        schema.stamp(connection, repository.tables)
    repository.create_schema()
    assert version(engine) == [schema.VERSION]


@pytest.mark.parametrize("commits", [False, True])
def test_in_the_hosts_transaction_the_schema_is_created_if_it_commits(engines: Callable[[], Engine], commits: bool) -> None:
    engine = engines()
    repository = SQLAlchemyRepository(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobstate_host (id INTEGER)"))
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO jobstate_host VALUES (1)"))
        bound = repository.bind(connection)
        bound.create_schema()
        assert bound.upgrade_schema() == (schema.VERSION, schema.VERSION)
        if commits:
            connection.commit()
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobstate_host")).scalar_one() == commits
        connection.execute(text("DROP TABLE jobstate_host"))
    assert (len(shape(engine)) > 0) == commits
    repository.create_schema()
    assert version(engine) == [schema.VERSION]


def test_an_async_repository_does_the_same_in_the_hosts_transaction(tmp_path: Path) -> None:
    async def main() -> int:
        engine = aiosqlite_engine(tmp_path)
        repository = AsyncSQLAlchemyRepository(engine)
        async with engine.begin() as connection:
            await connection.execute(text("CREATE TABLE own (id INTEGER)"))
            await connection.execute(text("INSERT INTO own VALUES (1)"))
            await repository.bind(connection).create_schema()
        count = await repository.count(JobFilter())
        await engine.dispose()
        return count

    assert asyncio.run(main()) == 0


def test_no_server_had_version_1(server: URL) -> None:
    engine = engine_of(server)
    emptied(engine)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE jobstate_jobs (id INTEGER)"))
    with pytest.raises(RepositoryError, match="a table jobstate_jobs, and no jobstate_schema_version"):
        SQLAlchemyRepository(engine).create_schema()
    emptied(engine)
    engine.dispose()


def test_sets_of_tables_in_one_database_know_nothing_of_each_other(engines: Callable[[], Engine]) -> None:
    engine, metadata = engines(), MetaData()
    sets = [Tables(metadata, prefix="jobstate_a_"), Tables(metadata, prefix="jobstate_b_")]
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("DROP SCHEMA IF EXISTS jobstate_own CASCADE"))
            connection.execute(text("CREATE SCHEMA jobstate_own"))
        sets += [Tables(metadata, schema="jobstate_own"), Tables(metadata, prefix="jobstate_a_", schema="jobstate_own")]
    for number, tables in enumerate(sets):
        repository = SQLAlchemyRepository(engine, tables)
        repository.create_schema()
        assert repository.upgrade_schema() == (schema.VERSION, schema.VERSION)
        jobs = Jobs(repository).for_organization("org")
        for key in range(number):
            jobs.create("/x", {}, idempotency_key=f"key-{key}")
        assert len(jobs.cancel_many(status="queued")) == len(jobs.retry_many(status="cancelled")) == number
    assert [SQLAlchemyRepository(engine, tables).count(JobFilter()) for tables in sets] == list(range(len(sets)))
    metadata.drop_all(engine)


@pytest.mark.parametrize("tables", [Tables(prefix="other_"), Tables(prefix="Odd ")])
def test_a_set_of_tables_with_a_prefix_is_upgraded_as_well(tmp_path: Path, tables: Tables) -> None:
    prefix = tables.jobs.name.removesuffix("jobs")
    engine = sqlite_engine(tmp_path)
    statements = (schemas.FOLDER / "1.sqlite.sql").read_text().splitlines()
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(re.sub(r"jobstate_(\w+)", rf'"{prefix}\1"', statement.removesuffix(";")))
    assert SQLAlchemyRepository(engine, tables).upgrade_schema() == (1, schema.VERSION)
    assert {table.name for table in tables.own} == set(inspect(engine).get_table_names())
    SQLAlchemyRepository(engine, tables).create_schema()
    engine.dispose()
