"""The workers of docs/engines.md, started by the commands that stand there, run a job to its end, and stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import URL
from sqlalchemy.pool import NullPool

from jobstate import Jobs
from jobstate.adapters.celery import CeleryDispatcher
from jobstate.adapters.dramatiq import DramatiqDispatcher
from jobstate.adapters.rq import RQDispatcher
from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
from jobstate.ports import Dispatcher
from tests.engines.redis_engines import CeleryEngine, RQEngine, broker_of
from tests.postgresql import emptied, engine_of
from tests.valkey import Valkey

PAGE = (Path(__file__).parent.parent / "docs" / "engines.md").read_text()


def section(engine: str) -> tuple[str, str]:
    """The module of its worker, and the command that starts it."""
    found = re.search(rf"```python\n(# {engine}_worker\.py\n.*?)```\n\n```sh\n(.*?)\n```", PAGE, re.DOTALL)
    assert found is not None, engine
    return found[1], found[2]


def dispatcher_of(engine: str, url: str) -> Dispatcher:
    """As the host has it, which knows names only."""
    if engine == "celery":
        return CeleryDispatcher(CeleryEngine.app(url))
    if engine == "dramatiq":
        return DramatiqDispatcher(broker_of(url))
    return RQDispatcher(RQEngine.queue(url), task="rq_worker.run")


@pytest.mark.full
@pytest.mark.parametrize("engine", ["celery", "dramatiq", "rq"])
def test_the_worker_of_the_page_runs_jobs_and_stops(engine: str, server: URL, valkey: Valkey, tmp_path: Path) -> None:
    module, command = section(engine)
    (tmp_path / f"{engine}_worker.py").write_text(module)
    url = server.set(drivername="postgresql+psycopg")
    made = engine_of(url, poolclass=NullPool)
    emptied(made)
    repository = SQLAlchemyRepository(made)
    repository.create_schema()
    valkey.empty()
    jobs = Jobs(repository, dispatcher_of(engine, valkey.url))
    job = jobs.create("/v1/words", {"text": "to be or not to be"}, organization_id="org")
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(Path(__file__).parent.parent),
        "DATABASE_URL": url.render_as_string(hide_password=False),
        "REDIS_URL": valkey.url,
    }
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(f"exec {command}", shell=True, cwd=tmp_path, env=environment, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while jobs.retrieve(job.id).status in ("queued", "in_progress"):
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.05)
            worker.send_signal(signal.SIGTERM)
            worker.wait(30)
        finally:
            worker.kill()
            worker.wait(30)
    done = jobs.retrieve(job.id, include_response=True)
    assert done.response is not None
    assert done.response.body == {"words": 6}
