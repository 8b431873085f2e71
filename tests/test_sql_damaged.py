"""Rows that cannot be read, through every driver: a named error with the job's id. And odd values, and a full disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import URL, event

from jobstate import Jobs
from jobstate.errors import RepositoryError, UnreadableJobError
from jobstate.lifecycle import Accepted
from jobstate.model import Event, JobStatus
from jobstate.query import Due, JobFilter, PageRequest
from jobstate.testing.clock import ManualClock
from jobstate.testing.contracts.samples import LATE, example, transition
from tests.postgresql import emptied, engine_of
from tests.sql import sqlite_engine
from tests.sql_sides import DRIVERS, PREFIX, SQLITE, AsyncSide, Called, SyncSide, Truth, opened

AnySide = SyncSide | AsyncSide

DAMAGE = {
    "status": "frozen",
    "error": "{",
    "warnings": "[1]",
    "metadata": "[1]",
    "trace_context": '{"a": 1}',
    "request_artifacts": "nonsense",
}
"""A column, and what this version of the library cannot read in it."""


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def truth(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Truth]:
    on_file = driver in SQLITE
    made = Truth(sqlite_engine(tmp_path) if on_file else engine_of(request.getfixturevalue("server")))
    made.prepare()
    yield made
    if not on_file:
        emptied(made.engine, PREFIX)
    made.engine.dispose()


@pytest.fixture
def side(driver: str, truth: Truth, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnySide]:
    url: URL = truth.engine.url if driver in SQLITE else request.getfixturevalue("server")
    with opened(driver, url, tmp_path) as made:
        yield made


def test_a_damaged_row_is_named_and_stops_nobody(truth: Truth, side: AnySide) -> None:
    """When it is loaded, listed, due, or swept: whatever is damaged."""
    jobs = truth.store(len(DAMAGE) + 1)
    for job, (column, value) in zip(jobs, DAMAGE.items(), strict=False):
        truth.execute(f"UPDATE {PREFIX}jobs SET {column} = :value WHERE id = :id", value=value, id=job.id)
    bad, good = {job.id for job in jobs[:-1]}, jobs[-1]
    for job, column in zip(jobs, DAMAGE, strict=False):
        with pytest.raises(UnreadableJobError) as caught:
            side.call("load", job.id)
        assert (caught.value.job_id, caught.value.field) == (job.id, column)
    listing = side.call("list", JobFilter(), PageRequest(50))
    assert ([job.id for job in listing.jobs], {error.job_id for error in listing.unreadable}) == ([good.id], bad)
    for limit in (50, 500):
        page = side.call("due", Due.EXPIRING, until=LATE, limit=limit)
        assert ([job.id for job in page.jobs], {error.job_id for error in page.unreadable}) == ([good.id], bad)


def test_a_sweep_moves_what_stands_beside_a_damaged_row(truth: Truth, side: AnySide) -> None:
    """It names the row, which is left as it was."""
    damaged, good = truth.store(2, expires_at=2_000_000)
    truth.execute(f"UPDATE {PREFIX}jobs SET status = 'frozen' WHERE id = :id", id=damaged.id)
    everybody = Jobs(cast("Any", Called(side)), clock=ManualClock(3_000_000))
    swept = everybody.expire()
    assert (swept.moved, swept.unreadable) == (1, (damaged.id,))
    assert everybody.retrieve(good.id).status is JobStatus.EXPIRED
    assert truth.execute(f"SELECT status, version FROM {PREFIX}jobs WHERE id = :id", id=damaged.id) == [("frozen", 1)]


@pytest.mark.parametrize(("column", "value"), [("event", "dreamt"), ("target", "frozen"), ("source", "x"), ("changes", "{")])
def test_a_damaged_record_is_named(truth: Truth, side: AnySide, column: str, value: str) -> None:
    [job] = truth.store()
    truth.execute(f"UPDATE {PREFIX}history SET {column} = :value", value=value)
    with pytest.raises(UnreadableJobError, match="history at version 1") as caught:
        side.call("history", job.id)
    assert caught.value.job_id == job.id


@pytest.mark.parametrize("name", ["request", "response"])
@pytest.mark.parametrize("text", ["{", "", "[]"])
def test_a_damaged_payload_is_named_by_who_asks_for_it(truth: Truth, side: AnySide, name: str, text: str) -> None:
    """And by nobody else."""
    [job] = truth.store()
    truth.execute(f"UPDATE {PREFIX}payloads SET data = :text WHERE name = :name", text=text, name=name)
    assert side.call("load", job.id).id == job.id
    if (name, text) == ("request", "[]"):
        assert side.call("load", job.id, include_request=True).request == []
        return
    with pytest.raises(UnreadableJobError) as caught:
        side.call("load", job.id, **{f"include_{name}": True})
    assert (caught.value.job_id, caught.value.field) == (job.id, name)


ODD: dict[str, Any] = {
    "actor": 'back\\slash "quote" \' %s :name \u2028 \U0001f600 {}',
    "retry_key": '\\u0000 "\\" \\n',
    "progress": 0.1 + 0.2,
    "expires_at": 2**53 + 1,
    "cancelled": False,
    "available_at": None,
    "metadata": {"batch \u00e9": 'b"\\'},
    "response": None,
    "request": {"deep": ["\\", 1e300, -0.0, 2**70, None, True, "\u0000"]},
}
"""Fields that are changed, and what may come back otherwise."""


def _odd(job: Any) -> Accepted:
    changes = {name: value for name, value in ODD.items() if name != "actor"}
    return transition(job, Event.RELEASE, **changes)._replace(actor=ODD["actor"])


def test_odd_values_come_back_as_they_were_from_one_write_and_from_many(truth: Truth, side: AnySide) -> None:
    one, *many = truth.store(3)
    side.call("save", _odd(one))
    assert list(side.call("save_many", [_odd(job) for job in many])) == [None] * 2
    for job in (one, *many):
        there = side.call("load", job.id, include_request=True, include_response=True)
        [record] = side.call("history", job.id, after_version=1)
        assert record == _odd(job).record
        for name, value in ODD.items():
            if name != "actor":
                assert repr(getattr(there, name)) == repr(value), name


def test_a_file_without_room_for_more_says_that_nothing_was_done(tmp_path: Path) -> None:
    for driver in SQLITE:
        folder = tmp_path / driver
        folder.mkdir()
        truth = Truth(sqlite_engine(folder))
        truth.prepare()
        jobs = truth.store(3)
        [(pages,)] = truth.execute("PRAGMA page_count")
        large = example(9, request={"text": "x" * 1_000_000})

        from jobstate.lifecycle.creation import creation_record

        with opened(driver, truth.engine.url, folder) as side:
            engine = side.engine.sync_engine if isinstance(side, AsyncSide) else side.engine
            limit = [pages + 2]

            def quota(connection: Any, _record: Any, limit: list[int] = limit) -> None:
                cursor = connection.cursor()
                cursor.execute(f"PRAGMA max_page_count = {limit[0]}")
                cursor.close()

            event.listen(engine, "connect", quota)
            with pytest.raises(RepositoryError, match=r"nothing was done: .*full") as caught:
                side.call("insert", large, creation_record(large))
            assert type(caught.value) is RepositoryError
            grow = [transition(job, Event.COMPLETE, request={"text": "x" * 1_000_000}) for job in jobs]
            assert [type(answer) for answer in side.call("save_many", grow)] == [RepositoryError] * 3
            assert truth.versions() == {job.id: 1 for job in jobs}
            side.call("save", transition(jobs[0]))
        with opened(driver, truth.engine.url, folder) as side:
            assert side.call("insert", large, creation_record(large)) is None
        truth.engine.dispose()
