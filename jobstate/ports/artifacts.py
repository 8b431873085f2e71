"""Where large parts are kept."""

from __future__ import annotations

from typing import Protocol


class ArtifactStore(Protocol):
    """Keeps bytes under keys that begin with a job's id and a slash.

    A01 `put` stores all of the bytes, and `get` answers them.
    A02 `put` of the same bytes again is fine.
    A03 `put` of other bytes under a key that is there is ArtifactConflictError and changes nothing.
    A04 `get` of an unknown key is ArtifactNotFoundError.
    A05 `delete` removes everything whose key begins with the prefix, and nothing else.
    A06 `delete` where nothing is, is fine.
    A07 Every method may be called by several threads at once (the async twin: by several tasks).
    """

    def put(self, key: str, data: bytes) -> None:
        """Store bytes. A01 to A03."""
        ...

    def get(self, key: str) -> bytes:
        """The bytes. A01, A04."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove what stands under a prefix. A05, A06. Idempotent."""
        ...


class AsyncArtifactStore(Protocol):
    """`ArtifactStore`, awaited."""

    async def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        ...

    async def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        ...

    async def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        ...
