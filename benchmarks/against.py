"""The benchmarks as they are now, on the `jobstate` of two revisions: what it took now and then.

There is a process for each of the two. Only one of them runs at any moment: it goes on to its next round, and then it is the
other's turn. Processes differ a little in speed by chance, so there are `PAIRS` of them, one after the other.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from benchmarks.measure import Result, report
from benchmarks.record import ROOT, results_of

PAIRS = 3
ROUNDS = 5
"""Of each comparison in each process, at most."""
_TURN = "the next round\n"


def turn() -> None:
    """In a process of a pair: let the other one go on, and wait. Ends the process when nobody is there to say when."""
    sys.stdout.write(_TURN)
    sys.stdout.flush()
    if not sys.stdin.readline():
        raise SystemExit("the other side has ended")


def compare(revision: str, parts: Sequence[str], rounds: int = ROUNDS, pairs: int = PAIRS) -> list[Result]:
    """Print and keep a line for each comparison: the time of its first way now, and at `revision`.

    Now is the folder as it is, with what is not committed. Raises SystemExit when there is no such revision, or when the
    benchmarks do not run on it.
    """
    with _folders(revision) as (now, then):
        both = [_pair((now, then) if number % 2 else (then, now), parts, rounds) for number in range(pairs)]
    rows: dict[str, list[tuple[float, float]]] = {}
    units: dict[str, str] = {}
    for found in both:
        for ours, theirs in zip(found[now], found[then], strict=True):
            units[ours.title] = ours.unit
            rows.setdefault(ours.title, []).extend(_first(ours, theirs))
    return [report(title, pairs_of, units[title]) for title, pairs_of in rows.items()]


def _first(now: Result, then: Result) -> Iterator[tuple[float, float]]:
    for (ours, _), (theirs, _) in zip(now.rows, then.rows, strict=True):
        yield ours, theirs


@contextmanager
def _folders(revision: str) -> Generator[tuple[Path, Path]]:
    """Two folders with the same benchmarks, and each with a `jobstate`: as it is, and as it was."""
    with tempfile.TemporaryDirectory(prefix="jobstate-against-") as name:
        now, then = Path(name) / "now", Path(name) / "then"
        for folder in (now, then):
            folder.mkdir()
            for shared in ("benchmarks", "tests"):
                (folder / shared).symlink_to(ROOT / shared)
        (now / "jobstate").symlink_to(ROOT / "jobstate")
        archive = subprocess.run(["git", "archive", revision, "jobstate"], cwd=ROOT, stdout=subprocess.PIPE, check=False)
        if archive.returncode != 0:
            raise SystemExit(f"--against: git has no jobstate at {revision!r}")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(then, filter="data")
        yield now, then


def _pair(folders: Sequence[Path], parts: Sequence[str], rounds: int) -> dict[Path, list[Result]]:
    """The results of a process in each folder."""
    with _process(folders[0], parts, rounds) as one, _process(folders[1], parts, rounds) as other:
        going = [one, other]
        for process in going:
            _reached(process)
        while going:
            going = [process for process in going if _went_on(process)]
    for folder, process in zip(folders, (one, other), strict=True):
        if process.returncode != 0:
            raise SystemExit(f"--against: the benchmarks of now do not run on the jobstate of {folder.name}")
    return {folder: results_of((folder / "results.json").read_text()) for folder in folders}


def _process(folder: Path, parts: Sequence[str], rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks", *parts, "--in-turn", "--rounds", str(rounds), "--json", "results.json"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )


def _went_on(process: subprocess.Popen[str]) -> bool:
    """Let it go on to its next round. False when it has none."""
    told: IO[Any] | None = process.stdin
    assert told is not None
    told.write("go on\n")
    told.flush()
    return _reached(process)


def _reached(process: subprocess.Popen[str]) -> bool:
    """Wait until it waits for its turn. False when it ended."""
    assert process.stdout is not None
    return any(line == _TURN for line in process.stdout)
