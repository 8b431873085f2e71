"""Many connections, many jobs, random commands on PostgreSQL: afterwards each history tells its job, and nothing else."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, Engine

from jobstate import Job, JobError, Jobs, Policy, RepositoryError, TransitionError
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.errors import OutcomeUnknownError
from jobstate.lifecycle import NOT_REPLAYED, replay
from jobstate.memory import MemoryDispatcher
from jobstate.model import Event
from jobstate.query import JobFilter, PageRequest
from tests.postgresql import emptied, engine_of

ROOT = Path(__file__).parent.parent
POLICY = Policy(
    ttl=timedelta(seconds=15),
    max_attempts=3,
    lease=timedelta(seconds=2),
    backoff=timedelta(0),
    cleanup_after=timedelta(seconds=2),
    redispatch_after=timedelta(seconds=1),
)
ANSWERS = (TransitionError, RepositoryError)
"""What a command may be answered with by its job or its store; anything else is a fault."""


class Clock:
    """The machine's, a little off: everybody's is."""

    def __init__(self, off: float) -> None:
        self.off = off

    def now(self) -> float:
        return time.time() + self.off


class Hammer:
    """One connection's worth of random commands on the jobs of a database."""

    def __init__(self, engine: Engine, ids: list[str], seed: int) -> None:
        self.chance = random.Random(seed)
        self.ids = ids
        off = self.chance.uniform(-0.9, 0.9)
        self.jobs = Jobs(SQLAlchemyRepository(engine), MemoryDispatcher(), policy=POLICY, clock=Clock(off))
        self.done: Counter[str] = Counter()

    def run(self, commands: int) -> Counter[str]:
        """So many commands; what they were answered."""
        asked: list[tuple[int, Callable[[], object]]] = [
            (20, self._create_again), (12, self._cancel), (12, self._retry), (40, self._work), (1, self._sweep), (1, self._bulk)
        ]  # fmt: skip
        weights, calls = [weight for weight, _ in asked], [call for _, call in asked]
        for call in self.chance.choices(calls, weights, k=commands):
            try:
                call()
                self.done[call.__name__] += 1
            except OutcomeUnknownError:
                raise
            except ANSWERS as answer:
                self.done[type(answer).__name__] += 1
        return self.done

    def _one(self) -> str:
        return self.chance.choice(self.ids)

    def fill(self, jobs: int) -> None:
        """So many jobs of its own."""
        for _ in range(jobs):
            self._create(None)

    def _create_again(self) -> None:
        self._create(f"key-{self.chance.randrange(50)}")

    def _create(self, key: str | None) -> None:
        metadata = {"part": str(self.chance.randrange(20))}
        self.ids.append(self.jobs.create("/x", {"a": 1}, organization_id="org", idempotency_key=key, metadata=metadata).id)

    def _cancel(self) -> None:
        self.jobs.cancel(self._one())

    def _retry(self) -> None:
        self.jobs.retry(self._one(), retry_key=self.chance.choice([None, "a", "b"]))

    def _work(self) -> None:
        attempt = self.jobs.start(self.jobs.retrieve(self._one()).delivery)
        if self.chance.random() < 0.3:
            attempt.heartbeat(progress=0.5)
        ending = self.chance.randrange(5)
        if ending == 0:
            attempt.complete({"result": 1})
        elif ending == 1:
            attempt.fail(JobError(code="broken", message="for good"))
        elif ending == 2:
            attempt.fail(JobError(code="broken", message="again"), retryable=True)
        elif ending == 3:
            attempt.give_back()

    def _sweep(self) -> None:
        self.jobs.sweep()

    def _bulk(self) -> None:
        self.jobs.retry_many(status=["failed", "cancelled"], metadata={"part": str(self.chance.randrange(20))})


def hammered(url: URL, first: int, jobs: int, threads: int, commands: int) -> Counter[str]:
    """What one process does: as many jobs, and threads with connections of their own."""
    engine = engine_of(url, pool_size=threads, max_overflow=0)
    ids: list[str] = []
    hammers = [Hammer(engine, ids, first + number) for number in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for filled in [pool.submit(hammer.fill, jobs // threads) for hammer in hammers]:
            filled.result()
        runs = [pool.submit(hammer.run, commands // threads) for hammer in hammers]
        done: Counter[str] = Counter()
        for run in runs:
            done.update(run.result())
    engine.dispose()
    return done


@pytest.fixture
def engine(server: URL) -> Iterator[Engine]:
    made = engine_of(server)
    emptied(made)
    SQLAlchemyRepository(made).create_schema()
    yield made
    emptied(made)
    made.dispose()


def everybody(repository: SQLAlchemyRepository) -> Iterator[Job]:
    after: str | None = None
    while jobs := repository.list(JobFilter(), PageRequest(1_000, after=after)).jobs:
        yield from jobs
        after = jobs[-1].id


def check(repository: SQLAlchemyRepository) -> Counter[str]:
    """Each job is what its history tells; the events that were seen."""
    events: Counter[str] = Counter()
    for job in everybody(repository):
        records = list(repository.history(job.id))
        told = replay(records)
        for name in Job.model_fields.keys() - NOT_REPLAYED:
            assert getattr(told, name) == getattr(job, name), f"{job.id}: {name}"
        assert (told.lease and told.lease.token) == (job.lease and job.lease.token)
        versions = [record.version for record in records]
        assert versions == sorted(set(versions))
        assert versions[-1] <= job.version
        assert sum(record.event is Event.START for record in records) == job.attempt_count
        events.update(str(record.event) for record in records)
    return events


EVENTS = {"created", "start", "complete", "fail", "release", "give_back", "cancel", "retry", "expire"}


def test_histories_tell_their_jobs_after_random_commands(server: URL, engine: Engine) -> None:
    done = hammered(server, 1, jobs=160, threads=4, commands=2_000)
    events = check(SQLAlchemyRepository(engine))
    assert events.keys() >= EVENTS - {"expire"}, events
    assert done["_work"] > 100


_PROCESS = """
import sys
from sqlalchemy import make_url
from tests.test_sql_soak import hammered
print(sum(hammered(make_url(sys.argv[1]), int(sys.argv[2]), jobs=10_000, threads=8, commands=20_000).values()))
"""


@pytest.mark.full
def test_sixteen_connections_on_twenty_thousand_jobs(server: URL, engine: Engine) -> None:
    """Two processes, eight threads each: long enough for leases and jobs to run out."""
    address = server.render_as_string(hide_password=False)
    command = [sys.executable, "-c", _PROCESS, address]
    both = [subprocess.Popen([*command, str(seed)], cwd=ROOT, stdout=subprocess.PIPE, text=True) for seed in (100, 200)]
    counts = [int(process.communicate(timeout=900)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(counts) >= 40_000
    events = check(SQLAlchemyRepository(engine))
    print(f"{sum(counts):,} commands, {sum(events.values()):,} records: {dict(sorted(events.items()))}")
    assert events.keys() >= {*EVENTS, "rescue", "begin_cleanup"}, events
    assert events["created"] >= 20_000
