"""The commands on a page of the docs, and what they print: `python -m tests.console` writes it anew.

A block of `console` is run line by line, all blocks of a page in one folder. Ids and times differ each time: `job_1`, `job_2`
in a command are the jobs in the order in which they were first printed, and comparison looks past them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "command-line.md"
BLOCK = re.compile(r"(?<=```console\n)(.*?)(?=```)", re.DOTALL)
ID = re.compile(r"job_[-\w]{21}")

_ALIAS = 'jobstate() { "$PYTHON" -W error -m jobstate "$@"; }\n'
_VARYING = [
    (re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?"), "<date>"),
    (re.compile(r"\d\d:\d\d:\d\d"), "<time>"),
    (re.compile(r"\+\d+s +"), "<later> "),
    (re.compile(r"\b1[789]\d{8}\b"), "<seconds>"),
    (re.compile(r"(lease|op)_[-\w]{21}"), "<token>"),
    (re.compile(r"/\S*/tmp\S*"), "<folder>"),
    (re.compile(r"\b[0-9a-f]{40,64}\b"), "<digest>"),
]


def written(page: str, folder: Path) -> str:
    """The page with what its commands print now."""
    known: list[str] = []

    def run(block: re.Match[str]) -> str:
        commands = re.findall(r"^\$ (.+)$", block[1], re.MULTILINE)
        return "".join(f"$ {command}\n{_printed(command, folder, known)}" for command in commands)

    return BLOCK.sub(run, page)


def _printed(command: str, folder: Path, known: list[str]) -> str:
    for number, job_id in enumerate(known, 1):
        command = re.sub(rf"\bjob_{number}\b(?!\w)", job_id, command)
    variables = {name: value for name, value in os.environ.items() if name != "JOBSTATE_DATABASE"}
    done = subprocess.run(
        ["bash", "-c", _ALIAS + command],
        cwd=folder,
        env={**variables, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TMPDIR": "/tmp"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    known += [job_id for job_id in dict.fromkeys(ID.findall(done.stdout)) if job_id not in known]
    return done.stdout


def comparable(page: str) -> str:
    """The page without what differs from one run to the next."""
    for number, job_id in enumerate(dict.fromkeys(ID.findall(page)), 1):
        page = page.replace(job_id, f"<job {number}>")
    for pattern, word in _VARYING:
        page = pattern.sub(word, page)
    return page


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(written(PAGE.read_text(), Path(name)))
