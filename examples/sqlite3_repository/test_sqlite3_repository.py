"""The repository on sqlite3 keeps the contract, and is a service's."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlite3_repository import SQLite3Repository

from jobstate import Delivery, Jobs, run_job
from jobstate.errors import UnreadableJobError
from jobstate.model import JobStatus
from jobstate.query import Cursor, Due, JobFilter
from jobstate.testing.contracts import RepositoryContract, RepositoryRaces


class Opens:
    def open_repository(self, folder: Path) -> SQLite3Repository:
        return SQLite3Repository(folder / "jobs.sqlite")

    def close_repository(self, repository: Any) -> None:
        repository.close()


class TestSQLite3(Opens, RepositoryContract):
    def spoil(self, repository: Any, job_id: str) -> None:
        repository._connection.execute("UPDATE jobs SET status = 'frozen' WHERE id = ?", (job_id,))

    def lose(self, repository: Any) -> None:
        """The next commit is made, and its answer is an error."""
        commit = repository._commit

        def lost() -> None:
            repository._commit = commit
            commit()
            raise sqlite3.OperationalError("the disk went away")

        repository._commit = lost


class TestSQLite3Races(Opens, RepositoryRaces):
    pass


def test_it_serves(tmp_path: Path) -> None:
    repository = SQLite3Repository(tmp_path / "jobs.sqlite")
    jobs = Jobs(repository)
    job = jobs.create("/v1/words", {"text": "to be"}, organization_id="org")
    run_job(jobs, Delivery(job_id=job.id, run=1), lambda request, context: len(request["text"].split()))
    repository.close()
    again = SQLite3Repository(tmp_path / "jobs.sqlite")
    response = Jobs(again).retrieve(job.id, include_response=True).response
    assert response is not None
    assert response.body == 2
    again.close()


@pytest.mark.parametrize("due", Due)
def test_a_due_page_is_read_from_its_index(due: Due, tmp_path: Path) -> None:
    """No table is scanned, and nothing is sorted."""
    repository = SQLite3Repository(tmp_path / "jobs.sqlite")
    asked: list[str] = []
    repository._connection.set_trace_callback(asked.append)
    repository.due(due, until=9, limit=5, after=Cursor(1, "job"))
    repository._connection.set_trace_callback(None)
    plan = [row["detail"] for row in repository._connection.execute(f"EXPLAIN QUERY PLAN {asked[-1]}")]
    repository.close()
    assert [line for line in plan if f"due_{due}" in line], plan
    assert not [line for line in plan if "TEMP B-TREE" in line], plan


@pytest.mark.parametrize(
    ("damage", "field"),
    [
        ("UPDATE jobs SET status = NULL", "status"),
        ("UPDATE jobs SET error = '{}'", "error"),
        ("UPDATE history SET changes = '{'", "history at version 1"),
    ],
)
def test_what_cannot_be_read_is_named(damage: str, field: str, tmp_path: Path) -> None:
    repository = SQLite3Repository(tmp_path / "jobs.sqlite")
    job = Jobs(repository).create("/v1/words", {}, organization_id="org")
    repository._connection.execute(damage)
    with pytest.raises(UnreadableJobError) as unreadable:
        repository.history(job.id) if "history" in field else repository.load(job.id)
    assert (unreadable.value.job_id, unreadable.value.field) == (job.id, field)
    repository.close()


def test_a_failed_save_of_many_touches_no_other(tmp_path: Path) -> None:
    repository = SQLite3Repository(tmp_path / "jobs.sqlite")
    jobs = Jobs(repository)
    made = [jobs.create("/v1/words", {}, organization_id="org") for _ in range(3)]
    repository._connection.execute(
        f"CREATE TRIGGER no BEFORE UPDATE ON jobs WHEN old.id = '{made[1].id}' BEGIN SELECT raise(ABORT, 'no'); END"
    )
    outcome = jobs.cancel_many(ids=[job.id for job in made])
    assert repository.count(JobFilter(statuses=(JobStatus.CANCELLED,))) == 2, outcome
    repository.close()
