"""Races of a repository, with real threads or tasks that begin together: its last clause."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

from jobstate.errors import StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.model import Event, evolve
from jobstate.ports import AsyncRepository, Repository
from jobstate.query import PageRequest
from jobstate.testing.contracts.clauses import Suite
from jobstate.testing.contracts.race import PARTIES, ROUNDS, at_once, tasks_at_once
from jobstate.testing.contracts.samples import EVERYTHING, IDS, example, transition


def _won(answers: list[Any]) -> int:
    """How many of those who wanted to save did; every other one was told that it came late."""
    assert all(answer is None or isinstance(answer, StaleJobError) for answer in answers), answers
    return sum(answer is None for answer in answers)


def _saved_in_bulk(repository: Repository, move: Accepted) -> Exception | None:
    return repository.save_many([move])[0]


class RepositoryRaces(Suite):
    """R29: every method may be called by several threads at once. Give it what the contract is given."""

    def open_repository(self, folder: Path) -> Repository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the races need a repository")

    def close_repository(self, repository: Any) -> None:
        """Let go of it, after each race."""

    def test_R29_of_many_saves_on_one_version_one_is_done(self, tmp_path: Path) -> None:
        """And its record is the only one."""
        repository = self.open_repository(tmp_path)
        try:
            job = example()
            assert repository.insert(job, creation_record(job)) is None
            for _ in range(ROUNDS):
                moves = [transition(job, Event.FAIL, attempt_count=number) for number in range(PARTIES)]
                answers = at_once(*(partial(repository.save, move) for move in moves))
                assert _won(answers) == 1, answers
                winner = moves[answers.index(None)]
                job = evolve(job, winner.changes)
                there = repository.load(job.id, include_request=True, include_response=True)
                assert there == job
                assert list(repository.history(job.id, after_version=job.version - 1)) == [winner.record]
        finally:
            self.close_repository(repository)

    def test_R29_of_many_inserts_of_one_key_one_is_stored(self, tmp_path: Path) -> None:
        """All others get it as their answer."""
        repository = self.open_repository(tmp_path)
        try:
            jobs = [example(number, idempotency_key="one") for number in range(PARTIES)]
            answers = at_once(*(partial(repository.insert, job, creation_record(job)) for job in jobs))
            assert answers.count(None) == 1, answers
            first = jobs[answers.index(None)]
            assert {answer.id for answer in answers if answer is not None} == {first.id}
            assert repository.count(EVERYTHING) == 1
        finally:
            self.close_repository(repository)

    def test_R29_a_save_or_a_delete_is_done_never_both(self, tmp_path: Path) -> None:
        """Nor a bulk save."""
        repository = self.open_repository(tmp_path)
        try:
            for number in range(len(IDS)):
                job = example(number)
                assert repository.insert(job, creation_record(job)) is None
                move = transition(job)
                answers = at_once(
                    partial(repository.save, move),
                    partial(repository.delete, job.id, job.version),
                    partial(_saved_in_bulk, repository, move),
                )
                told = [answer if isinstance(answer, Exception) else None for answer in answers]
                assert _won(told) == 1, answers
                assert repository.count(EVERYTHING.model_copy(update={"ids": (job.id,)})) == (told[1] is not None)
        finally:
            self.close_repository(repository)

    def test_R29_readers_see_whole_versions(self, tmp_path: Path) -> None:
        """While a writer moves a job on, row and payload are of one version, and lists have every job."""
        repository = self.open_repository(tmp_path)
        try:
            for number in range(len(IDS)):
                job = example(number, request={"version": 1})
                assert repository.insert(job, creation_record(job)) is None
            job = example(0, request={"version": 1})

            def write() -> None:
                at = job
                for _ in range(ROUNDS):
                    move = transition(at, Event.FAIL, request={"version": at.version + 1})
                    repository.save(move)
                    at = evolve(at, move.changes)

            def read() -> None:
                for _ in range(ROUNDS):
                    there = repository.load(job.id, include_request=True)
                    assert there.request == {"version": there.version}, there
                    assert len(repository.list(EVERYTHING, PageRequest(50)).jobs) == len(IDS)

            answers = at_once(write, read, read)
            assert answers == [None] * 3, answers
        finally:
            self.close_repository(repository)


class AsyncRepositoryRaces(Suite):
    """R29 of the async twin: every method may be called by several tasks at once."""

    async def open_repository(self, folder: Path) -> AsyncRepository:
        """A new, empty repository."""
        raise NotImplementedError("open_repository: the races need a repository")

    async def close_repository(self, repository: Any) -> None:
        """Let go of it, after each race."""

    def _with_repository(self, folder: Path, race: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        async def run() -> None:
            repository = await self.open_repository(folder)
            try:
                await race(repository)
            finally:
                await self.close_repository(repository)

        with asyncio.Runner() as runner:
            runner.run(run())

    def test_R29_of_many_saves_on_one_version_one_is_done(self, tmp_path: Path) -> None:
        """And its record is the only one."""

        async def race(repository: Any) -> None:
            job = example()
            assert await repository.insert(job, creation_record(job)) is None
            for _ in range(ROUNDS):
                moves = [transition(job, Event.FAIL, attempt_count=number) for number in range(PARTIES)]
                answers = await tasks_at_once(*(repository.save(move) for move in moves))
                assert _won(answers) == 1, answers
                winner = moves[answers.index(None)]
                job = evolve(job, winner.changes)
                assert await repository.load(job.id, include_request=True, include_response=True) == job
                assert list(await repository.history(job.id, after_version=job.version - 1)) == [winner.record]

        self._with_repository(tmp_path, race)

    def test_R29_of_many_inserts_of_one_key_one_is_stored(self, tmp_path: Path) -> None:
        """All others get it as their answer."""

        async def race(repository: Any) -> None:
            jobs = [example(number, idempotency_key="one") for number in range(PARTIES)]
            answers = await tasks_at_once(*(repository.insert(job, creation_record(job)) for job in jobs))
            assert answers.count(None) == 1, answers
            first = jobs[answers.index(None)]
            assert {answer.id for answer in answers if answer is not None} == {first.id}
            assert await repository.count(EVERYTHING) == 1

        self._with_repository(tmp_path, race)
