"""Faults of the database and of the way to it, through every driver: nobody is told that nothing was done when it was.

RepositoryError says that nothing was done; OutcomeUnknownError that nobody knows; no error of a driver comes through.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event as Signal
from typing import Any

import pytest
from sqlalchemy import URL, text

from jobstate.errors import OutcomeUnknownError, RepositoryError, StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.model import Event, Job, JobResponse
from jobstate.query import Due
from jobstate.testing.contracts.samples import LATE, example, transition
from tests.postgresql import engine_of
from tests.sql_sides import POSTGRESQL, PREFIX, AsyncSide, SyncSide, Truth, opened, settled
from tests.wire import Wire

AnyJob = Job[Any, Any]
AnySide = SyncSide | AsyncSide
RESPONSE = JobResponse[Any](status_code=200, body={"total": 1})


IN_EVERY_RUN = ("psycopg", "asyncpg direct")
"""Each colour, and each way to the driver, once."""


@pytest.fixture(params=[name if name in IN_EVERY_RUN else pytest.param(name, marks=pytest.mark.full) for name in POSTGRESQL])
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def base(server: URL) -> Iterator[Truth]:
    truth = Truth(engine_of(server))
    yield truth
    truth.execute(
        "".join(f"DROP TABLE IF EXISTS {PREFIX}{name};" for name in ("jobs", "payloads", "history", "schema_version"))
    )
    truth.engine.dispose()


@pytest.fixture
def truth(base: Truth) -> Truth:
    base.prepare()
    return base


@pytest.fixture
def cut(server: URL, wire: Wire) -> URL:
    """The server behind the wire."""
    return server.set(host="127.0.0.1", port=wire.port, query={})


def told(call: Callable[[], Any]) -> Any:
    """The answer, or the error, which is the port's."""
    try:
        return call()
    except RepositoryError as error:
        return error


def move(job: AnyJob, event: Event = Event.COMPLETE) -> Accepted:
    return transition(job, event, response=RESPONSE)


# What is asked: a write, and by which version of the one job its being done shows.


def insert(side: AnySide) -> Any:
    job = example(1)
    return side.call("insert", job, creation_record(job))


def save(side: AnySide) -> Any:
    return side.call("save", move(example()))


def nothing(_transaction: Any) -> None:
    """What a host does besides."""


def save_within(side: AnySide) -> Any:
    return side.call("save", move(example()), within=nothing)


def save_many(side: AnySide) -> Any:
    [answer] = side.call("save_many", [move(example())])
    return answer


def move_due(side: AnySide) -> Any:
    def decide(jobs: Sequence[AnyJob]) -> list[Accepted]:
        return [move(job) for job in jobs]

    moved = side.call("move_due", Due.EXPIRING, until=LATE, limit=9, decide=decide)
    [answer] = moved.answers
    return answer


def delete(side: AnySide) -> Any:
    return side.call("delete", example().id, 1)


Ask = Callable[[AnySide], Any]
ASKS: dict[Ask, dict[str, int]] = {
    insert: {example().id: 1, example(1).id: 1},
    save: {example().id: 2},
    save_within: {example().id: 2},
    save_many: {example().id: 2},
    move_due: {example().id: 2},
    delete: {},
}
"""Each write, and the versions of all jobs when it has been done."""

asks = pytest.mark.parametrize("ask", ASKS, ids=lambda ask: ask.__name__)


def is_true(truth: Truth, ask: Ask, answer: Any) -> bool:
    """Whether it was done, which the answer does not contradict."""
    there = truth.versions()
    done = there == ASKS[ask]
    assert done or there == {example().id: 1}, there
    if answer is None:
        assert done, "it was told that it is done"
    elif not isinstance(answer, OutcomeUnknownError):
        assert type(answer) is RepositoryError, repr(answer)
        assert "nothing was done" in str(answer)
        assert not done, f"it was told: {answer}"
    return done


@asks
def test_wherever_an_answer_is_lost_the_truth_is_told(
    cut: URL, wire: Wire, truth: Truth, driver: str, ask: Ask, tmp_path: Path
) -> None:
    """One answer of the server after the other is lost on the way, until none is left; then the next call works."""
    seen: set[tuple[str, bool]] = set()
    answer: Any = None
    with opened(driver, cut, tmp_path, pool_size=1) as side:
        for skip in range(30):
            truth.prepare()
            truth.store()
            assert side.call("load", example().id).version == 1, "the pool has recovered"
            wire.lose(skip)
            answer = told(partial(ask, side))
            seen.add((type(answer).__name__, is_true(truth, ask, answer)))
            wire.keep()
            if answer is None:
                break
    assert answer is None
    assert ("OutcomeUnknownError", True) in seen, seen


@asks
def test_a_connection_that_was_cut_before_is_no_lie(
    cut: URL, wire: Wire, truth: Truth, driver: str, ask: Ask, tmp_path: Path
) -> None:
    """And when nobody answers any more either; once somebody does, it works."""
    truth.store()
    with opened(driver, cut, tmp_path, pool_size=1) as side:
        assert side.call("load", example().id).version == 1
        wire.cut()
        try:
            assert not is_true(truth, ask, told(partial(ask, side)))
            unconnected = told(partial(ask, side))
            assert type(unconnected) is RepositoryError
            assert not is_true(truth, ask, unconnected)
        finally:
            wire.mend()
        assert is_true(truth, ask, told(partial(ask, side)))


@pytest.mark.parametrize("ask", [save_within, move_due], ids=lambda ask: ask.__name__)
def test_a_wire_cut_in_the_middle_of_a_transaction_undoes_it(
    cut: URL, wire: Wire, truth: Truth, driver: str, ask: Ask, tmp_path: Path
) -> None:
    truth.store()

    def snip(*_: Any) -> list[Accepted]:
        wire.cut()
        return [move(example())]

    with opened(driver, cut, tmp_path, pool_size=1) as side:
        try:
            if ask is save_within:
                answer = told(lambda: side.call("save", move(example()), within=snip))
            else:
                moved = side.call("move_due", Due.EXPIRING, until=LATE, limit=9, decide=snip)
                [answer] = moved.answers
            assert type(answer) is RepositoryError
            assert not is_true(truth, ask, answer)
        finally:
            wire.mend()
        settled(truth.engine, "the wire was cut")  # the server's process may still hold the row, and a sweep passes it over
        assert is_true(truth, ask, told(partial(ask, side)))


# What the server refuses


@contextmanager
def setting(truth: Truth, name: str, value: str) -> Generator[None]:
    """What new connections begin with."""
    [(database,)] = truth.execute("SELECT current_database()")
    truth.execute(f"ALTER DATABASE {database} SET {name} = '{value}'")
    try:
        yield
    finally:
        truth.execute(f"ALTER DATABASE {database} RESET {name}")


@contextmanager
def refusing(truth: Truth, job_id: str, sqlstate: str) -> Generator[None]:
    """Every write of this job meets an error with this code."""
    truth.execute(
        f"CREATE FUNCTION {PREFIX}no() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{sqlstate}'; END $$"
    )
    row = (
        f"CREATE TRIGGER no BEFORE {{}} ON {PREFIX}jobs FOR EACH ROW WHEN ({{}}.id = '{job_id}') EXECUTE FUNCTION {PREFIX}no()"
    )
    truth.execute(row.format("UPDATE", "NEW"))
    truth.execute(row.format("DELETE", "OLD").replace("TRIGGER no", "TRIGGER no_delete"))
    try:
        yield
    finally:
        truth.execute(f"DROP FUNCTION {PREFIX}no() CASCADE")


CODES = {
    "serialization_failure": "40001",
    "deadlock_detected": "40P01",
    "unique_violation": "23505",
    "check_violation": "23514",
    "disk_full": "53100",
    "out_of_memory": "53200",
    "lock_not_available": "55P03",
    "query_canceled": "57014",
    "io_error": "58030",
    "internal_error": "XX000",
}


@pytest.mark.parametrize("code", CODES)
def test_what_the_server_refuses_was_not_done(server: URL, truth: Truth, driver: str, code: str, tmp_path: Path) -> None:
    """A conflict is stale, since it was certainly not applied; everything else says that nothing was done."""
    kind = StaleJobError if CODES[code].startswith("40") else RepositoryError
    truth.store()
    with opened(driver, server, tmp_path) as side:
        with refusing(truth, example().id, CODES[code]):
            for ask in (save, save_many, move_due, delete, save_within):
                answer = told(partial(ask, side))
                assert type(answer) is kind, (ask, answer)
                assert truth.versions() == {example().id: 1}
        assert save(side) is None


@pytest.mark.parametrize("code", ["unique_violation", "serialization_failure", "internal_error", "lock_not_available"])
def test_one_bad_row_of_500_touches_no_other(server: URL, truth: Truth, driver: str, code: str, tmp_path: Path) -> None:
    jobs = [example(id=f"job_{number:021}", idempotency_key=None) for number in range(500)]
    with opened(driver, server, tmp_path) as side:
        [first] = truth.store()
        columns = [
            row[0]
            for row in truth.execute(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{PREFIX}jobs'")
        ]
        names = ", ".join(name for name in columns if name not in ("id", "idempotency_key"))
        truth.execute(
            f"INSERT INTO {PREFIX}jobs (id, {names}) SELECT 'job_' || lpad(n::text, 21, '0'), {names} "
            f"FROM {PREFIX}jobs, generate_series(0, 499) n"
        )
        truth.execute(f"DELETE FROM {PREFIX}jobs WHERE id = :id", id=first.id)
        truth.execute(f"DELETE FROM {PREFIX}history; DELETE FROM {PREFIX}payloads")
        with refusing(truth, jobs[250].id, CODES[code]):
            answers = side.call("save_many", [move(job) for job in jobs])
    assert [number for number, answer in enumerate(answers) if answer is not None] == [250]
    assert isinstance(answers[250], RepositoryError)
    moved = truth.execute(f"SELECT count(*) FROM {PREFIX}jobs WHERE version = 2")
    assert moved == [(499,)]
    assert truth.execute(f"SELECT id FROM {PREFIX}jobs WHERE version = 1") == [(jobs[250].id,)]


@contextmanager
def held(truth: Truth, statement: str) -> Generator[Any]:
    """A transaction of somebody else's that has made this statement and not yet ended."""
    with truth.engine.connect() as connection:
        connection.execute(text(statement))
        yield connection
        connection.rollback()


LOCK = f"SELECT 1 FROM {PREFIX}jobs WHERE id = '{example().id}' FOR UPDATE"


@pytest.mark.parametrize("name", ["lock_timeout", "statement_timeout"])
def test_who_waits_too_long_for_a_row_has_done_nothing(
    server: URL, truth: Truth, driver: str, name: str, tmp_path: Path
) -> None:
    jobs = truth.store(3)
    with setting(truth, name, "50ms"), opened(driver, server, tmp_path) as side:
        with held(truth, LOCK):
            for ask in (save, delete, save_within):
                answer = told(partial(ask, side))
                assert type(answer) is RepositoryError, answer
            answers = side.call("save_many", [move(job) for job in jobs])
            assert [type(answer) for answer in answers] == [RepositoryError, type(None), type(None)]
        assert truth.versions() == {job.id: 1 if job.id == example().id else 2 for job in jobs}
        assert save(side) is None


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_stricter_isolation_makes_a_conflict_stale(
    server: URL, truth: Truth, driver: str, level: str, tmp_path: Path
) -> None:
    """As the server's default, or as the engine's own, which the library's transactions do not use."""
    for how in ("server", "engine"):
        options = {"isolation_level": level.upper()} if how == "engine" else {}
        default = level if how == "server" else "read committed"
        with setting(truth, "default_transaction_isolation", default), opened(driver, server, tmp_path, **options) as side:
            for ask in (save, save_within, save_many, delete):
                truth.prepare()
                truth.store()
                assert side.call("load", example().id).version == 1
                answer = _while_another_saves(truth, partial(ask, side))
                assert type(answer) is StaleJobError, (how, ask, answer)
                assert truth.execute(f"SELECT version FROM {PREFIX}jobs") == [(7,)]


def _while_another_saves(truth: Truth, call: Callable[[], Any]) -> Any:
    """The answer of a call that waits for a row, until another one has committed a later version of it."""
    pause = Signal()
    with ThreadPoolExecutor(1) as pool, held(truth, f"UPDATE {PREFIX}jobs SET version = 7") as other:
        answer = pool.submit(told, call)
        for _ in range(1_000):
            if truth.execute("SELECT count(*) FROM pg_locks WHERE NOT granted") != [(0,)]:
                break
            pause.wait(0.01)
        other.commit()
        return answer.result(60)


@asks
def test_a_server_that_only_reads_refuses_every_write(server: URL, truth: Truth, driver: str, ask: Ask, tmp_path: Path) -> None:
    """And answers every question."""
    truth.store()
    with setting(truth, "default_transaction_read_only", "on"), opened(driver, server, tmp_path) as side:
        answer = told(partial(ask, side))
        assert type(answer) is RepositoryError, answer
        assert not is_true(truth, ask, answer)
        assert side.call("load", example().id).version == 1


@asks
def test_a_server_without_room_for_one_more_connection_is_told_as_such(
    server: URL, truth: Truth, driver: str, ask: Ask, tmp_path: Path
) -> None:
    truth.store()
    truth.execute(f"CREATE ROLE {PREFIX}guest LOGIN CONNECTION LIMIT 0")
    try:
        with opened(driver, server.set(username=f"{PREFIX}guest"), tmp_path) as side:
            answer = told(partial(ask, side))
            assert type(answer) is RepositoryError, answer
            assert "too many connections" in str(answer)
            assert not is_true(truth, ask, answer)
    finally:
        truth.execute(f"DROP ROLE {PREFIX}guest")


@asks
def test_a_killed_backend_is_replaced(server: URL, truth: Truth, driver: str, ask: Ask, tmp_path: Path) -> None:
    """Killed while it slept in the pool."""
    truth.store()
    name = {"application_name": "faults"}
    options = {"server_settings": name} if driver.startswith("asyncpg") else name
    with opened(driver, server, tmp_path, pool_size=1, connect_args=options) as side:
        assert side.call("load", example().id).version == 1
        kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE application_name = 'faults'"
        assert truth.execute(kill) == [(True,)]
        answer = told(partial(ask, side))
        if not is_true(truth, ask, answer):
            assert is_true(truth, ask, told(partial(ask, side)))
