"""Races with real threads, or tasks, that begin together: the last clause of each port."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Barrier
from typing import Any

from jobstate.errors import ArtifactConflictError, ArtifactNotFoundError, StaleJobError
from jobstate.lifecycle import Accepted
from jobstate.lifecycle.creation import creation_record
from jobstate.model import Delivery, Event, evolve
from jobstate.ports import ArtifactStore, AsyncArtifactStore, AsyncDispatcher, AsyncRepository, Dispatcher, Repository
from jobstate.query import PageRequest
from jobstate.testing.contracts import dispatcher as contract
from jobstate.testing.contracts.artifacts import KEYS
from jobstate.testing.contracts.dispatcher import check_received, delivery
from jobstate.testing.contracts.repository import EVERYTHING, IDS, example, transition

PARTIES = 8
ROUNDS = 20
LARGE = 100_000
"""Bytes of an artifact that is put while others look."""


@contextmanager
def _restless() -> Generator[None]:
    """Threads change places as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """Make these calls in threads that begin together: what each answered, or raised."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait(60)
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # the answer
            return error

    with _restless(), ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


async def tasks_at_once(*calls: Coroutine[Any, Any, Any]) -> list[Any]:
    """The same in tasks of one loop."""
    return list(await asyncio.gather(*calls, return_exceptions=True))


def _won(answers: list[Any]) -> int:
    """How many of those who wanted to save did; every other one was told that it came late."""
    assert all(answer is None or isinstance(answer, StaleJobError) for answer in answers), answers
    return sum(answer is None for answer in answers)


def _saved_in_bulk(repository: Repository, move: Accepted) -> Exception | None:
    return repository.save_many([move])[0]


class RepositoryRaces:
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


class AsyncRepositoryRaces:
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


# Dispatchers

DELIVERIES = [delivery(number, run) for number in range(PARTIES) for run in range(1, ROUNDS + 1)]
"""What is dispatched in a race: each party has a job of its own."""


def _name(given: Delivery) -> str:
    return f"{given.job_id}-{given.run}"


def _of(party: int) -> list[Delivery]:
    return DELIVERIES[party * ROUNDS : (party + 1) * ROUNDS]


class DispatcherRaces:
    """D06: every method may be called by several threads at once. Give it what the contract is given."""

    def open_dispatcher(self, folder: Path) -> Dispatcher:
        """A new dispatcher, whose engine is empty."""
        raise NotImplementedError("open_dispatcher: the races need a dispatcher")

    def received(self, dispatcher: Any) -> list[Delivery]:
        """What has been received since the last call."""
        raise NotImplementedError("received: say what a worker has received")

    def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each race."""

    def test_D06_what_many_dispatch_at_once_is_delivered(self, tmp_path: Path) -> None:
        """While others, all the time, take back what was never given."""
        dispatcher, done = self.open_dispatcher(tmp_path), list[int]()
        try:

            def dispatch(party: int) -> None:
                try:
                    for given in _of(party):
                        assert dispatcher.dispatch(given, _name(given))
                finally:
                    done.append(party)

            def revoke() -> None:
                while len(done) < PARTIES:
                    dispatcher.revoke("never-seen")

            answers = at_once(*(partial(dispatch, party) for party in range(PARTIES)), revoke, revoke)
            assert answers == [None] * (PARTIES + 2), answers
            check_received(self._until_all_are_there(dispatcher), DELIVERIES)
        finally:
            self.close_dispatcher(dispatcher)

    def _until_all_are_there(self, dispatcher: Any) -> list[Delivery]:
        end, found = time.monotonic() + contract.DEADLINE, self.received(dispatcher)
        while not set(found) >= set(DELIVERIES) and time.monotonic() < end:
            time.sleep(0.01)
            found += self.received(dispatcher)
        return found


class AsyncDispatcherRaces:
    """D06 of the async twin: every method may be called by several tasks at once."""

    async def open_dispatcher(self, folder: Path) -> AsyncDispatcher:
        """A new dispatcher, whose engine is empty."""
        raise NotImplementedError("open_dispatcher: the races need a dispatcher")

    async def received(self, dispatcher: Any) -> list[Delivery]:
        """What has been received since the last call."""
        raise NotImplementedError("received: say what a worker has received")

    async def close_dispatcher(self, dispatcher: Any) -> None:
        """Let go of it, after each race."""

    def test_D06_what_many_dispatch_at_once_is_delivered(self, tmp_path: Path) -> None:
        """While others take back what was never given."""
        with asyncio.Runner() as runner:
            runner.run(self._race(tmp_path))

    async def _race(self, folder: Path) -> None:
        dispatcher = await self.open_dispatcher(folder)
        try:
            dispatches = [dispatcher.dispatch(given, _name(given)) for given in DELIVERIES]
            answers = await tasks_at_once(*dispatches, *(dispatcher.revoke(f"never-seen-{n}") for n in range(ROUNDS)))
            assert not [answer for answer in answers if isinstance(answer, Exception)], answers
            check_received(await self._until_all_are_there(dispatcher), DELIVERIES)
        finally:
            await self.close_dispatcher(dispatcher)

    async def _until_all_are_there(self, dispatcher: Any) -> list[Delivery]:
        end, found = time.monotonic() + contract.DEADLINE, await self.received(dispatcher)
        while not set(found) >= set(DELIVERIES) and time.monotonic() < end:
            await asyncio.sleep(0.01)
            found += await self.received(dispatcher)
        return found


# Artifact stores


def _stored_once(answers: list[Any], values: list[bytes], found: bytes) -> None:
    """One of those who put other bytes under one key did, and its bytes are there; all others were told so."""
    assert all(answer is None or isinstance(answer, ArtifactConflictError) for answer in answers), answers
    assert answers.count(None) == 1, f"{answers.count(None)} were told that their own bytes are stored"
    assert found == values[answers.index(None)], "other bytes are there than those of who was told so"


VALUES = [bytes([number]) * LARGE for number in range(PARTIES)]
"""Bytes that differ, for one key."""


class ArtifactStoreRaces:
    """A07: every method may be called by several threads at once. Give it what the contract is given."""

    def open_store(self, folder: Path) -> ArtifactStore:
        """A new, empty store."""
        raise NotImplementedError("open_store: the races need a store")

    def close_store(self, store: Any) -> None:
        """Let go of it, after each race."""

    def test_A07_of_many_who_put_under_one_key_one_does(self, tmp_path: Path) -> None:
        """The same bytes are fine for all."""
        store = self.open_store(tmp_path)
        try:
            for number in range(ROUNDS):
                key = f"{KEYS[1]}-{number}"
                answers = at_once(*(partial(store.put, key, data) for data in VALUES))
                _stored_once(answers, VALUES, store.get(key))
                assert at_once(*[partial(store.put, KEYS[0], b"same")] * PARTIES) == [None] * PARTIES
        finally:
            self.close_store(store)

    def test_A07_an_artifact_is_there_whole_or_not_at_all(self, tmp_path: Path) -> None:
        """While it is put and deleted again and again; another job's stays."""
        store = self.open_store(tmp_path)
        try:
            store.put(KEYS[4], b"other")

            def write() -> None:
                for _ in range(ROUNDS):
                    store.put(KEYS[0], VALUES[1])
                    store.delete(f"{IDS[3]}/")

            def read() -> None:
                for _ in range(ROUNDS):
                    assert store.get(KEYS[4]) == b"other"
                    try:
                        assert store.get(KEYS[0]) == VALUES[1], "a part of it"
                    except ArtifactNotFoundError:
                        continue

            answers = at_once(write, write, read, read)
            assert answers == [None] * 4, answers
        finally:
            self.close_store(store)


class AsyncArtifactStoreRaces:
    """A07 of the async twin: every method may be called by several tasks at once."""

    async def open_store(self, folder: Path) -> AsyncArtifactStore:
        """A new, empty store."""
        raise NotImplementedError("open_store: the races need a store")

    async def close_store(self, store: Any) -> None:
        """Let go of it, after each race."""

    def test_A07_of_many_who_put_under_one_key_one_does(self, tmp_path: Path) -> None:
        """The same bytes are fine for all."""
        with asyncio.Runner() as runner:
            runner.run(self._race(tmp_path))

    async def _race(self, folder: Path) -> None:
        store = await self.open_store(folder)
        try:
            for number in range(ROUNDS):
                key = f"{KEYS[1]}-{number}"
                answers = await tasks_at_once(*(store.put(key, data) for data in VALUES))
                _stored_once(answers, VALUES, await store.get(key))
                same = await tasks_at_once(*(store.put(KEYS[0], b"same") for _ in VALUES))
                assert same == [None] * PARTIES, same
        finally:
            await self.close_store(store)
