"""What the examples' tests need besides the examples: servers from wheels, processes that are gone at the end."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.postgresql import server
from tests.valkey import valkey

__all__ = ["server", "valkey"]

ROOT = Path(__file__).parent.parent
DEADLINE = 60

Start = Callable[..., subprocess.Popen[bytes]]
Until = Callable[[Callable[[], object]], None]


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Start]:
    """Start `python ARGUMENTS` in the example's folder, with variables; killed at the end, if it still runs."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        with (tmp_path / "log").open("ab") as log:
            command = [sys.executable, *arguments]
            folder = request.path.parent
            started.append(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
            )
        return started[-1]

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.wait()


@pytest.fixture
def until(tmp_path: Path) -> Until:
    """Ask again until it is so; what the processes have logged stands in the failure."""

    def wait(condition: Callable[[], object]) -> None:
        end = time.monotonic() + DEADLINE
        while not condition():
            log = tmp_path / "log"
            assert time.monotonic() < end, log.read_text() if log.exists() else "it never was so"
            time.sleep(0.02)

    return wait
