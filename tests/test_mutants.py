"""The suites bite: each fault that is put into a copy of the package is seen by the test that is named for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent
PARTS = ("jobstate", "tests", "docs", "examples", "jobstate_pytest.py", "pyproject.toml")


def copied(folder: Path) -> Path:
    """The package and its tests, to be broken."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, folder / part)
    return folder


def exit_status(folder: Path, tests: str) -> int:
    """How pytest ends on these tests of a copy."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "", f"tests/{tests}"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    print(done.stdout, done.stderr)
    return done.returncode


@pytest.mark.full
def test_the_copy_is_what_is_tested(tmp_path: Path) -> None:
    (copied(tmp_path) / "tests" / "test_where.py").write_text(
        f"import jobstate\ndef test_it():\n    assert jobstate.__file__.startswith({str(tmp_path)!r})\n"
    )
    assert exit_status(tmp_path, "test_where.py") == 0


def test_each_fault_can_still_be_put_in() -> None:
    assert len(MUTANTS) >= 25
    for mutant in MUTANTS:
        assert (ROOT / "jobstate" / mutant.file).read_text().count(mutant.old) == 1, mutant.name


@pytest.mark.full
@pytest.mark.parametrize("tests", sorted({mutant.seen_by for mutant in MUTANTS}))
def test_the_copy_is_green_before(tests: str, tmp_path: Path) -> None:
    assert exit_status(copied(tmp_path), tests) == 0


@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_is_seen(mutant: Mutant, tmp_path: Path) -> None:
    broken = copied(tmp_path) / "jobstate" / mutant.file
    broken.write_text(broken.read_text().replace(mutant.old, mutant.new))
    assert exit_status(tmp_path, mutant.seen_by) == 1
