"""Maintenance: sweeps at a steady pace, whatever goes wrong, until it is stopped; and one sweep from the command line."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from threading import Barrier, Event, Lock, get_ident
from typing import Any, cast

import pytest
from sqlalchemy import URL, Engine, text

from jobstate import AsyncJobs, Jobs, Policy, async_run_maintenance, maintenance, run_maintenance
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.flows.sweeps import SweepError, SweepReport, Swept
from jobstate.maintenance import CAP, Pace
from jobstate.memory import MemoryRepository
from jobstate.testing import ManualClock
from tests.postgresql import emptied, engine_of
from tests.sql import sqlite_engine
from tests.support import NOW, ORG

ROOT = Path(__file__).parent.parent
CLEAN = SweepReport(*[Swept()] * 5)
DOWN = ConnectionError("the database is down")


class Time:
    """A clock, and a stop that waits by it: set when so many seconds have passed."""

    def __init__(self, until: float) -> None:
        self.now = 0.0
        self.until = until
        self.pauses: list[float] = []

    def is_set(self) -> bool:
        return self.now >= self.until

    def wait(self, timeout: float) -> bool:
        self.pauses.append(timeout)
        self.now += timeout
        return self.is_set()


class Sweeps:
    """What maintenance asks for: sweeps that take some time, and raise or report what they are told."""

    def __init__(
        self, time: Time, *, takes: float = 0.0, errors: int = 0, error: Exception = DOWN, report: SweepReport = CLEAN
    ) -> None:
        self.time, self.takes, self.errors, self.error, self.report = time, takes, errors, error, report
        self.starts: list[float] = []

    def sweep(self) -> SweepReport:
        self.starts.append(self.time.now)
        self.time.now += self.takes
        if self.errors:
            self.errors -= 1
            raise self.error
        return self.report


class AsyncSweeps(Sweeps):
    """The same, awaited."""

    async def sweep(self) -> SweepReport:  # type: ignore[override]
        return super().sweep()


@pytest.fixture(params=["sync", "async"])
def maintain(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sweeps]:
    """Maintenance of either colour for so many seconds of a clock of its own."""

    def run(
        seconds: float, every: timedelta | float = 10, *, jitter: float = 0.0, on_error: Any = None, **sweeps: Any
    ) -> Sweeps:
        time = Time(seconds)
        options: dict[str, Any] = {"jitter": jitter, "on_error": on_error, "clock": lambda: time.now}
        if request.param == "sync":
            jobs = Sweeps(time, **sweeps)
            run_maintenance(cast(Any, jobs), every, stop=time, **options)
            return jobs

        async def wait(stop: Any, pause: float) -> bool:
            return time.wait(pause)

        monkeypatch.setattr(maintenance, "_wait", wait)
        jobs = AsyncSweeps(time, **sweeps)
        asyncio.run(async_run_maintenance(cast(Any, jobs), every, stop=cast(Any, time), **options))
        return jobs

    return run


# The pace


@pytest.mark.parametrize("every", [10, 10.0, timedelta(seconds=10)])
def test_sweeps_begin_every_so_many_seconds_however_long_they_take(maintain: Callable[..., Sweeps], every: Any) -> None:
    assert maintain(35, every, takes=4).starts == [0, 10, 20, 30]


def test_a_sweep_longer_than_its_turn_is_followed_by_a_short_break(maintain: Callable[..., Sweeps]) -> None:
    assert maintain(60, takes=25).starts == [0, 26, 52]


def test_nothing_is_swept_once_it_is_stopped(maintain: Callable[..., Sweeps]) -> None:
    assert maintain(0).starts == []


def test_the_jitter_moves_each_start_and_the_first_one() -> None:
    chances = iter([0.5, 0.0, 1.0, 0.5])
    pace = Pace(10, 0.2, chance=lambda: next(chances))
    assert [pace.first(), *(pace.pause(1, failed=False) for _ in range(3))] == [1, 7, 11, 9]


def test_two_machines_do_not_march_in_step() -> None:
    def starts() -> list[float]:
        time = Time(100)
        sweeps = Sweeps(time)
        run_maintenance(cast(Any, sweeps), 10, stop=time, clock=lambda: time.now)
        return sweeps.starts

    one, other = starts(), starts()
    assert one != other
    assert all(9 <= after - before <= 11 for before, after in pairwise(one))


@pytest.mark.parametrize(
    ("options", "words"),
    [({"every": 0}, "every"), ({"every": float("nan")}, "every"), ({"jitter": 1.1}, "jitter"), ({"sweepers": 0}, "sweepers")],
)
def test_what_is_out_of_range_is_refused(options: dict[str, Any], words: str) -> None:
    jobs: Any = Sweeps(Time(0))
    with pytest.raises(ValueError, match=words):
        run_maintenance(jobs, **options)
    with pytest.raises(ValueError, match=words):
        asyncio.run(async_run_maintenance(jobs, **options))


# What goes wrong


def test_an_error_is_told_and_survived(maintain: Callable[..., Sweeps], caplog: pytest.LogCaptureFixture) -> None:
    told: list[Exception] = []
    sweeps = maintain(100, errors=1, on_error=told.append)
    assert sweeps.starts[:4] == [0, 20, 30, 40]
    assert told == [DOWN]
    assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [DOWN]


def test_the_pause_grows_to_its_cap_while_everything_fails_and_is_as_before_afterwards(maintain: Callable[..., Sweeps]) -> None:
    starts = maintain(1500, errors=7).starts
    pauses = [after - before for before, after in pairwise(starts)]
    assert pauses[:9] == [20, 40, 80, 160, CAP, CAP, CAP, 10, 10]


def test_an_error_pause_is_never_shorter_than_the_usual_one(maintain: Callable[..., Sweeps]) -> None:
    assert maintain(3000, 1000, errors=5).starts == [0, 1000, 2000]


def test_an_on_error_that_raises_is_survived(maintain: Callable[..., Sweeps], caplog: pytest.LogCaptureFixture) -> None:
    def bad(error: Exception) -> None:
        raise KeyError("a bug")

    assert len(maintain(30, errors=1, on_error=bad).starts) == 2
    assert "on_error raised" in caplog.text


def test_rows_that_were_not_swept_are_logged(maintain: Callable[..., Sweeps], caplog: pytest.LogCaptureFixture) -> None:
    report = SweepReport(Swept(), Swept(failed=2), Swept(), Swept(), Swept(unreadable=("job_a",)))
    maintain(5, report=report)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "sweep rescue: 2 rows met an error of a port; unreadable rows: none",
        "sweep relay: 0 rows met an error of a port; unreadable rows: job_a",
    ]


def test_rows_are_logged_too_when_another_sweep_met_an_error(
    maintain: Callable[..., Sweeps], caplog: pytest.LogCaptureFixture
) -> None:
    error = SweepError("1 of 5", [DOWN])
    error.made = {"rescue": Swept(failed=2)}
    maintain(5, errors=1, error=error)
    assert "sweep rescue: 2 rows met an error of a port; unreadable rows: none" in caplog.text


# Real threads and tasks


def test_several_sweepers_sweep_at_once_and_all_stop() -> None:
    stop, met, lock, threads = Event(), Barrier(3), Lock(), set[int]()

    class Meeting:
        def sweep(self) -> SweepReport:
            met.wait(60)
            with lock:
                threads.add(get_ident())
            stop.set()
            return CLEAN

    run_maintenance(cast(Any, Meeting()), 0.001, stop=stop, sweepers=3)
    assert len(threads) == 3


def test_it_ends_with_the_exception_that_stops_the_process_and_leaves_no_thread() -> None:
    class Interrupted:
        def sweep(self) -> SweepReport:
            if get_ident() == main:
                raise KeyboardInterrupt
            return CLEAN

    main = get_ident()
    with pytest.raises(KeyboardInterrupt):
        run_maintenance(cast(Any, Interrupted()), 0.001, sweepers=3)


def test_tasks_sweep_until_they_are_stopped_or_cancelled() -> None:
    async def scenario() -> None:
        stop, done = asyncio.Event(), list[int]()

        class Counting:
            async def sweep(self) -> SweepReport:
                done.append(1)
                if len(done) == 4:
                    stop.set()
                return CLEAN

        async with asyncio.timeout(60):
            await async_run_maintenance(cast(Any, Counting()), 0.001, stop=stop, sweepers=2)
            assert len(done) >= 4
            task = asyncio.create_task(async_run_maintenance(cast("AsyncJobs", Counting())))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(scenario())


def test_jobs_are_swept() -> None:
    clock, repository = ManualClock(NOW), MemoryRepository()
    jobs = Jobs(repository, policy=Policy(ttl=timedelta(seconds=60)), clock=clock)
    job = jobs.create("/x", {}, organization_id=ORG)
    clock.advance(60)
    time = Time(5)
    run_maintenance(jobs, 10, stop=time, jitter=0, clock=lambda: time.now)
    assert jobs.retrieve(job.id).status == "expired"


# The command


def sweep(database: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "jobstate", "sweep", "--database", database, *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def an_old_job(engine: Engine) -> str:
    """A job that is past its expiry, in an empty database."""
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    jobs = Jobs(repository, clock=ManualClock(NOW))
    return jobs.create("/x", {}, organization_id=ORG, ttl=timedelta(seconds=60)).id


def check_command(engine: Engine, database: str) -> None:
    job_id = an_old_job(engine)
    first, second = sweep(database), sweep(database, "--json")
    assert (first.returncode, first.stderr) == (0, "")
    assert first.stdout.splitlines()[0] == "expire: 1 moved, 0 left, 0 lost, 0 failed"
    assert json.loads(second.stdout)["expire"] == {"moved": 0, "left": 0, "lost": 0, "failed": 0, "unreadable": []}
    assert Jobs(SQLAlchemyRepository(engine)).retrieve(job_id).status == "expired"


def test_a_sweep_by_the_command_line_on_sqlite(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path)
    check_command(engine, str(engine.url.database))
    engine.dispose()


def test_a_sweep_by_the_command_line_on_postgresql(server: URL) -> None:
    engine = engine_of(server)
    emptied(engine)
    check_command(engine, server.set(drivername="postgresql").render_as_string(hide_password=False))
    engine.dispose()


def test_a_row_that_cannot_be_read_makes_the_command_fail_and_is_named(tmp_path: Path) -> None:
    engine = sqlite_engine(tmp_path)
    job_id = an_old_job(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobstate_jobs SET status = 'frozen'"))
    done = sweep(str(engine.url.database))
    engine.dispose()
    assert done.returncode == 1
    assert job_id in done.stderr
    assert done.stdout.startswith("expire: 0 moved")


def test_a_database_without_tables_makes_the_command_fail_with_a_line_for_each_error(tmp_path: Path) -> None:
    file = tmp_path / "empty.sqlite"
    file.touch()
    done = sweep(str(file))
    assert done.returncode == 1
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == ["forget", "relay"]  # nothing to ask for
    assert "no such table" in done.stderr
    assert all(line.startswith("jobstate: ") for line in done.stderr.splitlines())


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    done = sweep(str(tmp_path / "none.sqlite"))
    assert (done.returncode, list(tmp_path.iterdir())) == (1, [])
    assert "does not exist" in done.stderr
