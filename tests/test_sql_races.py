"""Races of two commands on PostgreSQL, each on an engine of its own: both orders, and truly at once.

One of the two decides, and stands still between its decision and its save while the other does all of its work; then it goes
on. A sweep that holds its rows stands still in the middle of its transaction; then the other waits for it in the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Event as Signal
from typing import Any, cast

import pytest
from sqlalchemy import URL, Engine, text

from jobstate import (
    Attempt,
    GuardRefusedError,
    IdempotencyConflictError,
    IllegalTransitionError,
    Job,
    JobError,
    Jobs,
    LeaseLostError,
    StaleJobError,
    TransitionError,
)
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository, Tables
from jobstate.effects import Decide
from jobstate.flows.sweeps import Swept
from jobstate.lifecycle import NOT_REPLAYED, Accepted, decide, replay
from jobstate.model import Event
from jobstate.testing.clock import ManualClock
from tests.postgresql import engine_of
from tests.support import at_once

DAY = 86_400
PREFIX = "races_"
REQUEST = {"pages": [1, 2], "note": "back\\slash, “quotes” and \u2028"}
BAD = JobError(code="bad_page", message="page 2 cannot be read")
WRITES = ("insert", "save", "save_many", "delete")
ROUNDS = 2


class Gate:
    """A repository that, once armed, stands still right before its next write; `move_due` in the middle, holding its rows."""

    def __init__(self, inner: SQLAlchemyRepository, *, shares: bool) -> None:
        self._inner = inner
        if shares:
            self.move_due = self._move_due
        self._armed = False
        self.reached, self.opened = Signal(), Signal()

    def arm(self) -> None:
        self._armed = True

    def _stand(self) -> None:
        if self._armed:
            self._armed = False
            self.reached.set()
            assert self.opened.wait(60)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)

        def write(*args: Any, **options: Any) -> Any:
            self._stand()
            return method(*args, **options)

        return write if name in WRITES else method

    def _move_due(self, *args: Any, **options: Any) -> Any:
        judge: Decide = options.pop("decide")

        def standing(jobs: Sequence[Job[Any, Any]]) -> Sequence[Accepted]:
            decided = judge(jobs)
            self._stand()
            return decided

        return self._inner.move_due(*args, decide=standing, **options)


class Party:
    """One of two services: a face, its gate, its engine."""

    def __init__(self, engine: Engine, clock: ManualClock, shares: bool) -> None:
        self.engine = engine
        self.repository = SQLAlchemyRepository(engine, Tables(prefix=PREFIX))
        self.gate = Gate(self.repository, shares=shares)
        self.all = Jobs(cast("Any", self.gate), clock=clock)
        self.jobs = self.all.for_organization("org")

    def hold(self, attempt: Attempt[Any, Any]) -> Attempt[Any, Any]:
        """The same attempt, in the hands of this service."""
        return Attempt(self.all._ports, self.all._scope, attempt._hold, None)


class Race:
    """Two services on one database and one clock, and what is true of it."""

    def __init__(self, parties: list[Party], clock: ManualClock) -> None:
        self.one, self.other = parties
        self.clock = clock

    def job(self, job_id: str, *ends: str) -> Job:
        """The row, which its history tells too, and whose history ends with these events."""
        row = self.one.all.retrieve(job_id, include_request=True)
        records = list(self.one.all.history(job_id))
        left_out = set(NOT_REPLAYED)
        assert replay(records).model_dump(exclude=left_out) == row.model_dump(exclude=left_out)
        assert [str(record.event) for record in records][-len(ends) :] == list(ends)
        assert row.attempt_count == sum(record.event is Event.START for record in records)
        assert row.request == (REQUEST if row.cleanup_started_at is None else None)
        return row

    def run(self, order: str, one: Callable[[], Any], other: Callable[[], Any]) -> tuple[Any, Any]:
        """The answers of the two: `one` or `other` saves first, both having decided; or nobody knows."""
        if order == "at once":
            first, second = at_once([one, other])
            return first, second
        if order == "one":
            answers = self._first(one, other, self.other.gate)
            return answers[0], answers[1]
        answers = self._first(other, one, self.one.gate)
        return answers[1], answers[0]

    def _first(self, first: Callable[[], Any], second: Callable[[], Any], gate: Gate) -> tuple[Any, Any]:
        gate.arm()
        with ThreadPoolExecutor(2) as pool:
            standing = pool.submit(_answer, second)
            assert gate.reached.wait(60)
            made = pool.submit(_answer, first)
            try:
                self._until_done_or_held(made)
            finally:
                gate.opened.set()
            return made.result(60), standing.result(60)

    def _until_done_or_held(self, made: Future[Any]) -> None:
        """The other one has made its save, or waits in the database for the rows that are held."""
        pause = Signal()
        with self.one.engine.connect() as connection:
            for _ in range(3_000):
                held = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                if made.done() or connection.execute(text(held)).scalar_one():
                    return
                pause.wait(0.01)
        raise AssertionError("it neither answers nor waits for a lock")


def _answer(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001  # the answer
        return error


@pytest.fixture(scope="module")
def engines(server: URL) -> Iterator[list[Engine]]:
    made = [engine_of(server) for _ in range(2)]
    SQLAlchemyRepository(made[0], Tables(prefix=PREFIX)).create_schema()
    yield made
    for engine in made:
        engine.dispose()


@pytest.fixture(params=[True, False], ids=["rows held", "rows compared"])
def shares(request: pytest.FixtureRequest) -> bool:
    """Whether sweeps hold their rows."""
    return bool(request.param)


def opened(engines: list[Engine], shares: bool = True) -> Race:
    with engines[0].begin() as connection:
        for table in ("jobs", "payloads", "history"):
            connection.execute(text(f"DELETE FROM {PREFIX}{table}"))
    clock = ManualClock()
    return Race([Party(engine, clock, shares) for engine in engines], clock)


ORDERS = ["one", "other", *["at once"] * ROUNDS]


def codes(*answers: Any) -> list[str]:
    """The refusals among the answers."""
    return [answer.code for answer in answers if isinstance(answer, TransitionError)]


def in_progress(race: Race) -> tuple[Attempt[Any, Any], str]:
    job = race.one.jobs.create("/x", REQUEST)
    return race.one.jobs.start(job.delivery), job.id


@pytest.mark.parametrize("order", ORDERS)
def test_a_retry_and_a_clean_up_do_not_both_win(engines: list[Engine], shares: bool, order: str) -> None:
    """The retry finds its request whole, or is refused because the clean-up has begun."""
    race = opened(engines, shares)
    job = race.one.jobs.create("/x", REQUEST)
    race.clock.advance(7 * DAY)
    assert race.one.all.expire().moved == 1
    race.clock.advance(DAY)
    retried, swept = race.run(order, partial(race.one.jobs.retry, job.id), race.other.all.cleanup)
    if isinstance(retried, Job):
        assert swept.moved == 0
        row = race.job(job.id, "expire", "retry")
        assert (row.status, row.run) == ("queued", 2)
    else:
        assert isinstance(retried, GuardRefusedError)
        assert (retried.code, swept.moved) == ("cleaned_up", 1)
        race.job(job.id, "expire", "begin_cleanup")
    if order == "other" or (order == "one" and shares):
        assert swept.moved == 1, "it began before, or held the row"
    elif order == "one":
        assert swept.lost == 1


@pytest.mark.parametrize("order", ORDERS)
def test_a_result_and_a_rescue_do_not_both_win(engines: list[Engine], shares: bool, order: str) -> None:
    """The job is completed, or in the queue again and its worker is told that the lease is lost."""
    race = opened(engines, shares)
    attempt, job_id = in_progress(race)
    race.clock.advance(3600)
    done, swept = race.run(order, partial(attempt.complete, {"total": 1}), race.other.all.rescue)
    if isinstance(done, Job):
        assert (done.status, swept.moved) == ("completed", 0)
        assert race.job(job_id, "start", "complete").attempt_count == 1
    else:
        assert isinstance(done, LeaseLostError)
        assert swept == Swept(moved=1)
        row = race.job(job_id, "start", "rescue")
        assert (row.status, row.run, row.attempt_count, row.lease) == ("queued", 2, 1, None)
    if order != "at once":
        assert swept.moved == (order == "other" or shares)
        assert swept.lost == (order == "one" and not shares)


@pytest.mark.parametrize("order", ORDERS)
def test_a_result_and_a_cancel_do_not_both_win(engines: list[Engine], order: str) -> None:
    """A cancel that comes late is refused with what it found; a result that comes late has lost its lease."""
    race = opened(engines)
    attempt, job_id = in_progress(race)
    done, cancelled = race.run(order, partial(attempt.complete, {"total": 1}), partial(race.other.jobs.cancel, job_id))
    if isinstance(done, Job):
        assert isinstance(cancelled, IllegalTransitionError)
        assert (cancelled.code, cancelled.status) == ("illegal_transition", "completed")
        assert race.job(job_id, "start", "complete").cancelled is False
    else:
        assert isinstance(done, LeaseLostError)
        assert cancelled.status == "cancelled"
        assert race.job(job_id, "start", "cancel").cancelled is True
    assert order == "at once" or isinstance(done, Job) == (order == "one")


@pytest.mark.parametrize("order", ORDERS)
def test_a_result_and_an_expiry_do_not_both_win(engines: list[Engine], shares: bool, order: str) -> None:
    """A job whose time and lease are over is completed before it expires, or its worker is told that it has."""
    race = opened(engines, shares)
    attempt, job_id = in_progress(race)
    race.clock.advance(7 * DAY)
    done, swept = race.run(order, partial(attempt.complete, {"total": 1}), race.other.all.expire)
    if isinstance(done, Job):
        if not swept.moved:  # else it has expired right after its completion
            assert race.other.all.expire().moved == 1, "the next sweep finds it"
        race.job(job_id, "start", "complete", "expire")
    else:
        assert isinstance(done, LeaseLostError)
        assert swept == Swept(moved=1)
        assert race.job(job_id, "start", "expire").status == "expired"
    if order != "at once":
        assert swept.moved == (order == "other" or shares)


def failed(race: Race) -> str:
    attempt, job_id = in_progress(race)
    attempt.fail(BAD)
    return job_id


def test_a_cancel_that_was_decided_before_a_retry_cancels_the_new_run(engines: list[Engine]) -> None:
    """It asked for a job that does not run; it decides again on what it finds, and history tells both."""
    race = opened(engines)
    attempt, job_id = in_progress(race)

    def fail_and_retry() -> Job:
        race.other.hold(attempt).fail(BAD)
        return race.other.jobs.retry(job_id)

    cancelled, retried = race.run("other", partial(race.one.jobs.cancel, job_id), fail_and_retry)
    assert (retried.status, retried.run) == ("queued", 2)
    assert (cancelled.status, cancelled.run) == ("cancelled", 2)
    race.job(job_id, "start", "fail", "retry", "cancel")
    assert race.one.jobs.retry(job_id).cancelled is False


def test_a_retry_that_was_decided_before_a_cancel_undoes_it(engines: list[Engine]) -> None:
    """It decides again, on a cancelled job; nothing of the cancel is left."""
    race = opened(engines)
    job_id = failed(race)

    def retry_and_cancel() -> Job:
        race.one.jobs.retry(job_id)
        return race.one.jobs.cancel(job_id)

    cancelled, retried = race.run("one", retry_and_cancel, partial(race.other.jobs.retry, job_id))
    assert (cancelled.status, cancelled.run) == ("cancelled", 2)
    assert (retried.status, retried.run, retried.cancelled) == ("queued", 3, False)
    race.job(job_id, "fail", "retry", "cancel", "retry")


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_a_cancel_and_a_retry_at_once_both_tell_the_truth(engines: list[Engine], _round: int) -> None:
    """The cancel finds the failed job, and is refused; or the retried one, and cancels it."""
    race = opened(engines)
    job_id = failed(race)
    cancelled, retried = race.run("at once", partial(race.one.jobs.cancel, job_id), partial(race.other.jobs.retry, job_id))
    assert (retried.status, retried.run) == ("queued", 2)
    if isinstance(cancelled, Job):
        assert race.job(job_id, "fail", "retry", "cancel").status == "cancelled"
    else:
        assert codes(cancelled) == ["illegal_transition"]
        assert race.job(job_id, "fail", "retry").status == "queued"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("keys", [(None, None), ("k", "k"), ("k", "other")])
def test_two_retries_are_one(engines: list[Engine], keys: tuple[str | None, str | None], order: str) -> None:
    """The same one sent twice is the same answer; another one is refused, for the job is active."""
    race = opened(engines)
    job_id = failed(race)
    calls = [partial(party.jobs.retry, job_id, retry_key=key) for party, key in zip((race.one, race.other), keys, strict=True)]
    answers = race.run(order, *calls)
    row = race.job(job_id, "start", "fail", "retry")
    assert (row.status, row.run) == ("queued", 2)
    if keys[0] == keys[1]:
        assert [(answer.status, answer.run) for answer in answers] == [("queued", 2)] * 2
    else:
        assert codes(*answers) == ["illegal_transition"]
        winner = [isinstance(answer, Job) for answer in answers].index(True)
        assert row.retry_key == keys[winner]
        assert order == "at once" or winner == (order == "other")


@pytest.mark.parametrize("order", ORDERS)
def test_one_delivery_starts_once(engines: list[Engine], order: str) -> None:
    """The second worker is told that it has started, and holds nothing."""
    race = opened(engines)
    job = race.one.jobs.create("/x", REQUEST)
    answers = race.run(order, partial(race.one.jobs.start, job.delivery), partial(race.other.jobs.start, job.delivery))
    started: list[Attempt[Any, Any]] = [answer for answer in answers if isinstance(answer, Attempt)]
    [attempt] = started
    assert codes(*answers) == ["already_started"]
    row = race.job(job.id, "created", "start")
    assert (row.attempt_count, row.lease and row.lease.token, attempt.number) == (1, attempt.token, 1)
    assert attempt.job.request == REQUEST
    assert order == "at once" or isinstance(answers[0], Attempt) == (order == "one")


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("alike", [True, False])
def test_one_idempotency_key_is_one_job(engines: list[Engine], alike: bool, order: str) -> None:
    """The same request finds the first job; another request is told whose the key is."""
    race = opened(engines)
    requests = [REQUEST, REQUEST if alike else {"another": 1}]

    calls = [
        partial(party.jobs.create, "/x", asked, idempotency_key="k")
        for party, asked in zip((race.one, race.other), requests, strict=True)
    ]
    answers = race.run(order, *calls)
    [row] = race.one.jobs.list(include_request=True).data
    assert len(race.one.jobs.history(row.id)) == 1
    if alike:
        assert [(answer.id, answer.request) for answer in answers] == [(row.id, REQUEST)] * 2
        return
    winner = [isinstance(answer, Job) for answer in answers].index(True)
    loser = answers[1 - winner]
    assert row.request == requests[winner]
    assert isinstance(loser, IdempotencyConflictError)
    assert (loser.idempotency_key, loser.job_id) == ("k", row.id)
    assert order == "at once" or winner == (order == "other")


@pytest.mark.parametrize("order", ORDERS)
def test_two_sweeps_move_each_job_once(engines: list[Engine], shares: bool, order: str) -> None:
    """They share the rows, or the second one is told that it lost them."""
    race = opened(engines, shares)
    ids = [race.one.jobs.create("/x", REQUEST).id for _ in range(20)]
    race.clock.advance(7 * DAY)
    reports = race.run(order, race.one.all.sweep, race.other.all.sweep)
    moved = [report.expire.moved for report in reports]
    assert sum(moved) == len(ids)
    assert not any(report.expire.failed for report in reports)
    for job_id in ids:
        assert race.job(job_id, "created", "expire").status == "expired"
    if order != "at once":
        first = int(order == "other")
        assert moved[first] == (0 if shares else 20), "the one that stands still holds its rows, or compares them"
        assert reports[1 - first].expire.lost == (0 if shares else 20)


def test_a_sweep_passes_over_a_row_that_is_being_saved(engines: list[Engine]) -> None:
    """It neither waits nor takes the job from a worker whose result is on its way to the commit."""
    race = opened(engines)
    attempt, job_id = in_progress(race)
    race.clock.advance(7 * DAY)
    swept: list[Swept] = []

    def save(transition: Accepted) -> None:
        race.one.repository.save(transition, within=lambda _: swept.extend([race.other.all.expire(), race.other.all.rescue()]))

    race.one.gate.__dict__["save"] = save
    assert attempt.complete({"total": 1}).status == "completed"
    assert swept == [Swept(), Swept()]
    race.job(job_id, "start", "complete")


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_two_bulk_retries_in_opposite_order_retry_each_job_once(engines: list[Engine], _round: int) -> None:
    """A deadlock between two statements is undone by the server, and each row is compared on its own then."""
    race = opened(engines)
    ids = [race.one.jobs.create("/x", REQUEST).id for _ in range(30)]
    race.one.jobs.cancel_many(status="queued")

    def backwards(many: Sequence[Accepted]) -> Sequence[Exception | None]:
        return race.other.repository.save_many(many[::-1])[::-1]

    race.other.gate.__dict__["save_many"] = backwards
    answers = at_once([partial(party.jobs.retry_many, ids=ids) for party in (race.one, race.other)])
    outcomes = [outcome for answer in answers if not isinstance(answer, Exception) for outcome in answer]
    assert len(outcomes) == 60, answers
    for job_id in ids:
        assert race.job(job_id, "created", "cancel", "retry").run == 2
        fates = sorted(outcome.fate for outcome in outcomes if outcome.job_id == job_id)
        assert fates == ["already", "moved"]


def test_a_bulk_write_compares_versions_where_no_history_would_tell(engines: list[Engine]) -> None:
    """A second record of one version is refused by the table of records; without it only the comparison is left."""
    race = opened(engines)
    job = race.one.jobs.create("/x", REQUEST)
    bare = SQLAlchemyRepository(race.other.engine, Tables(prefix=PREFIX), history=False)
    cancel = decide(job, Event.CANCEL, job.created_at)
    assert isinstance(cancel, Accepted)
    race.one.jobs.start(job.delivery)
    assert [type(answer) for answer in bare.save_many([cancel])] == [StaleJobError]
    assert race.job(job.id, "created", "start").status == "in_progress"
