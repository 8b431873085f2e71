"""More and more processes on one PostgreSQL, which is the queue: whole lives in the same time or less, and no conflicts.

Each process creates its share of the jobs, one by one, and then a `Worker` in it runs what is pending, until all are finished.
All processes are there from the beginning, and those that have no share in a round wait for a message.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import URL, make_url

from benchmarks.measure import report, turns
from jobstate import Jobs, Worker
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.lifecycle import Accepted
from tests.postgresql import emptied, engine_of
from tests.sql import AUTOMATIC

JOBS = 800
AT_ONCE = 4
"""In each process."""
COUNTS = (1, 2, 4, 8)
ROUNDS = 7
PATIENCE = 120.0
"""Seconds for a round."""
_FINISHED = "SELECT count(*) FROM jobstate_jobs WHERE status = 'completed'"
_COUNTED = threading.Lock()
_TWICE = "SELECT count(*) FROM jobstate_jobs WHERE attempt_count <> 1"


class Lives(NamedTuple):
    """Seconds for all jobs; how many saves met a conflict or an error, and how many jobs were started more than once."""

    seconds: float
    conflicts: int


class Counting(SQLAlchemyRepository):
    """A repository that counts the answers that are errors, what PostgreSQL does not serialize and deadlocks among them."""

    conflicts = 0

    def _counted(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception:
            self._count(1)
            raise

    def _count(self, number: int) -> None:
        with _COUNTED:
            Counting.conflicts += number

    def save(self, transition: Accepted, **options: Any) -> None:
        self._counted(lambda: super(Counting, self).save(transition, **options))

    def save_many(self, transitions: Sequence[Accepted]) -> Any:
        answers = self._counted(lambda: super(Counting, self).save_many(transitions))
        self._count(sum(answer is not None for answer in answers))
        return answers

    def move_due(self, *arguments: Any, **options: Any) -> Any:
        moved = self._counted(lambda: super(Counting, self).move_due(*arguments, **options))
        self._count(sum(answer is not None for answer in moved.answers))
        return moved


def process(address: str, parent: Connection) -> None:
    """A process: told how many jobs to create, it works until it is told to stop, and says how many conflicts it met."""
    engine = engine_of(make_url(address), **AUTOMATIC, pool_size=AT_ONCE + 2)
    jobs = Jobs(Counting(engine))
    ours = jobs.for_organization("org")
    parent.send("ready")
    while share := parent.recv():
        Counting.conflicts = 0
        for _ in range(share):
            ours.create("/v1/words", {"text": "to be or not to be"})
        worker = Worker(jobs, lambda request, _: len(request["text"]), concurrency=AT_ONCE, poll=0.1)
        thread = threading.Thread(target=worker.run)
        thread.start()
        parent.recv()
        worker.stop()
        thread.join()
        parent.send(Counting.conflicts)
    engine.dispose()


@contextmanager
def started(address: str, count: int) -> Generator[list[Connection]]:
    """So many processes, all of them ready."""
    spawn = multiprocessing.get_context("spawn")
    pipes = [spawn.Pipe() for _ in range(count)]
    children = [spawn.Process(target=process, args=(address, its), daemon=True) for _, its in pipes]
    for child, (_, its) in zip(children, pipes, strict=True):
        child.start()
        its.close()
    for ours, _ in pipes:
        ours.recv()
    yield [ours for ours, _ in pipes]
    for child, (ours, _) in zip(children, pipes, strict=True):
        ours.send(0)
        child.join()


def lives(url: URL, jobs: int = JOBS, counts: Sequence[int] = COUNTS, rounds: int = ROUNDS) -> None:
    """Rounds of 1, 2, 4, 8 processes in turn, each against one process in the same round."""
    engine = engine_of(url)
    SQLAlchemyRepository(engine).create_schema()
    address = url.render_as_string(hide_password=False)
    dsn = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(dsn, autocommit=True) as seen, started(address, max(counts)) as working:
        found = [[_round(seen, working[:count], jobs) for count in counts] for _ in turns(rounds)][1:]
    for number, count in enumerate(counts):
        if count > 1:
            times = [(row[number].seconds * 1e6 / jobs, row[0].seconds * 1e6 / jobs) for row in found]
            report(f"a life, {jobs} jobs by {count} processes / by one, on PostgreSQL", times, asked=1.0)
    for number, count in enumerate(counts):
        vain = [(float(row[number].conflicts), float(jobs)) for row in found]
        who = "one process" if count == 1 else f"{count} processes"
        report(f"conflicts, errors and second starts, {who} / jobs", vain, "", asked=0.01)
    emptied(engine)
    engine.dispose()


def _round(seen: psycopg.Connection, working: Sequence[Connection], jobs: int) -> Lives:
    seen.execute("TRUNCATE jobstate_jobs, jobstate_payloads, jobstate_history")
    begin = time.perf_counter()
    for each in working:
        each.send(jobs // len(working))
    while _number(seen, _FINISHED) < jobs:
        assert time.perf_counter() < begin + PATIENCE
        time.sleep(0.005)
    seconds = time.perf_counter() - begin
    for each in working:
        each.send("stop")
    return Lives(seconds, sum(each.recv() for each in working) + _number(seen, _TWICE))


def _number(seen: psycopg.Connection, question: str) -> int:
    row = seen.execute(question.encode()).fetchone()
    assert row is not None
    return int(row[0])
