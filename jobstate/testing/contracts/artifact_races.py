"""Races of an artifact store, with real threads or tasks that begin together: its last clause."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from jobstate.errors import ArtifactConflictError, ArtifactNotFoundError
from jobstate.ports import ArtifactStore, AsyncArtifactStore
from jobstate.testing.contracts.artifacts import KEYS
from jobstate.testing.contracts.clauses import Suite
from jobstate.testing.contracts.race import PARTIES, ROUNDS, at_once, tasks_at_once
from jobstate.testing.contracts.samples import IDS

LARGE = 100_000
"""Bytes of an artifact that is put while others look."""


def _stored_once(answers: list[Any], values: list[bytes], found: bytes) -> None:
    """One of those who put other bytes under one key did, and its bytes are there; all others were told so."""
    assert all(answer is None or isinstance(answer, ArtifactConflictError) for answer in answers), answers
    assert answers.count(None) == 1, f"{answers.count(None)} were told that their own bytes are stored"
    assert found == values[answers.index(None)], "other bytes are there than those of who was told so"


VALUES = [bytes([number]) * LARGE for number in range(PARTIES)]
"""Bytes that differ, for one key."""


class ArtifactStoreRaces(Suite):
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


class AsyncArtifactStoreRaces(Suite):
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
