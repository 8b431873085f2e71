"""Artifacts as files in a folder: `FileSystemArtifactStore` and its async twin. Needs nothing but Python.

A key is a path below the folder: each of its segments is percent-encoded, so that no key leads out of the folder, and none
begins with a dot. What begins with a dot is a file that is still being written, or whose writer was killed: nobody reads it,
and it goes with the clean-up of its job.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from urllib.parse import quote

from jobstate.errors import ArtifactConflictError, ArtifactError, ArtifactNotFoundError, InvalidInputError
from jobstate.ports import ArtifactStore

TRIES = 100
"""How often a put begins again when its folder is removed under it."""


def segments(key: str) -> list[str]:
    """The segments of a key, each as a name that is safe in any path and URL. Raises InvalidInputError for an empty one."""
    found = [quote(segment, safe="") for segment in key.split("/")]
    if not all(found):
        raise InvalidInputError("key", f"{key!r}: a key is a path of segments with '/' between them, none of them empty")
    return ["%2E" + name[1:] if name.startswith(".") else name for name in found]


class FileSystemArtifactStore:
    """An `ArtifactStore` in a folder, which is made if it is not there. Several processes may share it.

    A put is atomic and durable: the bytes are written beside their place, synced, and linked there, which fails if the place is
    taken. So the file system must have hard links, and tell upper case from lower. A store's error is an OSError.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._root = Path(folder).absolute()
        self._root.mkdir(parents=True, exist_ok=True)
        _sync(self._root.parent)

    def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        path = self._root.joinpath(*segments(key))
        for _ in range(TRIES):
            try:
                return self._put(path, key, data)
            except (FileNotFoundError, FileExistsError):  # a clean-up took the folder meanwhile
                continue
        raise ArtifactError(key)

    def _put(self, path: Path, key: str, data: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name("." + token_hex(16))
        try:
            _write(unfinished, data)
            try:
                os.link(unfinished, path)
            except FileExistsError:
                if path.read_bytes() != data:
                    raise ArtifactConflictError(key) from None
            self._sync_down_to(path.parent)
        finally:
            unfinished.unlink(missing_ok=True)

    def _sync_down_to(self, folder: Path) -> None:
        """Every folder on the way may be new, to whoever made it."""
        while folder != self._root:
            _sync(folder)
            folder = folder.parent
        _sync(folder)

    def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        try:
            return self._root.joinpath(*segments(key)).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise ArtifactNotFoundError(key) from None

    def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        *above, last = prefix.split("/")
        folder = self._root.joinpath(*segments("/".join(above))) if above else self._root
        _clear(folder, *segments(last) if last else ())
        if folder != self._root and not last:
            _remove(folder)


class AsyncInThreads:
    """A sync store as an `AsyncArtifactStore`: each call in a thread of its own."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store

    async def put(self, key: str, data: bytes) -> None:
        """As `ArtifactStore.put`."""
        await asyncio.to_thread(self._store.put, key, data)

    async def get(self, key: str) -> bytes:
        """As `ArtifactStore.get`."""
        return await asyncio.to_thread(self._store.get, key)

    async def delete(self, prefix: str) -> None:
        """As `ArtifactStore.delete`."""
        await asyncio.to_thread(self._store.delete, prefix)


class AsyncFileSystemArtifactStore(AsyncInThreads):
    """`FileSystemArtifactStore`, awaited: in threads."""

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        super().__init__(FileSystemArtifactStore(folder))


def _write(path: Path, data: bytes) -> None:
    """A new file, on the disk when this returns."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(folder: Path) -> None:
    """The names in a folder, on the disk when this returns. Windows has no such call, and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _clear(folder: Path, beginning: str = "") -> None:
    """Remove what is in a folder under names that begin so, as far as nobody else does it, or puts something there."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for entry in list(os.scandir(folder)):
            if not entry.name.startswith(beginning):
                continue
            if entry.is_dir(follow_symlinks=False):
                _clear(folder / entry.name)
                _remove(folder / entry.name)
            else:
                (folder / entry.name).unlink(missing_ok=True)
        _sync(folder)


def _remove(folder: Path) -> None:
    """Remove a folder if it is empty; one that is left has no artifact in it, or a new one."""
    with suppress(OSError):
        folder.rmdir()
