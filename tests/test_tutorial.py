"""The tutorial, done as it stands: each file is written and each command is run, in the order of the page."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import pytest

PAGE = Path(__file__).parent.parent / "docs" / "tutorial.md"
ROOT = PAGE.parent.parent
STAYS = ("uvicorn ", "python worker.py")
DEADLINE = 60


def _until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.02)


class Reader:
    """One who sits in an empty folder and types in what stands on the page; ports are others than there."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port: int = probe.getsockname()[1]
        self._folder = folder
        self._stays: dict[str, subprocess.Popen[bytes]] = {}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "no_proxy": "*"}
        self._shell = subprocess.Popen(
            ["bash"],
            cwd=folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text.replace(":8000", f":{self._port}"))

    def type(self, command: str) -> list[str]:
        """What is printed by then. What stays is started beside, and waited for until it is there."""
        if command.startswith(STAYS):
            self._start(command)
            return []
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command.replace(':8000', f':{self._port}')}\necho ===$?\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        while not (line := self._shell.stdout.readline()).startswith("==="):
            assert line, lines
            lines.append(line.rstrip())
        assert line == "===0\n", (command, lines)
        return lines

    def _start(self, command: str) -> None:
        if command in self._stays:
            assert self._stays[command].wait(DEADLINE) == 1, "it is started again, so it has died before"
        words = command.replace("8000", str(self._port)).split()
        with (self._folder / f"{words[0]}.log").open("ab") as log:
            self._stays[command] = subprocess.Popen(
                [sys.executable, "-m", *words] if words[0] == "uvicorn" else [sys.executable, *words[1:]],
                cwd=self._folder,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if words[0] == "uvicorn":
            _until(self._answers, "the server does not answer")

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), timeout=1):
            return True
        return False

    def leave(self) -> None:
        for shell_child in psutil.Process(self._shell.pid).children(recursive=True):
            shell_child.kill()
        started: list[subprocess.Popen[Any]] = [self._shell, *self._stays.values()]
        for process in started:
            process.kill()
            process.wait()
        for stream in (self._shell.stdin, self._shell.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    made = Reader(tmp_path)
    yield made
    made.leave()


def _installs(command: str) -> None:
    """Nothing is installed by a test: what the command would install is here, by the name and the extras that it gives."""
    (extras,) = re.findall(r"jobstate\[([\w,]+)\]", command)
    declared = " ".join(requires("jobstate") or [])
    for extra in extras.split(","):
        assert re.search(rf"extra == ['\"]{extra}['\"]", declared), extra
        assert version(extra)
    assert version(command.split()[-1])


@pytest.mark.full
def test_the_tutorial_works_step_by_step(reader: Reader) -> None:
    blocks = re.findall(r"^```(python|sh|text)\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) > 20
    printed: list[str] = []
    for kind, text in blocks:
        if kind == "python":
            reader.write(text.split("\n", 1)[0].removeprefix("# "), text)
        elif kind == "text":
            assert printed == text.splitlines()
        else:
            printed = []
            for command in text.splitlines():
                if command.startswith("pip "):
                    _installs(command)
                elif ".venv" not in command:
                    printed += reader.type(command)
