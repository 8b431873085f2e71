"""A host's Alembic sees the library's tables on its MetaData: it makes all of them, and then finds no difference."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Column, Connection, Engine, Integer, MetaData, Table, text
from sqlalchemy.dialects import postgresql

from jobstate import Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables, schema
from tests.sql import shape

Engines = Callable[[], Engine]
ROOT = Path(__file__).parent.parent
OWN_SCHEMA = "jobstate_own"
SETS: list[list[dict[str, str]]] = [[{}], [{"prefix": "jobstate_a_"}, {"prefix": "jobstate_b_"}], [{"schema": OWN_SCHEMA}]]

sqlite = pytest.mark.parametrize("engines", ["sqlite"], indirect=True)
postgres = pytest.mark.parametrize("engines", ["postgresql"], indirect=True)
quietly = [
    pytest.mark.filterwarnings("ignore:Skipped unsupported reflection"),
    pytest.mark.filterwarnings("ignore:autogenerate skipping"),
]


def host(*sets: dict[str, str]) -> tuple[MetaData, list[Tables]]:
    """A host with a table of its own, and sets of the library's."""
    metadata = MetaData()
    Table("jobstate_host", metadata, Column("id", Integer, primary_key=True))
    return metadata, [Tables(metadata, **options) for options in sets]


def context(connection: Connection, metadata: MetaData) -> MigrationContext:
    schemas = {table.schema for table in metadata.tables.values()}

    def included(name: str | None, kind: str, parents: Any) -> bool:
        """The shared database has schemas of its own; nothing else is left out."""
        return kind != "schema" or name in schemas

    options = {"include_schemas": True, "include_name": included, "compare_type": True, "compare_server_default": True}
    return MigrationContext.configure(connection, opts={**options, "target_metadata": metadata})


def migrate(engine: Engine, metadata: MetaData) -> None:
    """What `alembic revision --autogenerate` writes, carried out; `Text` is what it forgets to import for a JSONB."""
    with engine.begin() as connection:
        made = context(connection, metadata)
        operations = produce_migrations(made, metadata).upgrade_ops
        assert operations is not None
        code = render_python_code(operations)
        assert isinstance(code, str)
        given = {"op": Operations(made), "sa": sqlalchemy, "postgresql": postgresql, "Text": sqlalchemy.Text}
        exec("if True:\n    " + code, given)


def differences(engine: Engine, metadata: MetaData) -> list[Any]:
    with engine.connect() as connection:
        return list(compare_metadata(context(connection, metadata), metadata))


def emptied(engine: Engine) -> None:
    """No schema and no table of these tests."""
    for options in SETS:
        metadata, _ = host(*options)
        metadata.drop_all(engine)
    if engine.dialect.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {OWN_SCHEMA} CASCADE"))
            connection.execute(text(f"CREATE SCHEMA {OWN_SCHEMA}"))


@postgres
@pytest.mark.parametrize("options", SETS)
def test_autogenerate_makes_the_whole_schema(engines: Engines, options: list[dict[str, str]]) -> None:
    engine = engines()
    emptied(engine)
    metadata, sets = host(*options)
    migrate(engine, metadata)
    assert differences(engine, metadata) == []
    migrated = shape(engine)
    with engine.begin() as connection:
        for tables in sets:
            schema.stamp(connection, tables)
    for tables in sets:
        repository = SQLAlchemyRepository(engine, tables)
        repository.create_schema()
        assert Jobs(repository).create("/x", {}, organization_id="org").status == "queued"
    metadata.drop_all(engine)
    for tables in sets:
        SQLAlchemyRepository(engine, tables).create_schema()
    metadata.create_all(engine)
    assert shape(engine) == migrated
    emptied(engine)


@postgres
@pytest.mark.parametrize("options", SETS)
def test_autogenerate_finds_no_difference_on_a_server(engines: Engines, options: list[dict[str, str]]) -> None:
    engine = engines()
    emptied(engine)
    metadata, sets = host(*options)
    for tables in sets:
        SQLAlchemyRepository(engine, tables).create_schema()
    assert [(name, table.name) for name, table in differences(engine, metadata)] == [("add_table", "jobstate_host")]
    with engine.begin() as connection:
        connection.execute(
            text(f"DROP INDEX {sets[0].schema_version.schema or 'public'}.{sets[0].jobs.name[:-4]}due_unstarted")
        )
    assert [name for name, _ in differences(engine, metadata)] == ["add_table", "add_index"]
    emptied(engine)


@postgres
def test_the_migration_of_the_documentation_makes_and_drops_the_schema(engines: Engines) -> None:
    engine = engines()
    emptied(engine)
    code = re.search(r"```python\n# create_jobs\.py\n(.*?)```", (ROOT / "docs" / "sql.md").read_text(), re.DOTALL)
    assert code is not None
    migration: dict[str, Any] = {}
    exec(code[1], migration)
    metadata, _ = host({})

    def carry_out(name: str) -> None:
        with engine.begin() as connection, Operations.context(context(connection, metadata)):
            migration[name]()

    carry_out("upgrade")
    SQLAlchemyRepository(engine).create_schema()
    assert [name for name, _ in differences(engine, metadata)] == ["add_table"]
    carry_out("downgrade")
    assert shape(engine) == []


@sqlite
@pytest.mark.parametrize("options", SETS[:2])
class TestSQLite:
    pytestmark = quietly

    def test_autogenerate_finds_no_difference(self, engines: Engines, options: list[dict[str, str]]) -> None:
        engine = engines()
        metadata, sets = host(*options)
        for tables in sets:
            SQLAlchemyRepository(engine, tables).create_schema()
        assert [(name, table.name) for name, table in differences(engine, metadata)] == [("add_table", "jobstate_host")]

    def test_autogenerate_leaves_out_two_indexes_only(self, engines: Engines, options: list[dict[str, str]]) -> None:
        """Those of an expression, which Alembic does not compare on SQLite: its docs say to write them by hand."""
        engine = engines()
        metadata, sets = host(*options)
        migrate(engine, metadata)
        assert differences(engine, metadata) == []
        migrated = {row[0] for row in shape(engine)}
        metadata.drop_all(engine)
        metadata.create_all(engine)
        left_out = {f"{tables.jobs.name[:-4]}{name}" for tables in sets for name in ("due_pending", "due_unstarted")}
        assert {row[0] for row in shape(engine)} - migrated == left_out

    def test_a_migration_may_call_the_library(self, engines: Engines, options: list[dict[str, str]]) -> None:
        engine = engines()
        metadata, sets = host(*options)
        with engine.begin() as connection, Operations.context(context(connection, metadata)) as op:
            for tables in sets:
                schema.create(op.get_bind(), tables)
        for tables in sets:
            SQLAlchemyRepository(engine, tables).create_schema()
        with engine.begin() as connection:
            metadata.create_all(connection)
        assert differences(engine, metadata) == []
