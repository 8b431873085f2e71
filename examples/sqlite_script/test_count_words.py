"""The script does its work, once, also when it is killed in the middle."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import count_words
import pytest
from sqlalchemy import create_engine

from jobstate import Jobs, Policy
from jobstate.testing import ManualClock

SCRIPT = Path(__file__).parent / "count_words.py"


def run(folder: Path) -> list[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(folder / "words.sqlite")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    """The jobs of the script in this process."""
    engine = create_engine(f"sqlite:///{tmp_path / 'words.sqlite'}")
    yield count_words.jobs_in(engine)
    engine.dispose()


def test_each_file_is_counted_once_and_a_changed_one_again(tmp_path: Path, jobs: Jobs) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    assert run(tmp_path) == run(tmp_path) == ["a.txt: 6", "b.txt: failed"]
    assert [job.attempt_count for job in jobs.list().data] == [1, 1]
    (tmp_path / "a.txt").write_text("that is the question")
    assert run(tmp_path) == ["a.txt: 6", "b.txt: failed", "a.txt: 4"]


def test_what_a_killed_run_held_is_done_by_a_later_one(tmp_path: Path, jobs: Jobs) -> None:
    (tmp_path / "a.txt").write_text("to be")
    count_words.enlist(jobs, tmp_path)
    (held,) = jobs.take()
    count_words.work(jobs)
    assert count_words.lines(jobs) == ["a.txt: in_progress"], "it may still live"
    policy = Policy()
    later = ManualClock(held.job.updated_at + int((policy.lease or timedelta()).total_seconds()) + policy.skew_seconds + 3600)
    afterwards = Jobs(jobs._ports.repository, clock=later)
    afterwards.sweep()
    later.advance(int(policy.backoff_cap.total_seconds()))
    count_words.work(afterwards)
    assert count_words.lines(afterwards) == ["a.txt: 2"]
    assert afterwards.retrieve(held.job.id).attempt_count == 2


def test_a_folder_is_needed() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, check=True)
