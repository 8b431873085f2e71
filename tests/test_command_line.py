"""The command line, as its users and their scripts meet it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import StringIO
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from sqlalchemy import URL, NullPool, create_engine, text

from jobstate import Job, JobError, Jobs, JobStatus, Policy
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.cli import main, many
from jobstate.effects import Flow, Now
from jobstate.flows import sweeps
from jobstate.flows.settle import Scope
from jobstate.flows.sweeps import Swept
from jobstate.lifecycle import foresee
from jobstate.model import Event
from jobstate.testing import ManualClock
from tests import console
from tests.postgresql import emptied, engine_of
from tests.support import NOW

ROOT = Path(__file__).parent.parent


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database with tables and no jobs, which the environment names."""
    path = tmp_path / "service.sqlite"
    monkeypatch.setenv("JOBSTATE_DATABASE", str(path))
    monkeypatch.chdir(tmp_path)
    repository = SQLAlchemyRepository(create_engine(f"sqlite:///{path}", poolclass=NullPool))
    repository.create_schema()
    return path


def service(file: Path, **options: Any) -> Jobs:
    return Jobs(SQLAlchemyRepository(create_engine(f"sqlite:///{file}", poolclass=NullPool)), **options)


def failed(jobs: Jobs, number: int = 1, **options: Any) -> list[Job]:
    made = [jobs.create("/v1/x", {"n": n}, organization_id="org", **options) for n in range(number)]
    return [jobs.start(job.delivery).fail(JobError(code="broken", message="it broke")) for job in made]


def statuses(jobs: Jobs) -> list[str]:
    return [job.status.value for job in jobs.list(order="asc", limit=1000).data]


def changed(file: Path, statement: str) -> None:
    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """The exit code, and the JSON document."""
    code = main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def python(code: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", f"import sys\n{code}\nfrom jobstate.cli import main\nsys.exit(main())", *words]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


# The page


@pytest.mark.full
def test_the_page_shows_what_the_commands_print(tmp_path: Path) -> None:
    page = console.PAGE.read_text()
    assert console.comparable(console.written(page, tmp_path)) == console.comparable(page)


def test_the_page_names_each_command() -> None:
    help_text = subprocess.run([sys.executable, "-m", "jobstate", "-h"], capture_output=True, text=True, check=True).stdout
    commands = re.findall(r"^    (\w+) ", help_text, re.MULTILINE)
    assert len(commands) >= 8
    assert [command for command in commands if f"| `{command}` |" not in console.PAGE.read_text()] == []


# What is installed


def test_the_help_and_the_graph_need_nothing_but_the_core(tmp_path: Path) -> None:
    alone = "for name in ('sqlalchemy', 'rich', 'fastapi', 'uvicorn', 'pypdf'): sys.modules[name] = None"
    for words in (["--help"], ["jobs", "retry", "--help"], ["graph"], ["graph", "--format", "svg"]):
        done = python(alone, *words, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), words


@pytest.mark.parametrize(
    ("missing", "words", "extra"),
    [
        ("sqlalchemy", ["jobs"], "cli"),
        ("sqlalchemy", ["check"], "cli"),
        ("psycopg", ["jobs", "--database", "postgresql://localhost/x"], "postgresql"),
        ("pypdf", ["demo"], "demo"),
        ("uvicorn", ["serve"], "serve"),
    ],
)
def test_a_missing_extra_is_one_line_that_says_which_to_install(
    missing: str, words: list[str], extra: str, tmp_path: Path
) -> None:
    done = python(f"sys.modules[{missing!r}] = None", *words, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, f"jobstate: {missing} is missing: pip install 'jobstate[{extra}]'\n")


# Look


def test_a_list_in_json_is_a_page_of_the_job_api(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = service(file)
    made = failed(jobs, 3)
    code, page = told(capsys, "jobs", "--limit", "2")
    assert (code, page["object"], page["has_more"]) == (0, "list", True)
    assert [job["id"] for job in page["data"]] == [made[2].id, made[1].id] == [page["first_id"], page["last_id"]]
    assert [job["request"] for job in page["data"]] == [None, None]
    _, rest = told(capsys, "jobs", "list", "--after", page["last_id"], "--request")
    assert [(job["id"], job["request"]) for job in rest["data"]] == [(made[0].id, {"n": 0})]


def test_conditions_are_those_of_the_face(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = service(file, clock=ManualClock(NOW))
    ours = jobs.create("/v1/x", {}, organization_id="org", metadata={"batch": "1"})
    theirs = jobs.create("/v1/y", {}, organization_id="other")
    for words, found in (
        (["--organization", "org"], [ours]),
        (["--endpoint", "/v1/y"], [theirs]),
        (["--metadata", "batch=1"], [ours]),
        (["--status", "queued", "--status", "failed"], [theirs, ours]),
        (["--status", "failed"], []),
        (["--created-from", str(NOW + 1)], []),
        (["--created-from", str(NOW), "--created-to", str(NOW + 1)], [theirs, ours]),
        (["--created-from", "2100-01-01"], []),
        (["--created-to", "2000-01-01T00:00:00+02:00"], []),
    ):
        _, page = told(capsys, "jobs", *words)
        assert sorted(job["id"] for job in page["data"]) == sorted(job.id for job in found), words


@pytest.mark.parametrize(
    ("words", "field"), [(["--status", "broken"], "status"), (["--created-to", "2026-01-01T10:00:00"], "created_to")]
)
def test_a_condition_that_cannot_be_is_one_line(
    words: list[str], field: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"jobstate: {field}")
    assert error.count("\n") == 1


def test_a_history_is_a_timeline_with_days_gaps_and_who(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = ManualClock(NOW)
    jobs = service(file, clock=clock)
    [job] = failed(jobs)
    clock.advance(86_400 + 3_600 + 5)
    jobs.retry(job.id, actor="alice", reason="mended")
    assert main(["jobs", job.id]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if re.fullmatch(r"\d{4}-\d\d-\d\d", line)]) == 2
    [retry] = [line for line in lines if " retry " in line]
    assert "+1d 1h" in retry
    assert retry.endswith("failed -> queued  by alice  (mended)")


def test_one_job_in_json_comes_with_its_history(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    [job] = failed(service(file))
    _, shown = told(capsys, "jobs", "show", job.id, "--request")
    assert (shown["job"]["id"], shown["job"]["request"]) == (job.id, {"n": 0})
    assert [record["event"] for record in shown["history"]] == ["created", "start", "fail"]


# Retry and cancel


def test_many_are_retried_in_pages_with_one_outcome_each(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many, "PAGE", 2)
    jobs = service(file)
    made = failed(jobs, 5)
    queued = jobs.create("/v1/x", {}, organization_id="org")
    code, answer = told(capsys, "jobs", "retry", "--endpoint", "/v1/x", "--yes", "--actor", "alice")
    assert (code, answer["counts"]) == (1, {"refused": 1, "moved": 5})
    assert sorted(one["job_id"] for one in answer["data"]) == sorted(job.id for job in [*made, queued])
    assert statuses(jobs) == ["queued"] * 6
    assert {jobs.history(job.id)[-1].actor for job in made} == {"alice"}


def test_a_dry_run_says_what_would_be_done_and_does_nothing(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = service(file)
    failed(jobs, 3)
    code, answer = told(capsys, "jobs", "retry", "--status", "failed", "--dry-run")
    assert (code, answer["dry_run"], answer["counts"]) == (0, True, {"moved": 3})
    assert statuses(jobs) == ["failed"] * 3


@pytest.mark.parametrize("verb", ["retry", "cancel"])
def test_without_a_choice_nothing_is_done(verb: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = service(file)
    failed(jobs)
    jobs.create("/v1/x", {}, organization_id="org")
    for scope in ([], ["--organization", "org"]):
        assert main(["jobs", verb, "--yes", *scope]) == 1
    assert "of all jobs is not done" in capsys.readouterr().err
    assert statuses(jobs) == ["failed", "queued"]


def test_many_are_not_changed_where_nobody_can_be_asked(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("y\n"))  # as in a pipe
    jobs = service(file)
    made = failed(jobs, 2)
    assert main(["jobs", "retry", "--status", "failed"]) == 1
    assert "retry 2 jobs? Nobody is here to ask: look with --dry-run, then give --yes" in capsys.readouterr().err
    assert statuses(jobs) == ["failed", "failed"]
    assert main(["jobs", "retry", made[0].id]) == 0
    assert statuses(jobs) == ["queued", "failed"]


def test_a_job_that_has_changed_since_the_question_is_left_alone(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = service(file)
    first, second = failed(jobs, 2)

    def meanwhile(question: str) -> bool:
        jobs.retry(first.id)
        jobs.cancel(first.id)
        return True

    monkeypatch.setattr(many, "_is_agreed", meanwhile)
    _, answer = told(capsys, "jobs", "retry", "--status", "failed")
    assert [one["job_id"] for one in answer["data"]] == [second.id]
    assert statuses(jobs) == ["cancelled", "queued"]


def test_an_id_that_no_job_has_is_told(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = service(file)
    [job] = failed(jobs)
    nobody = "job_" + "0" * 21
    assert main(["jobs", "retry", job.id, nobody, "--yes"]) == 1
    assert capsys.readouterr().err == f"jobstate: no job {nobody!r}\n"
    assert statuses(jobs) == ["queued"]


# At a terminal


class Terminal:
    """What is on the screen of a person who runs a command."""

    def __init__(self, screen: int, process: subprocess.Popen[bytes]) -> None:
        self.screen, self.process, self.seen = screen, process, ""

    def until(self, words: str) -> None:
        while words not in self.seen:
            self.seen += os.read(self.screen, 4096).decode()

    def interrupt(self) -> None:
        """Press Ctrl-C, and again if nothing comes of it: Python may have looked for signals just before it began to read."""
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                _ = self.process.wait(10)

    def end(self) -> int:
        try:
            while read := os.read(self.screen, 4096):
                self.seen += read.decode()
        except OSError:  # Linux says so at the end
            pass
        return self.process.wait()


@contextmanager
def terminal(*words: str) -> Generator[Terminal]:
    screen, side = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "jobstate", *words]
    process = subprocess.Popen(command, env=environment, stdin=side, stdout=side, stderr=side)
    os.close(side)
    watchdog = Timer(60, process.kill)  # what hangs ends
    watchdog.start()
    try:
        yield Terminal(screen, process)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        os.close(screen)


@pytest.mark.parametrize(("answer", "code", "after"), [("y", 0, "queued"), ("n", 1, "failed"), ("", 1, "failed")])
def test_a_person_is_asked_before_many_and_sees_how_far_it_is(answer: str, code: int, after: str, file: Path) -> None:
    jobs = service(file)
    failed(jobs, 3)
    with terminal("jobs", "retry", "--status", "failed") as shown:
        shown.until("retry 3 jobs? [y/N] ")
        assert statuses(jobs) == ["failed"] * 3
        os.write(shown.screen, f"{answer}\n".encode())
        assert shown.end() == code
    assert statuses(jobs) == [after] * 3
    assert ("3/3" in shown.seen) is (code == 0)
    assert ("nothing was done" in shown.seen) is (code == 1)


def test_an_interrupted_question_changes_nothing(file: Path) -> None:
    jobs = service(file)
    failed(jobs, 2)
    with terminal("jobs", "retry", "--status", "failed") as shown:
        shown.until("[y/N] ")
        shown.interrupt()
        assert shown.end() == 130
    assert "Traceback" not in shown.seen
    assert statuses(jobs) == ["failed"] * 2


def test_a_terminal_gets_colours_and_a_pipe_gets_none(file: Path) -> None:
    [job] = failed(service(file))
    with terminal("jobs", job.id) as shown:
        assert shown.end() == 0
    assert "\x1b[31m" in shown.seen  # failed is red
    piped = subprocess.run([sys.executable, "-m", "jobstate", "jobs", job.id], capture_output=True, text=True, check=True)
    assert "\x1b" not in piped.stdout


def test_a_reader_who_has_seen_enough_is_no_error(file: Path) -> None:
    failed(service(file))
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "jobstate", "jobs"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


# Explain


def test_what_is_explained_is_what_then_happens(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    jobs = service(file)
    [job] = failed(jobs)
    code, answer = told(capsys, "explain", job.id, "cancel")
    assert (code, answer["answer"], answer["code"], answer["legal"]) == (1, "refused", "illegal_transition", ["retry"])
    code, answer = told(capsys, "explain", job.id, "retry")
    assert (code, answer["answer"], answer["target"]) == (0, "accepted", "queued")
    assert jobs.retry(job.id).status == "queued"
    code, answer = told(capsys, "explain", job.id, "retry")
    assert (code, answer["answer"]) == (0, "already")
    assert main(["explain", job.id, "retry"]) == 0
    now = jobs.retrieve(job.id)
    assert capsys.readouterr().out == f"{foresee(now, Event.RETRY, now.updated_at)}\n"


# Check


def test_what_is_sound_is_found_sound(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(service(file), 2)
    assert main(["check"]) == 0
    assert capsys.readouterr().out == "ok: tables of version 2, 2 jobs\n"


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE jobstate_jobs SET status = 'paused'", "1 jobs are in status 'paused', which this release does not know"),
        ("UPDATE jobstate_jobs SET error = '{'", "cannot be read: error"),
        ("UPDATE jobstate_history SET source = 'completed' WHERE event = 'fail'", "fail from completed to failed, which the"),
        ("UPDATE jobstate_schema_version SET version = 99", "the tables are of version 99, this release needs 2"),
        ("DELETE FROM jobstate_schema_version", "jobstate_schema_version is empty"),
    ],
)
def test_what_is_wrong_is_found_and_named(statement: str, words: str, file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(service(file))
    changed(file, statement)
    code, found = told(capsys, "check")
    assert code == 1
    assert words in "\n".join(found["problems"])
    assert main(["check"]) == 1
    assert words in capsys.readouterr().out


def test_a_database_without_tables_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.sqlite").touch()
    assert main(["check", "--database", str(tmp_path / "empty.sqlite")]) == 1
    assert capsys.readouterr().out == "there is no table jobstate_jobs: call create_schema()\n"


def test_the_same_on_postgresql(server: URL, capsys: pytest.CaptureFixture[str]) -> None:
    engine = engine_of(server, poolclass=NullPool)
    emptied(engine)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    [job] = failed(Jobs(repository))
    address = ["--database", server.set(drivername="postgresql").render_as_string(hide_password=False)]
    assert main(["check", *address]) == 0
    assert main(["jobs", "retry", job.id, *address]) == 0
    assert Jobs(repository).retrieve(job.id).status is JobStatus.QUEUED
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobstate_jobs SET status = 'paused'"))
    capsys.readouterr()
    assert main(["check", *address]) == 1
    assert "in status 'paused'" in capsys.readouterr().out


# Sweep, and the host's own jobs


def test_a_sweep_tells_what_it_did(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(service(file, clock=ManualClock(NOW)))  # long ago
    code, report = told(capsys, "sweep")
    assert (code, report["expire"]["moved"], report["rescue"]["moved"]) == (0, 1, 0)
    assert statuses(service(file)) == ["expired"]


def test_a_sweep_that_met_a_row_it_cannot_read_is_not_done(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed(service(file, clock=ManualClock(NOW)))
    changed(file, "UPDATE jobstate_jobs SET error = '{'")
    [job] = told(capsys, "check")[1]["problems"]
    assert main(["sweep"]) == 1
    assert job.split()[0] in capsys.readouterr().err


def test_a_sweep_that_met_an_error_tells_what_the_others_did(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(scope: Scope) -> Flow[Swept]:
        yield from Now()
        raise ConnectionError("the broker is down")

    failed(service(file, clock=ManualClock(NOW)))
    monkeypatch.setattr(sweeps, "relay", down)
    assert main(["sweep", "--json"]) == 1
    out, error = capsys.readouterr()
    assert (json.loads(out)["expire"]["moved"], error) == (1, "jobstate: ConnectionError: the broker is down\n")


def test_a_sweep_on_tables_that_are_not_there_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.sqlite").touch()
    assert main(["sweep", "--database", str(tmp_path / "empty.sqlite")]) == 1
    error = capsys.readouterr().err
    assert "create_schema()" in error
    assert error.count("\n") == 1


HOST = """
from datetime import timedelta
from sqlalchemy import NullPool, create_engine
from jobstate import AsyncJobs, Jobs, Policy
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.memory import AsyncMemoryRepository, MemoryDispatcher
engine = create_engine("sqlite:///service.sqlite", poolclass=NullPool)
dispatcher = MemoryDispatcher()
jobs = Jobs(SQLAlchemyRepository(engine), dispatcher, policy=Policy(cleanup_after=timedelta(0)))
make = lambda: jobs
later = AsyncJobs(AsyncMemoryRepository())
number = 7
"""


@pytest.mark.parametrize("name", ["jobs", "make"])
def test_the_jobs_of_the_host_bring_their_policy_and_their_dispatcher(
    name: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (file.parent / "host.py").write_text(HOST)
    failed(service(file, clock=ManualClock(NOW)))
    service(file).create("/v1/x", {}, organization_id="org")
    command = [sys.executable, "-W", "error", "-m", "jobstate", "sweep", "--json", "--jobs", f"host:{name}"]
    done = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    moved = {sweep: report[sweep]["moved"] for sweep in ("expire", "cleanup", "relay")}
    assert moved == {"expire": 1, "cleanup": 1, "relay": 1}
    assert service(file, policy=Policy()).cleanup().moved == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("host:later", "--jobs: 'host:later' is AsyncJobs: make a Jobs on the same database for the command line"),
        ("host:number", "--jobs: 'host:number' is int: name a Jobs"),
        ("host:nothing", "--jobs: 'host:nothing' was not found: module 'host' has no attribute 'nothing'"),
        ("host", "--jobs: a name such as package.module:name is needed, not 'host'"),
    ],
)
def test_what_is_no_jobs_of_the_host_is_told(name: str, words: str, file: Path) -> None:
    (file.parent / "host.py").write_text(HOST)
    done = python("", "jobs", "--jobs", name, cwd=file.parent)
    assert (done.returncode, done.stderr) == (1, f"jobstate: {words}\n")


def test_an_unknown_event_is_answered_with_the_known_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["explain", "job", "fly"])
    assert "'accept', 'reject'" in capsys.readouterr().err


def test_what_is_explained_goes_by_the_policy_of_the_host(file: Path) -> None:
    (file.parent / "host.py").write_text(HOST)
    jobs = service(file, clock=ManualClock(int(time.time()) - 100))
    job = jobs.create("/v1/x", {}, organization_id="org", ttl=timedelta(seconds=10))
    assert service(file).expire().moved == 1
    ask = ["explain", job.id, "begin_cleanup"]
    assert [python("", *ask, *words, cwd=file.parent).returncode for words in ([], ["--jobs", "host:jobs"])] == [1, 0]
