"""Artifact stores on a file system and at fsspec addresses: the contract, the races, and a writer that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]

from jobstate import ArtifactConflictError, ArtifactError, ArtifactNotFoundError, AsyncJobs, InvalidInputError, Jobs
from jobstate.adapters.filesystem import AsyncFileSystemArtifactStore, FileSystemArtifactStore
from jobstate.adapters.fsspec import AsyncFsspecArtifactStore, FsspecArtifactStore
from jobstate.memory import AsyncMemoryRepository, MemoryRepository
from jobstate.ports import ArtifactStore
from jobstate.testing import ArtifactStoreContract, AsyncArtifactStoreContract
from jobstate.testing.contracts.artifact_races import ArtifactStoreRaces, AsyncArtifactStoreRaces

JOB = "job_" + "0" * 21
KEY = f"{JOB}/request/scan.pdf"


class Files:
    def open_store(self, folder: Path) -> FileSystemArtifactStore:
        return FileSystemArtifactStore(folder / "artifacts")


class AsyncFiles:
    async def open_store(self, folder: Path) -> AsyncFileSystemArtifactStore:
        return AsyncFileSystemArtifactStore(folder / "artifacts")


class TestFileSystem(Files, ArtifactStoreContract):
    pass


class TestAsyncFileSystem(AsyncFiles, AsyncArtifactStoreContract):
    pass


class TestFileSystemRaces(Files, ArtifactStoreRaces):
    pass


class TestAsyncFileSystemRaces(AsyncFiles, AsyncArtifactStoreRaces):
    pass


class Local:
    def open_store(self, folder: Path) -> FsspecArtifactStore:
        return FsspecArtifactStore(f"file://{folder}/artifacts")


class AsyncLocal:
    async def open_store(self, folder: Path) -> AsyncFsspecArtifactStore:
        return AsyncFsspecArtifactStore(f"file://{folder}/artifacts")


class TestFsspecLocal(Local, ArtifactStoreContract):
    pass


class TestAsyncFsspecLocal(AsyncLocal, AsyncArtifactStoreContract):
    pass


class TestFsspecLocalRaces(Local, ArtifactStoreRaces):
    pass


class TestAsyncFsspecLocalRaces(AsyncLocal, AsyncArtifactStoreRaces):
    pass


class Memory:
    """All of fsspec's memory is one: each test has an address of its own."""

    def open_store(self, folder: Path) -> FsspecArtifactStore:
        return FsspecArtifactStore(f"memory://{folder.name}")


class AsyncMemory:
    async def open_store(self, folder: Path) -> AsyncFsspecArtifactStore:
        return AsyncFsspecArtifactStore(f"memory://{folder.name}")


class TestFsspecMemory(Memory, ArtifactStoreContract):
    pass


class TestAsyncFsspecMemory(AsyncMemory, AsyncArtifactStoreContract):
    pass


class TestFsspecMemoryRaces(Memory, ArtifactStoreRaces):
    pass


class TestAsyncFsspecMemoryRaces(AsyncMemory, AsyncArtifactStoreRaces):
    pass


STORES = ["files", "local", "memory"]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "files":
        return Files().open_store(tmp_path)
    return Local().open_store(tmp_path) if request.param == "local" else Memory().open_store(tmp_path)


ODD = ["..", ".", "...", ".hidden", "%2E%2E", "a\\b", "a\0b", "C:", "~", "*", "a?b#c", "ä", "a b", "CON", "job[1]", "%"]


def test_no_name_leads_out_of_its_folder_or_meets_another(store: ArtifactStore, tmp_path: Path) -> None:
    outside = {path for path in tmp_path.parent.iterdir() if path != tmp_path}
    keys = [f"{JOB}/{name}/x" for name in ODD] + [f"{JOB}/1/{name}" for name in ODD]
    for key in keys:
        store.put(key, key.encode())
    assert [store.get(key) for key in keys] == [key.encode() for key in keys]
    assert {path for path in tmp_path.parent.iterdir() if path != tmp_path} == outside
    for key in keys[len(ODD) :]:
        store.delete(key)
        with pytest.raises(ArtifactNotFoundError):
            store.get(key)
    assert [store.get(key) for key in keys[: len(ODD)]] == [key.encode() for key in keys[: len(ODD)]]


@pytest.mark.parametrize("key", ["", "/", "/etc/passwd", f"{JOB}//x", f"{JOB}/x/"])
def test_a_key_with_an_empty_segment_is_refused(store: ArtifactStore, key: str) -> None:
    with pytest.raises(InvalidInputError, match="none of them empty"):
        store.put(key, b"x")
    with pytest.raises(InvalidInputError):
        store.get(key)


def test_a_prefix_may_end_inside_a_name(store: ArtifactStore) -> None:
    keys = [f"{JOB}/1/page", f"{JOB}/1/pages", f"{JOB}/10/page", f"{JOB}/2/page"]
    for key in keys:
        store.put(key, b"x")
    store.delete(f"{JOB}/1/pages")
    assert store.get(keys[0]) == b"x"
    store.delete(f"{JOB}/1")
    for key in keys[:3]:
        with pytest.raises(ArtifactNotFoundError):
            store.get(key)
    assert store.get(keys[3]) == b"x"
    with pytest.raises(InvalidInputError):
        store.delete("/")


def test_a_folder_is_no_artifact(store: ArtifactStore) -> None:
    store.put(KEY, b"x")
    for key in (JOB, f"{JOB}/request", f"{KEY}/deeper"):
        with pytest.raises(ArtifactNotFoundError):
            store.get(key)


def test_nothing_is_left_on_the_disk_but_what_was_put(tmp_path: Path) -> None:
    store = Files().open_store(tmp_path)
    store.put(KEY, b"one")
    store.put(KEY, b"one")
    with pytest.raises(ArtifactConflictError):
        store.put(KEY, b"two")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files == [tmp_path / "artifacts" / KEY]
    store.delete(f"{JOB}/")
    assert list((tmp_path / "artifacts").iterdir()) == []


def test_a_file_where_a_folder_should_be_is_an_error_of_the_store(tmp_path: Path) -> None:
    store = Files().open_store(tmp_path)
    store.put(f"{JOB}/1", b"x")
    with pytest.raises(ArtifactError):
        store.put(f"{JOB}/1/page", b"x")
    assert store.get(f"{JOB}/1") == b"x"


def test_two_stores_on_one_folder_are_one(tmp_path: Path) -> None:
    one, two = Files().open_store(tmp_path), Local().open_store(tmp_path)
    one.put(KEY, b"one")
    with pytest.raises(ArtifactConflictError):
        two.put(KEY, b"two")
    assert two.get(KEY) == b"one"
    two.delete(f"{JOB}/")
    with pytest.raises(ArtifactNotFoundError):
        one.get(KEY)


def test_each_store_is_of_its_colour(tmp_path: Path) -> None:
    Jobs(MemoryRepository(), artifacts=Files().open_store(tmp_path))
    AsyncJobs(AsyncMemoryRepository(), artifacts=AsyncFileSystemArtifactStore(tmp_path))
    with pytest.raises(TypeError, match="AsyncJobs"):
        Jobs(MemoryRepository(), artifacts=AsyncFsspecArtifactStore("memory://"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Killed in the middle

SIZE = 1_000_000
PLACES = {
    "half of it is written": "resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, SIZE // 2))\n"
    "signal.signal(signal.SIGXFSZ, signal.SIG_DFL)",
    "it is written": "os.fsync = die",
    "it is about to take its place": "os.link = die",
    "it has taken its place": "link = os.link\nos.link = lambda *names: (link(*names), die())",
}
"""What kills a process there. The kernel itself does the first, at half of the file."""

PUT = """
import os, resource, signal
from jobstate.adapters.{module} import {store}

SIZE = {size}

def die(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

store = {store}({address!r})
{place}
store.put({key!r}, b"x" * SIZE)
"""


def killed(place: str, module: str, store: str, address: str) -> None:
    code = PUT.format(module=module, store=store, size=SIZE, address=address, place=PLACES[place], key=KEY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert -done.returncode in (signal.SIGKILL, signal.SIGXFSZ), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["files", "local"])
def test_a_writer_killed_in_the_middle_of_a_put_leaves_all_or_nothing(tmp_path: Path, kind: str, place: str) -> None:
    folder = tmp_path / "artifacts"
    if kind == "files":
        killed(place, "filesystem", "FileSystemArtifactStore", str(folder))
    else:
        killed(place, "fsspec", "FsspecArtifactStore", f"file://{folder}")
    left = [path.stat().st_size for path in folder.rglob(".*")]
    assert left == [SIZE // 2 if place.startswith("half") else SIZE]
    store = FileSystemArtifactStore(folder)
    if place == "it has taken its place":
        assert store.get(KEY) == b"x" * SIZE
    else:
        with pytest.raises(ArtifactNotFoundError):
            store.get(KEY)
    store.put(KEY, b"x" * SIZE)
    assert store.get(KEY) == b"x" * SIZE
    store.delete(f"{JOB}/")
    assert list(folder.iterdir()) == []


@pytest.fixture(autouse=True)
def empty_memory() -> Iterator[None]:
    yield
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
