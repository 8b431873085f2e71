"""How many statements an operation takes on PostgreSQL, exactly, as the engine's events see them; none is built twice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, ClauseElement, Engine, event

from jobstate import AsyncJobs, Delivery, Job, Jobs, Policy
from jobstate.adapters.sqlalchemy import AsyncSQLAlchemyRepository, SQLAlchemyRepository
from jobstate.adapters.sqlalchemy.lines import Direct, is_watched
from jobstate.flows import sweeps
from jobstate.testing import ManualClock
from tests.postgresql import ASYNC, async_engine_of, emptied, engine_of
from tests.sql import AUTOMATIC, sqlite_engine

CONTROL = ("BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT")


class Seen:
    """The statements that an engine has sent, those that control transactions apart."""

    def __init__(self, engine: Engine) -> None:
        self.statements: list[str] = []
        self.control: list[str] = []
        event.listen(engine, "before_cursor_execute", self._note)

    def _note(self, _c: Any, _u: Any, statement: str, _p: Any, _x: Any, _m: bool) -> None:
        if statement.startswith(CONTROL):
            self.control.append(statement.split()[0])
        else:
            self.statements.append(statement)

    def of(self, call: Callable[[], object]) -> tuple[int, list[str]]:
        """How many statements a call takes, and which control them."""
        self.statements.clear()
        self.control.clear()
        call()
        return len(self.statements), list(self.control)


@pytest.fixture
def engine(server: URL) -> Iterator[Engine]:
    made = engine_of(server)
    emptied(made)
    yield made
    made.dispose()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Quiet(SQLAlchemyRepository):
    """One that tells nobody of new jobs, as where a dispatcher carries them."""

    def announcing(self) -> SQLAlchemyRepository:
        return self


@pytest.fixture
def jobs(engine: Engine, clock: ManualClock) -> Jobs:
    repository = Quiet(engine)
    repository.create_schema()
    return Jobs(repository, policy=Policy(max_attempts=100), clock=clock)


@pytest.fixture
def seen(engine: Engine, jobs: Jobs) -> Seen:
    jobs.count()  # the first call looks whether the engine commits by itself
    return Seen(engine)


def created(jobs: Jobs) -> Job:
    return jobs.create("/x", {"a": 1}, organization_id="org")


def test_each_operation_takes_as_few_as_it_can(jobs: Jobs, seen: Seen) -> None:
    """A read is one; a command is one that reads and one that writes; a worker's only writes. None has a transaction."""
    job = created(jobs)
    other = created(jobs)
    assert seen.of(lambda: created(jobs)) == (1, [])
    assert seen.of(lambda: jobs.retrieve(job.id, include_request=True, include_response=True)) == (1, [])
    assert seen.of(lambda: jobs.list(limit=50)) == (1, [])
    assert seen.of(lambda: jobs.count(status="queued")) == (1, [])
    assert seen.of(lambda: jobs.cancel(other.id)) == (2, [])
    assert seen.of(lambda: jobs.retry(other.id)) == (2, [])
    assert seen.of(lambda: jobs.start(job.delivery)) == (2, [])
    attempt = jobs.start(other.delivery.model_copy(update={"run": 2}))
    assert seen.of(lambda: attempt.heartbeat(0.5)) == (1, [])
    assert seen.of(lambda: attempt.complete({"done": True})) == (1, [])


@pytest.mark.parametrize(
    ("due", "statements"),
    [(0, 1), (3, 2), (9, 2), (10, 3), (20, 5), (25, 6)],
)
def test_a_sweep_takes_two_for_each_page_and_one_that_finds_no_more(
    jobs: Jobs, seen: Seen, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, due: int, statements: int
) -> None:
    """A page that is not full is the last one. Each page is one transaction, which holds its rows."""
    monkeypatch.setattr(sweeps, "PAGE", 10)
    for _ in range(due):
        created(jobs)
    clock.advance(10**7)
    pages = due // 10 + 1
    assert seen.of(lambda: jobs.expire()) == (statements, ["BEGIN", "COMMIT"] * pages)
    assert jobs.count(status="expired") == due


def test_a_page_of_a_bulk_command_takes_one_to_read_and_one_to_write(jobs: Jobs, seen: Seen) -> None:
    for _ in range(7):
        created(jobs)
    assert seen.of(lambda: jobs.cancel_many(status="queued")) == (2, [])
    assert jobs.count(status="cancelled") == 7


@pytest.mark.parametrize("driver", ASYNC)
def test_the_async_drivers_take_no_more(driver: str, engine: Engine, jobs: Jobs) -> None:
    async def main() -> None:
        async_engine = async_engine_of(engine.url, driver)
        asynchronous = AsyncJobs(AsyncSQLAlchemyRepository(async_engine))
        job = await asynchronous.create("/x", {}, organization_id="org")
        seen = Seen(async_engine.sync_engine)
        attempt = await asynchronous.start(job.delivery)
        assert (len(seen.statements), seen.control) == (2, [])
        await attempt.complete({})
        assert (len(seen.statements), seen.control) == (3, [])
        await async_engine.dispose()

    asyncio.run(main())


def test_no_statement_is_built_or_compiled_twice(
    engine: Engine, jobs: Jobs, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_of_it() -> None:
        job, other = created(jobs), created(jobs)
        attempt = jobs.start(Delivery(job_id=job.id, run=1))
        attempt.heartbeat(0.5)
        attempt.complete({})
        jobs.cancel(other.id)
        jobs.retry(other.id)
        jobs.list(status=["queued", "failed"], metadata={"a": "b"}, endpoint="/x", limit=5)
        jobs.history(job.id)
        jobs.cancel_many(endpoint="/x")
        clock.advance(10**7)
        jobs.sweep()

    for _ in range(3):  # until the first job's clean-up has ended
        all_of_it()
    compiled: list[object] = []

    def note(statement: ClauseElement, *_: Any, **__: Any) -> None:
        compiled.append(statement)

    monkeypatch.setattr(ClauseElement, "compile", note)
    all_of_it()
    assert compiled == []


def test_a_transition_writes_the_columns_that_it_changes_and_touches_no_payload(jobs: Jobs, seen: Seen) -> None:
    job = created(jobs)
    seen.of(lambda: jobs.cancel(job.id))
    read, write = seen.statements
    assert "payloads" not in read + write
    written = {part.split("=")[0].strip() for part in write.split("SET")[1].split("WHERE")[0].split(",")}
    assert written == {"cancelled", "completed_at", "expires_at", "status", "version", "operation", "updated_at"}


def test_a_page_of_jobs_is_read_without_their_payloads(jobs: Jobs, seen: Seen) -> None:
    created(jobs)
    seen.of(lambda: jobs.list(limit=5))
    assert len(seen.statements) == 1
    assert not any("payloads" in statement for statement in seen.statements)


def test_who_listens_sees_every_statement_and_who_does_not_spares_the_way(
    server: URL, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Straight to the driver, the same is done; with a listener, or a log that is read, nothing is."""
    engine = engine_of(server, **AUTOMATIC)
    straight = Jobs(Quiet(engine))
    straight.count()
    sent: list[str] = []
    send = Direct.send

    def noted(line: Direct, text: str, values: Any = ()) -> Any:
        sent.append(text)
        return send(line, text, values)

    monkeypatch.setattr(Direct, "send", noted)
    job = created(straight)
    assert straight.cancel(job.id).version == jobs.retrieve(job.id).version == 2
    assert len(sent) == 3
    logging.getLogger("sqlalchemy.engine").setLevel(logging.INFO)
    try:
        straight.retrieve(job.id)
    finally:
        logging.getLogger("sqlalchemy.engine").setLevel(logging.NOTSET)
    seen = Seen(engine)
    assert seen.of(lambda: straight.retry(job.id)) == (2, [])
    assert len(sent) == 3
    engine.dispose()


def echoes(engine: Engine) -> None:
    engine.echo = True


def is_told_of_errors(engine: Engine) -> None:
    def note(_: Any) -> None:
        """Only looks."""

    event.listen(engine, "handle_error", note)


def executes_itself(engine: Engine) -> None:
    event.listen(engine, "do_execute", lambda *_: None)


@pytest.mark.parametrize("watch", [echoes, is_told_of_errors, executes_itself])
def test_an_engine_is_watched_in_more_ways_than_one(tmp_path: Path, watch: Callable[[Engine], None]) -> None:
    """By its own log, which `echo` turns on whatever the levels are, and by listeners of its dialect."""
    engine = sqlite_engine(tmp_path)
    assert not is_watched(engine)
    watch(engine)
    assert is_watched(engine)
    engine.dispose()


def test_a_log_of_engines_only_is_read_too(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path)
    log = logging.getLogger("sqlalchemy.engine.Engine")
    log.setLevel(logging.INFO)
    try:
        assert is_watched(engine)
    finally:
        log.setLevel(logging.NOTSET)
    assert not is_watched(engine)
    engine.dispose()


@pytest.mark.parametrize("driver", ASYNC)
def test_an_async_engine_that_nobody_listens_to_is_gone_around_too(
    server: URL, jobs: Jobs, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    send = Direct.send

    def noted(line: Direct, text: str, values: Any = ()) -> Any:
        sent.append(text)
        return send(line, text, values)

    async def main() -> None:
        engine = async_engine_of(server, driver, **AUTOMATIC)
        straight = AsyncJobs(AsyncSQLAlchemyRepository(engine))
        await straight.count()
        monkeypatch.setattr(Direct, "send", noted)
        job = await straight.create("/x", {"a": 1}, organization_id="org")
        assert (await straight.cancel(job.id)).version == jobs.retrieve(job.id).version == 2
        before = len(sent)
        assert before >= 3
        event.listen(engine.sync_engine, "before_cursor_execute", lambda *_: None)
        await straight.retry(job.id)
        assert len(sent) == before
        await engine.dispose()

    asyncio.run(main())
