"""The released schemas, frozen: for each version its DDL, and jobs as that release stored them.

    N.sqlite.sql, N.postgresql.sql   the DDL; version 1 knew SQLite only
    N.json                           `rows` by table, and `jobs` and `records` that they are to be read back as

`python -m tests.schemas` writes those of the version that stands. A released one is never written again.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, create_mock_engine, select, text

from jobstate import JobError, Jobs, JobStatus
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables
from jobstate.lifecycle import creation_record
from jobstate.testing import ManualClock
from jobstate.testing.examples import filled_job

FOLDER = Path(__file__).parent
ADDRESSES = {"sqlite": "sqlite://", "postgresql": "postgresql+psycopg://"}


def ddl(dialect: str, tables: Tables | None = None) -> str:
    """The statements that create the tables, in an order of their own."""
    statements: list[str] = []

    def note(statement: Any, *_: Any, **__: Any) -> None:
        statements.append(str(statement.compile(dialect=engine.dialect)).strip())

    engine = create_mock_engine(ADDRESSES[dialect], note)
    tables = tables or Tables()
    tables.metadata.create_all(engine, tables=tables.own, checkfirst=False)
    ordered = sorted(statements, key=lambda words: (not words.startswith("CREATE TABLE"), words))
    return "".join(f"{' '.join(words.split())};\n" for words in ordered).replace("( ", "(").replace(" )", ")")


def run(connection: Connection, version: int) -> None:
    """Create the schema of a released version, and put its rows in."""
    for statement in (FOLDER / f"{version}.{connection.dialect.name}.sql").read_text().splitlines():
        connection.exec_driver_sql(statement.removesuffix(";"))
    for table, rows in frozen(version)["rows"].items():
        for row in rows:
            names = list(row)
            values = ", ".join(f":{name}" for name in names)
            connection.execute(text(f"INSERT INTO jobstate_{table} ({', '.join(names)}) VALUES ({values})"), row)


def frozen(version: int) -> dict[str, Any]:
    """The rows of a version, and what they are to be read back as."""
    contents: dict[str, Any] = json.loads((FOLDER / f"{version}.json").read_text())
    return contents


def freeze(version: int, dialects: Iterable[str]) -> None:
    """Write the files of the version that stands."""
    for dialect in dialects:
        (FOLDER / f"{version}.{dialect}.sql").write_text(ddl(dialect))
    with tempfile.TemporaryDirectory() as folder:
        engine = create_engine(f"sqlite:///{folder}/jobs.sqlite")
        contents = _contents(engine)
        engine.dispose()
    (FOLDER / f"{version}.json").write_text(json.dumps(contents, indent=1) + "\n")


def _contents(engine: Engine) -> dict[str, Any]:
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    for letter, status in zip("ABCDEFG", JobStatus, strict=True):
        job = filled_job(status, id="job_" + letter * 21, idempotency_key=f"key-{letter}")
        assert repository.insert(job, creation_record(job)) is None
    _live(repository)
    with engine.connect() as connection:
        rows = {
            table.name.removeprefix("jobstate_"): [dict(row) for row in connection.execute(select(table)).mappings()]
            for table in Tables().own
        }
    loaded = [repository.load(row["id"], include_request=True, include_response=True) for row in rows["jobs"]]
    records = [record for job in loaded for record in repository.history(job.id)]
    return {
        "rows": rows,
        "jobs": [job.model_dump(mode="json") for job in loaded],
        "records": [record.model_dump(mode="json") for record in records],
    }


def _live(repository: SQLAlchemyRepository) -> None:
    """A job that leaves a history: it is failed, retried and completed."""
    clock = ManualClock(1_700_000_000)
    jobs = Jobs(repository, clock=clock)
    job = jobs.create("/x", {"a": [1, 2.5, None]}, organization_id="org", metadata={"batch": "b-1"})
    clock.advance(10)
    jobs.start(job.delivery).fail(JobError(code="broken", message="so"), retryable=False)
    clock.advance(10)
    jobs.start(jobs.retry(job.id, retry_key="again").delivery).complete({"text": "é"})
