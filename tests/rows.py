"""Many rows at once, of every kind, for plans and benchmarks on PostgreSQL: written by one statement."""

from __future__ import annotations

from sqlalchemy import Engine, text

SECOND = 1_700_000_000
"""When the first of them was created; ten are created each second."""

EXPIRED_BY = 1_760_000_000
"""By then those that are expired or failed are past their time (Unix seconds), and no other."""

_FILL = """
INSERT INTO {prefix}jobs (
    id, organization_id, endpoint, metadata, status, held, version, run, operation, dispatch_count, attempt_count, attempt_base,
    give_backs, max_attempts, ttl, cancelled, created_at, updated_at, expires_at, dispatched_at, lease_token, lease_expires_at,
    cleanup_started_at, cleanup_completed_at
)
SELECT
    'job_' || lpad(to_hex(n), 21, '0'), 'org_' || n % 20, '/v1/' || n % 13,
    CASE WHEN n % 10 = 0 THEN jsonb_build_object('batch', 'b' || n / 1000) ELSE '{{}}' END,
    status, false, 3, 1, 'op', 1, 1, 0, 0, 3, 604800, status = 'cancelled', second, second,
    CASE WHEN status IN ('expired', 'failed') OR :due THEN second ELSE second + 100000000 END,
    CASE WHEN n % 2 = 0 THEN second END,
    CASE WHEN status = 'in_progress' THEN 'lease' END, CASE WHEN status = 'in_progress' THEN second END,
    CASE WHEN status = 'expired' AND n % 3 > 0 THEN second END, CASE WHEN status = 'expired' AND n % 3 > 1 THEN second END
FROM (
    SELECT n, 1700000000 + n / 10 AS second, CASE
        WHEN kind < 2 THEN 'queued' WHEN kind < 3 THEN 'in_progress' WHEN kind < 4 THEN 'validating'
        WHEN kind < 10 THEN 'failed' WHEN kind < 14 THEN 'cancelled' WHEN kind < 40 AND NOT :due THEN 'expired' ELSE 'completed'
    END AS status
    FROM (SELECT n, (n * 7919) % 100 AS kind FROM generate_series(CAST(:low AS bigint), CAST(:high AS bigint)) AS n) AS numbers
) AS kinds
"""


def filled(engine: Engine, high: int, low: int = 1, *, prefix: str = "jobstate_", due: bool = False) -> None:
    """Jobs numbered from `low` to `high`, and statistics of the table; with `due`, all past their time, none expired."""
    with engine.begin() as connection:
        connection.execute(text(_FILL.format(prefix=prefix)), {"low": low, "high": high, "due": due})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM ANALYZE {prefix}jobs"))


def row_id(number: int) -> str:
    """The id of the job of this number."""
    return "job_" + format(number, "x").rjust(21, "0")
