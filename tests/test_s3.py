"""The fsspec store on the API of S3, as `moto` serves it on loopback."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.request import Request, urlopen

import pytest
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer

from jobstate import ArtifactConflictError, ArtifactNotFoundError
from jobstate.adapters.fsspec import AsyncFsspecArtifactStore, FsspecArtifactStore
from jobstate.testing import ArtifactStoreContract, AsyncArtifactStoreContract
from jobstate.testing.contracts.artifact_races import ArtifactStoreRaces, AsyncArtifactStoreRaces

KEY = "job_" + "0" * 21 + "/request/scan.pdf"
ACCESS = {"key": "testing", "secret": "testing"}


@pytest.fixture(scope="module", autouse=True)
def conditional_writes() -> Iterator[None]:
    """`moto` decides on a conditional write and makes it in two steps; S3 does it in one."""
    plain: Any = S3Response.put_object
    lock = Lock()

    def put_object(response: Any) -> Any:
        with lock:
            return plain(response)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "put_object", put_object)
        yield


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """The address of a server; it has one bucket."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    with urlopen(Request(f"{url}/bucket", method="PUT")):
        pass
    yield url
    server.stop()


FOLDERS = count()


def options(endpoint: str) -> dict[str, Any]:
    return {**ACCESS, "endpoint_url": endpoint}


class OnS3:
    @pytest.fixture(autouse=True)
    def _address(self, endpoint: str) -> None:
        self.endpoint = endpoint


class TestS3(OnS3, ArtifactStoreContract):
    def open_store(self, folder: Path) -> FsspecArtifactStore:
        return FsspecArtifactStore(f"s3://bucket/{next(FOLDERS)}", **options(self.endpoint))


class TestAsyncS3(OnS3, AsyncArtifactStoreContract):
    async def open_store(self, folder: Path) -> AsyncFsspecArtifactStore:
        return AsyncFsspecArtifactStore(f"s3://bucket/{next(FOLDERS)}", **options(self.endpoint))


@pytest.mark.full
class TestS3Races(OnS3, ArtifactStoreRaces):
    def open_store(self, folder: Path) -> FsspecArtifactStore:
        return FsspecArtifactStore(f"s3://bucket/{next(FOLDERS)}", **options(self.endpoint))


@pytest.mark.full
class TestAsyncS3Races(OnS3, AsyncArtifactStoreRaces):
    async def open_store(self, folder: Path) -> AsyncFsspecArtifactStore:
        return AsyncFsspecArtifactStore(f"s3://bucket/{next(FOLDERS)}", **options(self.endpoint))


PUT = """
import os, signal, socket
from jobstate.adapters.fsspec import FsspecArtifactStore

send, sent = socket.socket.send, 0

def send_and_die(self, data, *flags):
    global sent
    if sent > 2_000_000:
        os.kill(os.getpid(), signal.SIGKILL)
    sent += (count := send(self, data[:500_000], *flags))
    return count

store = FsspecArtifactStore({address!r}, key="testing", secret="testing", endpoint_url={endpoint!r})
socket.socket.send = send_and_die
store.put({key!r}, b"x" * 5_000_000)
"""


def test_a_writer_killed_in_the_middle_of_an_upload_leaves_nothing(endpoint: str) -> None:
    address = f"s3://bucket/{next(FOLDERS)}"
    code = PUT.format(address=address, endpoint=endpoint, key=KEY)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert -done.returncode == signal.SIGKILL, done.stderr
    store = FsspecArtifactStore(address, **options(endpoint))
    with pytest.raises(ArtifactNotFoundError):
        store.get(KEY)
    store.put(KEY, b"whole")
    with pytest.raises(ArtifactConflictError):
        store.put(KEY, b"other")
    assert store.get(KEY) == b"whole"
