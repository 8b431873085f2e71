"""What a process pays: to import the library, and to hold jobs in memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

from benchmarks.measure import compare_seconds, report
from jobstate import Job, Policy
from jobstate.drivers import new_id
from jobstate.lifecycle import Draft, creation_record, new_job
from jobstate.memory import MemoryRepository
from jobstate.payload import encode

JOBS = 100_000
FIELDS = "\n".join(f"    field_{number}: int | None = None" for number in range(len(Job.model_fields)))
MODEL = f"import transitions\nfrom pydantic import BaseModel\nclass Model(BaseModel):\n{FIELDS}\n"


def imports() -> None:
    """Whole processes, with the byte code that an installed package has."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)

        def seconds(program: str) -> float:
            begin = time.perf_counter()
            subprocess.run([sys.executable, "-c", program], env=environment, check=True)
            return time.perf_counter() - begin

        for program, asked in (("import jobstate", 1.15), ("from jobstate import Jobs", None)):
            title = f"{program} / transitions and a pydantic model of as many fields"
            compare_seconds(title, partial(seconds, program), partial(seconds, MODEL), asked=asked)


def memory() -> None:
    """Jobs with a small request and their first record, against the same values in dicts."""
    kept = _megabytes(_in_repository), _megabytes(_in_dicts)
    report(f"memory of {JOBS} jobs in the memory repository / in dicts", [kept], "MB", asked=1.5)


def _megabytes(fill: Callable[[], object]) -> float:
    tracemalloc.start()
    held = fill()
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del held
    return size / 1e6


def _new(number: int) -> Job[Any, Any]:
    draft = Draft(organization_id="org", endpoint="/x", request={"number": number}, metadata={"batch": "b"})
    now = 1_700_000_000 + number
    return new_job(draft, job_id=new_id("job", now), now=now, operation=new_id("op", now), policy=Policy())


def _in_repository() -> MemoryRepository:
    repository = MemoryRepository()
    for number in range(JOBS):
        job = _new(number)
        repository.insert(job, creation_record(job))
    return repository


def _in_dicts() -> dict[str, Any]:
    """The fields of each job, its request as JSON text, and its record."""
    rows: dict[str, Any] = {}
    for number in range(JOBS):
        job = _new(number)
        fields = {**job.__dict__, "metadata": deepcopy(job.metadata), "request": encode(job.request)}
        rows[job.id] = (fields, [dict(creation_record(job).__dict__)])
    return rows
