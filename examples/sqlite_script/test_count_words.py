"""The script does its work, once, also when it is killed in the middle."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import count_words
import pytest

from jobstate import Jobs, Policy
from jobstate.testing import ManualClock

SCRIPT = Path(__file__).parent / "count_words.py"


def run(folder: Path) -> list[str]:
    command = [sys.executable, str(SCRIPT), str(folder), str(folder / "words.sqlite")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_each_file_is_counted_once_and_a_changed_one_again(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe")
    assert run(tmp_path) == run(tmp_path) == ["a.txt: 6", "b.txt: failed"]
    assert [job.attempt_count for job in count_words.open_jobs(tmp_path / "words.sqlite").list().data] == [1, 1]
    (tmp_path / "a.txt").write_text("that is the question")
    assert run(tmp_path) == ["a.txt: 6", "b.txt: failed", "a.txt: 4"]


def test_what_a_killed_run_held_is_done_by_a_later_one(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be")
    killed = count_words.open_jobs(tmp_path / "words.sqlite")
    count_words.enlist(killed, tmp_path)
    (held,) = killed.take()
    count_words.work(killed)
    assert count_words.lines(killed) == ["a.txt: in_progress"], "it may still live"
    policy = Policy()
    later = ManualClock(held.job.updated_at + int((policy.lease or timedelta()).total_seconds()) + policy.skew_seconds + 3600)
    jobs = Jobs(killed._ports.repository, clock=later)
    jobs.sweep()
    later.advance(int(policy.backoff_cap.total_seconds()))
    count_words.work(jobs)
    assert count_words.lines(jobs) == ["a.txt: 2"]
    assert jobs.retrieve(held.job.id).attempt_count == 2


def test_a_folder_is_needed() -> None:
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, check=True)
