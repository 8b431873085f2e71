"""The script of the page on migration moves a hand-made table, on both databases, and once."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from jobstate import Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from tests.test_docs import ROOT, run, write_files

PAGE = ROOT / "docs" / "migrate-a-jobs-table.md"
ROWS = [
    (1, "org_a", "extract", '{"text": "a"}', "done", '{"total": 1}', None, 1_790_000_000, 1_790_000_060),
    (2, "org_a", "mail", '{"to": "b"}', "error", None, "no such mailbox", 1_790_000_100, 1_790_000_130),
    (3, "org_b", "extract", '{"text": "c"}', "pending", None, None, 1_700_000_000, None),
    (4, "org_b", "extract", '{"text": "d"}', "running", None, None, 1_790_000_300, None),
    (5, "org_a", "extract", '{"text": "e"}', "cancelled", None, None, 1_790_000_400, 1_790_000_410),
]


@pytest.fixture
def engine(engines: Callable[[], Engine]) -> Engine:
    (table,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text(), re.DOTALL)
    made = engines()
    with made.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS jobs"))
        connection.execute(text(table))
        for row in ROWS:
            names = ("id", "tenant", "kind", "payload", "status", "result", "error", "created_at", "finished_at")
            values: dict[str, Any] = dict(zip(names, row, strict=True))
            places = ", ".join(f":{name}" for name in names)
            connection.execute(text(f"INSERT INTO jobs ({', '.join(names)}) VALUES ({places})"), values)
    return made


def migrate(engine: Engine, folder: Path) -> subprocess.CompletedProcess[str]:
    write_files(PAGE, folder)
    return run(folder, "migrate_jobs.py", DATABASE_URL=engine.url.render_as_string(hide_password=False))


def test_the_rows_of_a_table_become_jobs_with_their_results_and_times(engine: Engine, tmp_path: Path) -> None:
    done = migrate(engine, tmp_path)
    assert (done.returncode, done.stdout) == (0, "5 jobs\n"), done.stderr
    jobs = Jobs(SQLAlchemyRepository(engine))
    found = jobs.list(limit=100, include_request=True, include_response=True).data
    first, second, third, fourth, fifth = sorted(found, key=lambda job: job.metadata["old_id"])
    assert (first.status, first.created_at, first.completed_at) == ("completed", 1_790_000_000, 1_790_000_060)
    assert (first.request, first.response and first.response.body) == ({"text": "a"}, {"total": 1})
    assert (second.status, second.error and second.error.message) == ("failed", "no such mailbox")
    assert (third.status, third.organization_id, third.attempt_count) == ("queued", "org_b", 0)
    assert third.created_at > 1_790_000_000, "it waits from now on, or it would expire at once"
    assert (fourth.status, fifth.status, fifth.completed_at) == ("queued", "cancelled", 1_790_000_410)
    assert [record.event for record in jobs.history(first.id)] == ["created", "start", "complete"]


@pytest.mark.full
def test_a_second_run_moves_nothing_twice(engine: Engine, tmp_path: Path) -> None:
    migrate(engine, tmp_path)
    jobs = Jobs(SQLAlchemyRepository(engine))
    before = jobs.list(limit=100).data
    assert migrate(engine, tmp_path).returncode == 0
    assert jobs.list(limit=100).data == before


def test_what_was_moved_is_retried_and_taken_like_any_other(engine: Engine, tmp_path: Path) -> None:
    migrate(engine, tmp_path)
    jobs = Jobs(SQLAlchemyRepository(engine))
    (failed,) = jobs.list(status="failed").data
    assert jobs.retry(failed.id).status == "queued"
    assert sorted(attempt.job.metadata["old_id"] for attempt in jobs.take(10)) == ["2", "3", "4"]
