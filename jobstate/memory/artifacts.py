"""The artifact store in memory, of both colours."""

from __future__ import annotations

from threading import RLock

from jobstate.errors import (
    ArtifactConflictError,
    ArtifactNotFoundError,
)


class MemoryArtifactStore:
    """An `ArtifactStore` in memory."""

    def __init__(self) -> None:
        self._lock = RLock()
        self._data: dict[str, bytes] = {}

    def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        with self._lock:
            if self._data.setdefault(key, data) != data:
                raise ArtifactConflictError(key)

    def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        try:
            return self._data[key]
        except KeyError:
            raise ArtifactNotFoundError(key) from None

    def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        with self._lock:
            for key in [key for key in self._data if key.startswith(prefix)]:
                del self._data[key]

    def keys(self) -> list[str]:
        """All keys, sorted."""
        with self._lock:
            return sorted(self._data)


class AsyncMemoryArtifactStore:
    """An `AsyncArtifactStore` in memory; give it a `MemoryArtifactStore` to share its bytes."""

    def __init__(self, shared: MemoryArtifactStore | None = None) -> None:
        self._sync = MemoryArtifactStore() if shared is None else shared

    async def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        self._sync.put(key, data)

    async def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        return self._sync.get(key)

    async def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        self._sync.delete(prefix)

    def keys(self) -> list[str]:
        """All keys, sorted."""
        return self._sync.keys()
