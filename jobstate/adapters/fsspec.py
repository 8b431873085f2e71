"""Artifacts at any address that fsspec knows: `s3://bucket/folder`, `gs://bucket/folder`, `file:///folder`, `memory://`, ...

Needs `jobstate[fsspec]`, and fsspec's own package for the protocol (`s3fs`, `gcsfs`, ...).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from threading import RLock
from typing import Any, cast

from jobstate.adapters.filesystem import AsyncInThreads, FileSystemArtifactStore, segments
from jobstate.errors import ArtifactConflictError, ArtifactError, ArtifactNotFoundError
from jobstate.extra import needs_extra
from jobstate.ports import ArtifactStore

with needs_extra("fsspec"):
    from fsspec.core import url_to_fs  # type: ignore[import-untyped]
    from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

TRIES = 10
"""How often a put begins again when what it found in its place is gone."""

_MEMORY = RLock()
"""All of fsspec's memory is one, and not thread-safe."""


class FsspecArtifactStore:
    """An `ArtifactStore` at an fsspec address; `options` go to its file system (credentials, `endpoint_url`, ...).

    A put is one upload that is to fail if the key is taken (fsspec's `mode="create"`). That is atomic where the file system's
    package makes it so, as `s3fs` does by a conditional write. Elsewhere fsspec looks first and writes then: of two who put
    other bytes under one key in the same moment the later one wins, and what is half written may be seen if the backend shows
    it. Local files are kept as `FileSystemArtifactStore` keeps them. A store's error is whatever the file system raises.
    """

    def __init__(self, address: str, **options: Any) -> None:
        own = {"use_listings_cache": False, "skip_instance_cache": True}  # other processes write there too
        opened = cast("tuple[Any, str]", url_to_fs(address, **own | options))
        self._fs, self._root = opened
        self._local: ArtifactStore | None = None
        if isinstance(self._fs, LocalFileSystem):
            self._local = FileSystemArtifactStore(self._root)
        self._lock: AbstractContextManager[Any] = _MEMORY if isinstance(self._fs, MemoryFileSystem) else nullcontext()

    def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        if self._local is not None:
            return self._local.put(key, data)
        for _ in range(TRIES):
            try:
                with self._lock:
                    self._fs.pipe_file(self._path(key), data, mode="create")
                return None
            except FileExistsError:
                if self._holds(key, data):
                    return None
        raise ArtifactError(key)

    def _holds(self, key: str, data: bytes) -> bool:
        """Whether these bytes are there; False when nothing is there any more."""
        try:
            if self.get(key) != data:
                raise ArtifactConflictError(key)
        except ArtifactNotFoundError:
            return False
        return True

    def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        if self._local is not None:
            return self._local.get(key)
        try:
            with self._lock:
                return bytes(self._fs.cat_file(self._path(key)))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ArtifactNotFoundError(key) from None

    def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        if self._local is not None:
            return self._local.delete(prefix)
        *above, last = prefix.split("/")
        folder = self._path("/".join(above)) if above else self._root
        beginning = f"{folder}/{segments(last)[0] if last else ''}"
        with self._lock:
            for path in self._fs.find(folder):
                if path.startswith(beginning):
                    self._remove(path)
        return None

    def _remove(self, path: str) -> None:
        try:
            self._fs.rm_file(path)
        except FileNotFoundError:  # somebody else did
            return

    def _path(self, key: str) -> str:
        return "/".join([self._root.rstrip("/"), *segments(key)])


class AsyncFsspecArtifactStore(AsyncInThreads):
    """`FsspecArtifactStore`, awaited: in threads."""

    def __init__(self, address: str, **options: Any) -> None:
        super().__init__(FsspecArtifactStore(address, **options))
