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
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, report
from benchmarks.record import ROOT, results_of

PAIRS = 3
ROUNDS = 5
"""Of each comparison in each process, at most."""
_TURN = "the next round\n"


def wait() -> None:
    """In a process of a pair: wait for its turn. Ends the process when nobody is there to say when."""
    if not sys.stdin.readline():
        raise SystemExit(1)


def turn() -> None:
    """The same before each round: the other one goes on meanwhile."""
    sys.stdout.write(_TURN)
    sys.stdout.flush()
    wait()


def compare(revision: str, parts: Sequence[str], rounds: int = ROUNDS, pairs: int = PAIRS) -> list[Result]:
    """Print and keep a line for each comparison: the time of its first way now, and at `revision`.

    Now is the folder as it is, with what is not committed. A count that was 0 has no ratio, and is left out. Raises SystemExit
    when there is no such revision, or when the benchmarks do not run on it.
    """
    with _folders(revision) as (now, then):
        both = [_pair((now, then) if number % 2 else (then, now), parts, rounds) for number in range(pairs)]
    rows: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for found in both:
        for ours, its in zip(found[now], found[then], strict=True):
            firsts = [(mine[0], other[0]) for mine, other in zip(ours.rows, its.rows, strict=True)]
            rows.setdefault((ours.title, ours.unit), []).extend(firsts)
    return [report(title, pairs_of, unit) for (title, unit), pairs_of in rows.items() if all(its for _, its in pairs_of)]


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
    with ExitStack() as stack:
        going = [stack.enter_context(_process(folder, parts, rounds)) for folder in folders]
        while going:
            going = [goes_on for goes_on in going if goes_on()]
    return {folder: results_of((folder / "results.json").read_text()) for folder in folders}


@contextmanager
def _process(folder: Path, parts: Sequence[str], rounds: int) -> Generator[Callable[[], bool]]:
    """A process in a folder: what lets it go on to its next round, and answers False when it has none.

    That raises SystemExit when the process has failed.
    """
    command = [sys.executable, "-m", "benchmarks", *parts, "--in-turn", "--rounds", str(rounds), "--json", "results.json"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        said = process.stdout
        assert said is not None

        def goes_on() -> bool:
            print("go on", file=process.stdin, flush=True)
            if _TURN in iter(said.readline, ""):
                return True
            if process.wait() != 0:
                raise SystemExit(f"--against: the benchmarks do not run on the jobstate of {folder.name}")
            return False

        yield goes_on
