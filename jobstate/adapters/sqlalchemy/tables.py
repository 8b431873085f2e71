"""The tables: jobs, their payloads apart from them, their history, and the schema's version. And the due pages, as SQL.

Payloads have a table of their own, and each a row of its own, so that no write touches one that it does not change. Statuses in
the partial indexes stand as literals, here and in the queries: a planner matches a partial index only with what it can read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    and_,
    func,
    literal_column,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeEngine

from jobstate.query import Due


class DueTerms(NamedTuple):
    """A due page as SQL: which rows, and their due time."""

    where: ColumnElement[bool]
    time: ColumnElement[int]


JOB_ID = String(32).with_variant(String(32, collation="C"), "postgresql")
"""Ids compare by byte: SQLite does that by itself."""


_TIME = BigInteger()

_COLUMNS: list[tuple[str, TypeEngine[Any], bool]] = [
    ("id", JOB_ID, False),
    ("organization_id", String(255), False),
    ("endpoint", String(255), False),
    ("metadata", Text().with_variant(JSONB(), "postgresql"), False),
    ("idempotency_key", String(255), True),
    ("request_digest", String(64), True),
    ("trace_context", Text(), True),
    ("status", String(16), False),
    ("held", Boolean(), False),
    ("version", Integer(), False),
    ("run", Integer(), False),
    ("operation", String(64), False),
    ("lease_token", String(255), True),
    ("lease_expires_at", _TIME, True),
    ("available_at", _TIME, True),
    ("retried_at", _TIME, True),
    ("retry_key", String(255), True),
    ("task_name", Text(), True),
    ("dispatched_at", _TIME, True),
    ("dispatch_count", Integer(), False),
    ("dispatch_delayed_at", _TIME, True),
    ("request_artifacts", Text(), True),
    ("response_artifacts", Text(), True),
    ("result_digest", String(64), True),
    ("error", Text(), True),
    ("warnings", Text(), True),
    ("progress", Float(), True),
    ("attempt_count", Integer(), False),
    ("attempt_base", Integer(), False),
    ("give_backs", Integer(), False),
    ("max_attempts", Integer(), False),
    ("ttl", _TIME, False),
    ("last_attempt_at", _TIME, True),
    ("last_failure_code", String(128), True),
    ("cancelled", Boolean(), False),
    ("created_at", _TIME, False),
    ("updated_at", _TIME, False),
    ("started_at", _TIME, True),
    ("completed_at", _TIME, True),
    ("expires_at", _TIME, False),
    ("cleanup_started_at", _TIME, True),
    ("cleanup_completed_at", _TIME, True),
]
"""The columns of the jobs table: name, type, and whether it may be empty."""

JOB_COLUMNS = tuple(name for name, _, _ in _COLUMNS)


class Tables:
    """The library's tables on a MetaData, with a prefix and in a schema of the host's choice.

    `metadata` is the host's, so that Alembic's autogenerate sees them; a new one by default. Attributes: `metadata`,
    `prefix`, and the tables `jobs`, `payloads`, `history`, `schema_version`.
    """

    def __init__(self, metadata: MetaData | None = None, *, prefix: str = "jobstate_", schema: str | None = None) -> None:
        self.prefix = prefix
        self.metadata = MetaData() if metadata is None else metadata
        self.jobs = Table(f"{prefix}jobs", self.metadata, *_job_columns(), schema=schema)
        self.payloads = Table(
            f"{prefix}payloads",
            self.metadata,
            Column("job_id", JOB_ID, primary_key=True),
            Column("name", String(16), primary_key=True),
            Column("data", Text, nullable=False),
            schema=schema,
        )
        self.history = Table(
            f"{prefix}history",
            self.metadata,
            Column("job_id", JOB_ID, primary_key=True),
            Column("version", Integer, primary_key=True),
            Column("event", String(32), nullable=False),
            Column("source", String(16)),
            Column("target", String(16), nullable=False),
            Column("at", BigInteger, nullable=False),
            Column("attempt", Integer, nullable=False),
            Column("operation", String(64), nullable=False),
            Column("actor", Text),
            Column("reason", Text),
            Column("changes", Text, nullable=False),
            schema=schema,
        )
        self.schema_version = Table(
            f"{prefix}schema_version",
            self.metadata,
            Column("version", Integer, primary_key=True, autoincrement=False),
            schema=schema,
        )
        self.own = [self.jobs, self.payloads, self.history, self.schema_version]
        self.due = {due: _due_terms(due, self.jobs) for due in Due}
        self._index(prefix)

    def _index(self, prefix: str) -> None:
        jobs = self.jobs.c
        key = jobs.idempotency_key
        Index(f"{prefix}idempotency", jobs.organization_id, key, unique=True, **_where(key.is_not(None)))
        Index(f"{prefix}by_organization", jobs.organization_id, jobs.id)
        Index(f"{prefix}by_organization_status", jobs.organization_id, jobs.status, jobs.id)
        Index(f"{prefix}by_status", jobs.status, jobs.id)
        Index(f"{prefix}by_creation", jobs.organization_id, jobs.created_at)
        by_metadata = Index(
            f"{prefix}by_metadata",
            literal_column("metadata", Text),  # an expression, which Alembic leaves out on SQLite; it does not know `ddl_if`
            _table=self.jobs,
            postgresql_using="gin",
            postgresql_ops={"metadata": "jsonb_path_ops"},
            postgresql_where=jobs.metadata != literal_column("'{}'"),
        )
        by_metadata.ddl_if(dialect="postgresql")
        for due, terms in self.due.items():
            # Where the status is one, it leads: SQLite's planner would else take the index by status, and sort.
            status = () if due is Due.EXPIRING else (jobs.status,)
            Index(f"{prefix}due_{due}", *status, terms.time, jobs.id, **_where(terms.where))


def _where(condition: ColumnElement[bool]) -> dict[str, Any]:
    return {"sqlite_where": condition, "postgresql_where": condition}


class _Later(FunctionElement[int]):
    """The later of two times, the first of which may be empty.

    Without CASE: PostgreSQL prints that on several lines, and Alembic would take the index for another one again and again.
    """

    inherit_cache = True
    type = BigInteger()


@compiles(_Later)
def _greatest(element: _Later, compiler: SQLCompiler, **options: Any) -> str:
    return f"greatest({compiler.process(element.clauses, **options)})"


@compiles(_Later, "sqlite")
def _max(element: _Later, compiler: SQLCompiler, **options: Any) -> str:
    first, second = (compiler.process(one, **options) for one in element.clauses)
    return f"coalesce(max({first}, {second}), {second})"


def _job_columns() -> list[Column[Any]]:
    return [Column(name, kind, nullable=nullable, primary_key=name == "id") for name, kind, nullable in _COLUMNS]


def _due_terms(due: Due, jobs: Table) -> DueTerms:
    """One row of `Due`'s table as SQL."""
    c = jobs.c
    queued = c.status == literal_column("'queued'")
    expired = c.status == literal_column("'expired'")
    if due is Due.PENDING:
        return DueTerms(and_(queued, c.dispatched_at.is_(None)), func.coalesce(c.available_at, c.retried_at, c.created_at))
    if due is Due.UNSTARTED:
        return DueTerms(and_(queued, c.dispatched_at.is_not(None)), _Later(c.available_at, c.dispatched_at))
    if due is Due.UNLEASED:
        held = c.status == literal_column("'in_progress'")
        return DueTerms(and_(held, c.lease_expires_at.is_not(None)), c.lease_expires_at)
    if due is Due.EXPIRING:
        return DueTerms(c.status != literal_column("'expired'"), c.expires_at)
    if due is Due.UNCLEANED:
        return DueTerms(and_(expired, c.cleanup_started_at.is_(None)), c.expires_at)
    if due is Due.CLEANING:
        begun = and_(expired, c.cleanup_started_at.is_not(None), c.cleanup_completed_at.is_(None))
        return DueTerms(begun, c.cleanup_started_at)
    return DueTerms(and_(expired, c.cleanup_completed_at.is_not(None)), c.cleanup_completed_at)
