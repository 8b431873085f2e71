"""A task that is cancelled in the middle of an operation leaves no open transaction, and no broken connection in the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.model import Event, Job, JobResponse
from jobstate.query import Due
from jobstate.testing.contracts.samples import LATE, example, transition
from tests.postgresql import emptied, engine_of
from tests.sql import sqlite_engine
from tests.sql_sides import PREFIX, AsyncSide, Truth, opened, settled

AnyJob = Job[Any, Any]
RESPONSE = JobResponse[Any](status_code=200, body={"total": 1})
STEPS = sorted({round(1.6**n) - 1 for n in range(1, 12)})
"""After how many turns of the loop a task is cancelled; one that has ended before was not."""


def move(job: AnyJob) -> Accepted:
    return transition(job, Event.COMPLETE, response=RESPONSE)


async def insert(repository: AsyncSQLAlchemyRepository) -> None:
    job = example(1)
    assert await repository.insert(job, creation_record(job)) is None


async def save(repository: AsyncSQLAlchemyRepository) -> None:
    await repository.save(move(example()))


async def save_within(repository: AsyncSQLAlchemyRepository) -> None:
    async def within(transaction: Any) -> None:
        await transaction.exec_driver_sql("SELECT 1")

    await repository.save(move(example()), within=within)


async def save_many(repository: AsyncSQLAlchemyRepository) -> None:
    assert await repository.save_many([move(example())]) == [None]


async def move_due(repository: AsyncSQLAlchemyRepository) -> None:
    def decide(jobs: Sequence[AnyJob]) -> list[Accepted]:
        return [move(job) for job in jobs]

    moved = await repository.move_due(Due.EXPIRING, until=LATE, limit=9, decide=decide)
    assert list(moved.answers) == [None]


async def delete(repository: AsyncSQLAlchemyRepository) -> None:
    await repository.delete(example().id, 1)


async def load(repository: AsyncSQLAlchemyRepository) -> None:
    assert (await repository.load(example().id, include_request=True)).version == 1


Ask = Callable[[AsyncSQLAlchemyRepository], Awaitable[None]]
ASKS: dict[Ask, dict[str, int]] = {
    insert: {example().id: 1, example(1).id: 1},
    save: {example().id: 2},
    save_within: {example().id: 2},
    save_many: {example().id: 2},
    move_due: {example().id: 2},
    delete: {},
    load: {example().id: 1},
}
"""Each operation, and the versions of all jobs when it has been done."""


@pytest.fixture
def truth(driver: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Truth]:
    on_file = driver == "aiosqlite"
    made = Truth(sqlite_engine(tmp_path) if on_file else engine_of(request.getfixturevalue("server")))
    yield made
    if not on_file:
        emptied(made.engine, PREFIX)
    made.engine.dispose()


async def cancelled_after(steps: int, operation: Awaitable[None]) -> bool:
    """Whether it was cancelled, having gone on for so many turns; what it raises then is the cancellation."""
    task = asyncio.ensure_future(operation)
    for _ in range(steps):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return True
    finally:
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))  # SQLAlchemy closes in a task of its own
    return False


@pytest.mark.parametrize(
    "driver",
    [
        pytest.param("psycopg async", marks=pytest.mark.full),
        "psycopg async direct",
        pytest.param("asyncpg", marks=pytest.mark.full),
        pytest.param("asyncpg direct", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__)
def test_a_cancelled_task_leaves_nothing_behind(
    truth: Truth, driver: str, ask: Ask, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Whether its connection was in the pool or is made for it; the write was done whole, or not at all."""
    url: URL = truth.engine.url if driver == "aiosqlite" else request.getfixturevalue("server")
    with opened(driver, url, tmp_path) as side:
        assert isinstance(side, AsyncSide)
        cancelled = 0
        for pooled in (True, False):
            for steps in STEPS:
                truth.prepare()
                truth.store()
                if not pooled:
                    side.run(side.engine.dispose())
                cancelled += side.run(cancelled_after(steps, ask(side.repository)))
                assert side.engine.pool.checkedout() == 0
                settled(truth.engine, f"pooled {pooled}, {steps} steps")
                there = truth.versions()
                assert there in ({example().id: 1}, ASKS[ask]), (steps, there)
                if there == {example().id: 1}:
                    side.run(ask(side.repository))
                    assert truth.versions() == ASKS[ask]
    assert cancelled > len(STEPS) / 2, "hardly anything was under way"
