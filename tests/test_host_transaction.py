"""In the host's own transaction: jobs are there if it commits, and are not if it rolls back; dispatch waits for the commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Column, Engine, Integer, MetaData, String, Table, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from jobstate import AsyncJobs, GuardRefusedError, IdempotencyConflictError, InvalidInputError, Job, JobError, Jobs, Policy
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.errors import RepositoryError
from jobstate.memory import MemoryArtifactStore, MemoryDispatcher, MemoryRepository
from jobstate.model import Delivery
from tests.postgresql import ASYNC, async_engine_of, emptied, engine_of
from tests.sql import aiosqlite_engine, sqlite_engine

METADATA = MetaData()
ORDERS = Table("orders", METADATA, Column("id", Integer, primary_key=True), Column("job_id", String(32)))
OUTBOX = Table("outbox", METADATA, Column("job_id", String(32)), Column("run", Integer))


class RolledBackError(Exception):
    """The host thinks better of it."""


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        made = sqlite_engine(tmp_path)
    else:
        made = engine_of(request.getfixturevalue("server"))
        emptied(made)
    METADATA.drop_all(made)
    METADATA.create_all(made)
    yield made
    METADATA.drop_all(made)
    made.dispose()


@pytest.fixture
def dispatcher() -> MemoryDispatcher:
    return MemoryDispatcher()


@pytest.fixture
def jobs(engine: Engine, dispatcher: MemoryDispatcher) -> Jobs:
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    return Jobs(repository, dispatcher, policy=Policy(max_attempts=1)).for_organization("org")


def orders(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(ORDERS)).scalar_one()


def failed(jobs: Jobs) -> str:
    """A job that can be retried."""
    job = jobs.create("/x", {})
    jobs.cancel(job.id)
    return job.id


@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("commits", [False, True])
def test_a_job_and_the_hosts_row_are_there_together_or_not_at_all(
    engine: Engine, jobs: Jobs, dispatcher: MemoryDispatcher, commits: bool, session: bool
) -> None:
    cancelled, retried = jobs.create("/x", {}).id, failed(jobs)
    while dispatcher.take() is not None:
        pass
    begun: Any = Session(engine) if session else engine.connect()
    with begun as host:
        bound = jobs.bind(host)
        job = bound.create("/x", {"a": 1}, idempotency_key="k")
        assert job.dispatch_pending
        assert bound.create("/x", {"a": 1}, idempotency_key="k").id == job.id
        host.execute(insert(ORDERS).values(id=1, job_id=job.id))
        assert bound.cancel(cancelled).status == "cancelled"
        assert bound.retry(retried).status == "queued"
        assert bound.retrieve(retried).run == 2
        assert dispatcher.take() is None, "dispatched before the commit"
        if commits:
            host.commit()
        else:
            host.rollback()
    assert (orders(engine), jobs.count(), jobs.retrieve(cancelled).status, jobs.retrieve(retried).status) == (
        (1, 3, "cancelled", "queued") if commits else (0, 2, "queued", "cancelled")
    )
    assert len(jobs.history(retried)) == (3 if commits else 2)
    if commits:
        assert jobs.dispatch(job.id).dispatched_at is not None
        assert dispatcher.take() == job.delivery
        assert jobs.dispatch(job.id).dispatch_count == 1, "dispatched again"
        assert dispatcher.take() is None


@pytest.mark.parametrize("commits", [False, True])
def test_what_a_bound_attempt_says_is_there_if_the_host_commits(
    engine: Engine, jobs: Jobs, dispatcher: MemoryDispatcher, commits: bool
) -> None:
    made = [jobs.create("/x", {}) for _ in range(4)]
    while dispatcher.take() is not None:
        pass
    with engine.connect() as host:
        done, broken, back, alive = [jobs.bind(host).start(job.delivery) for job in made]
        done.complete({"shipped": 1})
        broken.fail(JobError(code="lost", message="the parcel is lost"))
        back.give_back()
        alive.heartbeat(0.5)
        host.execute(insert(ORDERS).values(id=1))
        if commits:
            host.commit()
        else:
            host.rollback()
    rows = [jobs.retrieve(job.id) for job in made]
    told = ["completed", "failed", "queued", "in_progress"] if commits else ["queued"] * 4
    assert ([row.status for row in rows], orders(engine)) == (told, int(commits))
    assert [row.attempt_count for row in rows] == [int(commits)] * 4
    assert (rows[2].dispatch_pending, dispatcher.take()) == (commits, None), "dispatched before the commit"
    if not commits:
        assert jobs.start(made[0].delivery).number == 1


def test_the_relay_dispatches_what_the_host_has_committed(engine: Engine, jobs: Jobs, dispatcher: MemoryDispatcher) -> None:
    with engine.begin() as connection:
        job = jobs.bind(connection).create("/x", {})
    everybody = Jobs(jobs._ports.repository, dispatcher)
    assert everybody.relay().moved == 1
    assert dispatcher.take() == job.delivery


def test_a_refusal_leaves_the_hosts_transaction_as_it_was(engine: Engine, jobs: Jobs) -> None:
    job = jobs.create("/x", {}, validating=True, idempotency_key="k")
    jobs.cancel(job.id)
    with engine.begin() as connection:
        connection.execute(insert(ORDERS).values(id=1))
        bound = jobs.bind(connection)
        with pytest.raises(GuardRefusedError):
            bound.retry(job.id)
        with pytest.raises(IdempotencyConflictError):
            bound.create("/x", {"other": 1}, idempotency_key="k")
        with pytest.raises(InvalidInputError):
            bound.create("/x", {}, metadata={"a": "\0"})
    assert orders(engine) == 1
    assert jobs.retrieve(job.id).status == "cancelled"


class Outbox(MemoryDispatcher):
    """A transactional dispatcher: a row for each delivery."""

    transactional = True
    broken = False

    def dispatch(self, delivery: Delivery, task_name: str, *, transaction: Any = None) -> str:
        if self.broken:
            raise RolledBackError("the outbox is full")
        transaction.execute(insert(OUTBOX).values(job_id=delivery.job_id, run=delivery.run))
        return task_name


@pytest.mark.parametrize("commits", [False, True])
def test_a_transactional_dispatcher_writes_in_the_hosts_transaction(engine: Engine, jobs: Jobs, commits: bool) -> None:
    transactional = Jobs(jobs._ports.repository, Outbox()).for_organization("org")
    retried = failed(jobs)
    with engine.connect() as connection:
        bound = transactional.bind(connection)
        created = bound.create("/x", {})
        assert not created.dispatch_pending
        assert bound.retry(retried).dispatch_count == 1
        if commits:
            connection.commit()
        else:
            connection.rollback()
    with engine.connect() as connection:
        rows = connection.execute(select(OUTBOX.c.job_id, OUTBOX.c.run).order_by(OUTBOX.c.run)).all()
    assert [tuple(row) for row in rows] == ([(created.id, 1), (retried, 2)] if commits else [])


def test_an_error_of_a_transactional_dispatcher_is_the_hosts_to_roll_back(engine: Engine, jobs: Jobs) -> None:
    outbox = Outbox()
    transactional = Jobs(jobs._ports.repository, outbox).for_organization("org")
    retried = failed(jobs)
    outbox.broken = True
    asks: list[Callable[[Jobs], Job]] = [lambda bound: bound.create("/x", {}), lambda bound: bound.retry(retried)]

    def in_a_transaction(ask: Callable[[Jobs], Job]) -> None:
        with engine.begin() as connection:
            connection.execute(insert(ORDERS).values(id=1))
            ask(transactional.bind(connection))

    for ask in asks:
        with pytest.raises(RolledBackError):
            in_a_transaction(ask)
    assert (orders(engine), jobs.count(), jobs.retrieve(retried).status) == (0, 1, "cancelled")


def test_what_could_not_be_rolled_back_is_refused(engine: Engine, dispatcher: MemoryDispatcher, jobs: Jobs) -> None:
    whole = Jobs(jobs._ports.repository, dispatcher, artifacts=MemoryArtifactStore())
    job = whole.create("/x", {}, organization_id="org")
    with engine.begin() as connection:
        bound = whole.bind(connection)
        with pytest.raises(InvalidInputError, match="artifacts: a store cannot roll back"):
            bound.create("/x", {}, organization_id="org", artifacts={"scan": b"x"})
        with pytest.raises(InvalidInputError, match="artifacts: a store cannot roll back"):
            bound.start(job.delivery).complete({}, artifacts={"scan": b"x"})
        for ask in (bound.sweep, lambda: bound.cancel_many(status="queued"), lambda: bound.dispatch("job_" + "0" * 21)):
            with pytest.raises(InvalidInputError, match=r"transaction: .* not bound"):
                ask()


def test_a_cancel_in_a_transaction_takes_no_task_back(engine: Engine, jobs: Jobs, dispatcher: MemoryDispatcher) -> None:
    """The host may yet roll back, and the job would have lost its task."""
    job = jobs.create("/x", {})
    with engine.connect() as connection:
        jobs.bind(connection).cancel(job.id)
        connection.rollback()
    assert dispatcher.take() == job.delivery


def test_a_repository_that_cannot_be_bound_is_named() -> None:
    with pytest.raises(TypeError, match="MemoryRepository has no method 'bind'"):
        Jobs(MemoryRepository()).bind(None)


def test_a_connection_that_commits_each_statement_is_no_transaction(server: URL) -> None:
    engine = engine_of(server, isolation_level="AUTOCOMMIT")
    emptied(engine)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    with engine.connect() as connection, pytest.raises(InvalidInputError, match="transaction: its connection is in AUTOCOMMIT"):
        Jobs(repository).bind(connection).create("/x", {}, organization_id="org")
    assert Jobs(repository).count() == 0
    engine.dispose()


def test_a_write_that_fails_in_a_transaction_is_not_half_done(tmp_path: Path) -> None:
    """On SQLite a host may go on after an error: so the row must not be there without its history."""
    engine = sqlite_engine(tmp_path)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    METADATA.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE jobstate_history")
    with engine.begin() as connection:
        connection.execute(insert(ORDERS).values(id=1))
        with pytest.raises(RepositoryError, match="no such table"):
            Jobs(repository).bind(connection).create("/x", {}, organization_id="org")
    assert (orders(engine), Jobs(repository).count()) == (1, 0)
    engine.dispose()


@pytest.mark.parametrize("driver", ["sqlite+aiosqlite", *ASYNC])
@pytest.mark.parametrize("session", [False, True])
@pytest.mark.parametrize("commits", [False, True])
def test_the_async_face_does_the_same(
    driver: str, session: bool, commits: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def opened() -> AsyncEngine:
        if driver == "sqlite+aiosqlite":
            return aiosqlite_engine(tmp_path)
        url = request.getfixturevalue("server")
        engine = engine_of(url)
        emptied(engine)
        engine.dispose()
        return async_engine_of(url, driver)

    async def main() -> None:
        engine = opened()
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.drop_all)
            await connection.run_sync(METADATA.create_all)
        repository = AsyncSQLAlchemyRepository(engine)
        await repository.create_schema()
        jobs = AsyncJobs(repository).for_organization("org")
        begun: Any = AsyncSession(engine) if session else engine.connect()
        async with begun as host:
            job = await jobs.bind(host).create("/x", {})
            await (await jobs.bind(host).start(job.delivery)).complete({"shipped": 1})
            await host.execute(insert(ORDERS).values(id=1, job_id=job.id))
            await (host.commit() if commits else host.rollback())
        async with engine.connect() as connection:
            there = (await connection.execute(select(func.count()).select_from(ORDERS))).scalar_one()
        assert (there, await jobs.count(status="completed")) == ((1, 1) if commits else (0, 0))
        assert await jobs.count() == there
        await engine.dispose()

    asyncio.run(main())
