"""The main job, as a person would run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import NullPool, create_engine

from jobstate import Job, Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.cli import main
from jobstate.demo.extract import EXTRACT, read_pages
from jobstate.worker import JobFailed

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The whole of it, in a process of its own."""
    folder = tmp_path_factory.mktemp("demo")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-W", "error", "-m", "jobstate", "demo"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


class Done(NamedTuple):
    code: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line in this process."""

    def run(*arguments: str, cwd: Path) -> Done:
        monkeypatch.chdir(cwd)
        code = main([*arguments])
        told = capsys.readouterr()
        return Done(code, told.out, told.err)

    return run


def _jobs(folder: Path) -> tuple[Jobs, list[Job]]:
    jobs = Jobs(SQLAlchemyRepository(create_engine(f"sqlite:///{folder / 'jobstate.sqlite'}", poolclass=NullPool)))
    return jobs, jobs.list(order="asc").data


def test_the_document_fails_is_retried_and_completes(told: tuple[Path, str]) -> None:
    jobs, (first, _, _) = _jobs(told[0])
    events = [str(record.event) for record in jobs.history(first.id)]
    assert events == ["created", "start", "fail", "retry", "start", "complete"]
    job = jobs.retrieve(first.id, EXTRACT, include_request=True, include_response=True)
    assert (job.status, job.attempt_count, job.run, job.last_failure_code) == ("completed", 2, 2, "rates_missing")
    assert job.request is not None
    assert job.request.filename == "invoice.pdf"
    assert job.response is not None
    result = job.response.body
    assert (result.invoice_number, len(result.lines), str(result.total_converted)) == ("2026-0117", 4, "1000.00")


def test_one_is_cancelled_and_one_expires_and_is_cleaned(told: tuple[Path, str]) -> None:
    jobs, (_, second, third) = _jobs(told[0])
    assert [str(record.event) for record in jobs.history(second.id)] == ["created", "cancel"]
    assert [str(record.event) for record in jobs.history(third.id)] == ["created", "expire", "begin_cleanup", "end_cleanup"]
    assert jobs.retrieve(third.id, include_request=True).request is None
    assert "is refused [cleaned_up]: clean-up began at" in told[1]


def test_each_transition_is_shown_with_its_fields(told: tuple[Path, str]) -> None:
    for words in (
        "queued -> in_progress",
        "attempt_count=2",
        "failed -> queued",
        "attempt_base=1",
        "Total 11502.50 NOK = 1000.00 EUR",
    ):
        assert words in told[1]


def test_the_file_can_be_inspected_afterwards(run: Run, told: tuple[Path, str]) -> None:
    _, (first, _, third) = _jobs(told[0])
    listed = run("jobs", cwd=told[0])
    assert [line.split()[1] for line in listed.out.splitlines()[1:]] == ["expired", "cancelled", "completed"]
    assert third.id not in run("jobs", "--status", "completed", cwd=told[0]).out
    shown = run("jobs", first.id, cwd=told[0]).out
    assert "failed -> queued" in shown
    assert "last_failure_code      rates_missing" in shown


def test_a_document_of_ones_own_is_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("three plain words")
    done = run("demo", "note.txt", "--database", "own.sqlite", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "Found: 1 page(s), 3 words" in done.out


def test_a_document_that_cannot_be_read_ends_in_its_reason(run: Run, tmp_path: Path) -> None:
    (tmp_path / "noise.bin").write_bytes(b"\xff\xfe\x00\x80")
    done = run("demo", "noise.bin", cwd=tmp_path)
    assert done.code == 1
    assert "unreadable_document" in done.out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("demo", "missing.pdf"), "missing.pdf"),
        (("jobs",), "does not exist: name a database with --database"),
        (("jobs", "--database", "."), "jobstate: "),
    ],
)
def test_a_mistake_ends_in_one_line_that_says_what_to_do(
    run: Run, arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.code == 1
    assert words in done.err
    assert len(done.err.splitlines()) == 1


def test_damaged_pdf_bytes_are_a_failure_of_the_job() -> None:
    with pytest.raises(JobFailed, match="unreadable_document"):
        read_pages("broken.pdf", b"%PDF-1.7 nothing")


def test_what_a_terminal_would_obey_is_shown_as_escapes(run: Run, tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / 'jobstate.sqlite'}", poolclass=NullPool)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    job = Jobs(repository).create("/x\x1b[2J", {}, organization_id="o")
    for arguments in (("jobs",), ("jobs", job.id)):
        shown = run(*arguments, cwd=tmp_path).out
        assert "/x\\x1b[2J" in shown
        assert "\x1b" not in shown
