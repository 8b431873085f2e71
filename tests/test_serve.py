"""`python -m jobstate serve`, as a person would run it."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import httpx2
import pytest
import uvicorn
from sqlalchemy import URL, NullPool, create_engine

from jobstate import Jobs
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.database import open_engine
from jobstate.serve import api_keys, serve
from tests.postgresql import emptied, engine_of

ROOT = Path(__file__).parent.parent
REQUEST = {"filename": "note.txt", "content": base64.b64encode(b"to be or not to be").decode()}
BODY = {"endpoint": "/v1/documents/extract", "request": REQUEST}
KEYS = "key-a=org_a, key-b=org_b"

BLOCKING = """
import sys, threading
from jobstate.serve import serve
def handler(request, context):
    print("running", flush=True)
    threading.Event().wait()
serve(sys.argv[1], {"key-a": "org_a"}, port=0, grace=0.1, handler=handler)
"""


@contextmanager
def _process(*arguments: str, keys: str = KEYS) -> Generator[tuple[subprocess.Popen[str], str]]:
    """A server, and its address as it tells it."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOBSTATE_API_KEYS": keys}
    command = [sys.executable, "-W", "error", *arguments]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    watchdog = Timer(60, process.kill)  # a process that hangs ends, and its lines with it
    watchdog.start()
    try:
        yield process, _line(process, r"running on (http://\S+)")
    finally:
        process.terminate()
        process.communicate()
        watchdog.cancel()


def _line(process: subprocess.Popen[str], pattern: str) -> str:
    """What a line of the process tells. Fails with all lines when none does."""
    told: list[str] = []
    assert process.stdout is not None
    while line := process.stdout.readline():
        told.append(line)
        if found := re.search(pattern, line):
            return found[found.re.groups]
    raise AssertionError("".join(told))


def _finished(url: str, job_id: str) -> dict[str, Any]:
    """The job, once it is."""
    with httpx2.Client(base_url=url, headers={"Api-Key": "key-a"}) as client:
        while client.get(f"/v1/jobs/{job_id}/status").json()["status"] in ("queued", "in_progress"):
            pass
        done: dict[str, Any] = client.get(f"/v1/jobs/{job_id}", params={"include_response": True}).json()
        return done


def _extracted(url: str) -> dict[str, Any]:
    with httpx2.Client(base_url=url, headers={"Api-Key": "key-a"}) as client:
        created = client.post("/v1/jobs", json=BODY)
        assert created.status_code == 200, created.text
        job = created.json()
        done = _finished(url, job["id"])
        assert client.get("/v1/jobs", headers={"Api-Key": "key-b"}).json()["data"] == []
        assert client.get(f"/v1/jobs?access_token=key-a&id={job['id']}", headers={"Api-Key": ""}).status_code == 200
        for key in ("", "key", "key-c"):
            refused = client.get("/v1/jobs", headers={"Api-Key": key})
            assert (refused.status_code, refused.json()["detail"]["code"]) == (401, "unauthorized")
        return done


def test_a_document_is_extracted_by_the_served_demo(tmp_path: Path) -> None:
    with _process("-m", "jobstate", "serve", "--database", str(tmp_path / "jobs.sqlite"), "--port", "0") as (_, url):
        done = _extracted(url)
        assert (done["status"], done["response"]["body"]["words"]) == ("completed", 6)


@pytest.mark.full
def test_the_same_on_postgresql(server: URL) -> None:
    engine = engine_of(server)
    emptied(engine)
    engine.dispose()
    address = server.set(drivername="postgresql").render_as_string(hide_password=False)
    with _process("-m", "jobstate", "serve", "--database", address, "--port", "0") as (_, url):
        assert _extracted(url)["status"] == "completed"


def test_what_runs_when_it_is_stopped_is_given_back_and_run_by_the_next_one(tmp_path: Path) -> None:
    file = tmp_path / "jobs.sqlite"
    with _process("-c", BLOCKING, str(file)) as (process, url):
        job = httpx2.post(f"{url}/v1/jobs", json=BODY, headers={"Api-Key": "key-a"}).json()
        _line(process, "^running$")
        process.send_signal(signal.SIGTERM)
        process.wait()
    jobs = Jobs(SQLAlchemyRepository(create_engine(f"sqlite:///{file}", poolclass=NullPool)))
    row = jobs.retrieve(job["id"])
    assert (row.status, row.run, row.give_backs, row.attempts_used) == ("queued", 2, 1, 0)
    assert [str(record.event) for record in jobs.history(row.id)] == ["created", "start", "give_back"]
    with _process("-m", "jobstate", "serve", "--database", str(file), "--port", "0") as (_, url):
        assert _finished(url, row.id)["status"] == "completed"


@pytest.mark.parametrize("keys", [None, "", " , ", "key-a", "=org", "key-a=", "key-a=org_a,b"])
def test_it_does_not_start_without_keys(keys: str | None) -> None:
    with pytest.raises(ValueError, match="JOBSTATE_API_KEYS"):
        api_keys(keys)


def test_keys_are_read_from_pairs() -> None:
    assert api_keys(KEYS) == {"key-a": "org_a", "key-b": "org_b"}


@pytest.mark.parametrize(
    ("database", "words"),
    [
        ("mysql://host/jobs", "PostgreSQL and SQLite"),
        ("sqlite://", "in memory is empty and gone with the command: name a file"),
        ("sqlite:///:memory:", "in memory is empty and gone with the command: name a file"),
        ("sqlite+aiosqlite:///jobs.sqlite", "sqlite[+]aiosqlite is for asyncio: name the database without it, sqlite://"),
        ("postgresql+asyncpg://host/jobs", "postgresql[+]asyncpg is for asyncio: name the database without it, postgresql://"),
        ("postgresql://host:port/jobs", "a SQLite file or a URL such as"),
    ],
)
def test_another_database_is_refused(database: str, words: str) -> None:
    with pytest.raises(ValueError, match=f"^--database: .*{words}"):
        open_engine(database)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"port": 65_536}, "port: a number from 0 to 65535 is needed, not 65536"),
        ({"port": -1}, "port: a number from 0 to 65535 is needed, not -1"),
        ({"grace": float("inf")}, "grace: seconds from 0 to 86400 are needed, not inf"),
        ({"grace": -0.1}, "grace: seconds from 0 to 86400 are needed, not -0.1"),
    ],
)
def test_what_is_out_of_range_is_refused_before_a_database_is_opened(
    options: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uvicorn, "run", print)
    with pytest.raises(ValueError, match=words):
        serve(str(tmp_path / "jobs.sqlite"), {"key-a": "org_a"}, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("keys", "database", "words"),
    [
        ("", "jobs.sqlite", "JOBSTATE_API_KEYS"),
        (KEYS, "no/such/folder/jobs.sqlite", "unable to open database file"),
        (KEYS, "mysql://host/jobs", "PostgreSQL and SQLite"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path: Path, keys: str, database: str, words: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JOBSTATE_API_KEYS": keys}
    command = [sys.executable, "-m", "jobstate", "serve", "--port", "0", "--database", database]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert words in done.stderr
