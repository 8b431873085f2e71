"""The contract of an artifact store: a case for each clause."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobstate.drivers import Ports
from jobstate.effects import DeleteArtifacts, Flow, GetArtifact, PutArtifact
from jobstate.errors import ArtifactConflictError, ArtifactNotFoundError
from jobstate.memory import AsyncMemoryDispatcher, AsyncMemoryRepository, MemoryDispatcher, MemoryRepository
from jobstate.ports import ArtifactStore, AsyncArtifactStore
from jobstate.testing.contracts.clauses import Async, Contract, Sync, clause, clock
from jobstate.testing.contracts.samples import IDS, refused

KEYS = [f"{IDS[3]}/request/scan.pdf", f"{IDS[3]}/1/page", f"{IDS[3]}/1/page 2 €%_", f"{IDS[3]}/10/page", f"{IDS[4]}/1/page"]
"""Keys as the library makes them: job, part, name."""


def put(keys: list[str]) -> Flow[None]:
    """Put something under each."""
    for key in keys:
        yield from PutArtifact(key, key.encode())


def there(keys: list[str]) -> Flow[None]:
    """These are as they were put, and the others are not there."""
    for key in KEYS:
        if key in keys:
            assert (yield from GetArtifact(key)) == key.encode(), key
        else:
            yield from refused(GetArtifact(key), ArtifactNotFoundError)


class ArtifactStoreCases(Contract):
    """A case for each clause."""

    @clause("A01")
    def test_A01_what_is_put_is_got(self) -> Flow[None]:
        """Every byte, none at all, and many."""
        values = [bytes(range(256)), b"", b"\r\n\x00", b"x" * 3_000_000]
        for key, data in zip(KEYS, values, strict=False):
            yield from PutArtifact(key, data)
        for key, data in zip(KEYS, values, strict=False):
            found = yield from GetArtifact(key)
            assert type(found) is bytes, f"bytes are answered, not {type(found).__name__}"
            assert found == data, f"{key}: {len(found)} other bytes instead of {len(data)}"

    @clause("A02")
    def test_A02_the_same_bytes_again_are_fine(self) -> Flow[None]:
        yield from put(KEYS)
        yield from put(KEYS)
        yield from there(KEYS)

    @clause("A03")
    def test_A03_other_bytes_are_refused(self) -> Flow[None]:
        yield from put(KEYS)
        error = yield from refused(PutArtifact(KEYS[0], b"other"), ArtifactConflictError)
        assert KEYS[0] in str(error)
        yield from refused(PutArtifact(KEYS[1], b""), ArtifactConflictError)
        yield from there(KEYS)

    @clause("A04")
    def test_A04_an_unknown_key_is_not_found(self) -> Flow[None]:
        yield from put(KEYS[:1])
        yield from there(KEYS[:1])
        error = yield from refused(GetArtifact(KEYS[1]), ArtifactNotFoundError)
        assert KEYS[1] in str(error)

    @clause("A05")
    def test_A05_a_prefix_is_deleted_and_nothing_else(self) -> Flow[None]:
        yield from put(KEYS)
        yield from DeleteArtifacts(f"{IDS[3]}/1/")
        yield from there([KEYS[0], KEYS[3], KEYS[4]])
        yield from PutArtifact(KEYS[1], KEYS[1].encode())
        yield from DeleteArtifacts(f"{IDS[3]}/")
        yield from there([KEYS[4]])

    @clause("A06")
    def test_A06_nothing_to_delete_is_fine(self) -> Flow[None]:
        yield from DeleteArtifacts(f"{IDS[3]}/")
        yield from put(KEYS)
        yield from DeleteArtifacts(f"{IDS[5]}/")
        yield from there(KEYS)


class ArtifactStoreContract(Sync, ArtifactStoreCases):
    """The contract of an `ArtifactStore`."""

    def open_store(self, folder: Path) -> ArtifactStore:
        """A new, empty store."""
        raise NotImplementedError("open_store: the contract needs a store to hold to it")

    def close_store(self, store: Any) -> None:
        """Let go of it, after each case."""

    def open_ports(self, folder: Path) -> Ports:
        """As `Sync.open_ports`."""
        return Ports(MemoryRepository(), MemoryDispatcher(), self.open_store(folder), clock())

    def close_ports(self, ports: Ports) -> None:
        """As `Sync.close_ports`."""
        self.close_store(ports.artifacts)


class AsyncArtifactStoreContract(Async, ArtifactStoreCases):
    """The contract of an `AsyncArtifactStore`: the same, awaited."""

    async def open_store(self, folder: Path) -> AsyncArtifactStore:
        """A new, empty store."""
        raise NotImplementedError("open_store: the contract needs a store to hold to it")

    async def close_store(self, store: Any) -> None:
        """Let go of it, after each case."""

    async def open_ports(self, folder: Path) -> Ports:
        """As `Async.open_ports`."""
        return Ports(AsyncMemoryRepository(), AsyncMemoryDispatcher(), await self.open_store(folder), clock())

    async def close_ports(self, ports: Ports) -> None:
        """As `Async.close_ports`."""
        await self.close_store(ports.artifacts)
