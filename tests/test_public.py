"""What is promised to those who import the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import jobstate
from jobstate import AsyncAttempt, AsyncJobs, Attempt, Jobs
from jobstate.context import AsyncContext, Context

NAMES = """
run_maintenance async_run_maintenance
Accepted allowed_events Already apply ArtifactConflictError ArtifactError ArtifactNotFoundError async_run_job
async_work AsyncAttempt AsyncContext AsyncJobs AsyncWorker Attempt Backoff BulkStoppedError Context decide Delivery
DispatchError Endpoint Event explain GuardRefusedError HistoryRecord IdempotencyConflictError IllegalTransitionError
InvalidInputError Job JobError JobFailed JobNotFoundError JobPage JobResponse Jobs JobstateError JobStatus JobWarning
Lease LeaseLostError OutcomeUnknownError Policy Refused RepositoryError run_job StaleJobError TableError
TransitionError UnreadableJobError work Worker
""".split()


def _python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_names_are_these_and_no_others() -> None:
    assert sorted(jobstate.__all__) == sorted(NAMES)
    assert all(hasattr(jobstate, name) for name in NAMES)


def test_importing_the_package_loads_only_what_pydantic_and_transitions_load() -> None:
    loaded = "print(*sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    model = "class Model(pydantic.BaseModel): field: int = pydantic.Field(ge=0)"
    plain = set(_python(f"import sys, pydantic, transitions\n{model}\n{loaded}").split())
    ours = set(_python(f"import sys, jobstate; {loaded}").split())
    assert ours - plain == {"jobstate"}


def test_the_extensions_of_transitions_are_never_loaded() -> None:
    assert _python("import sys, jobstate; print('transitions.extensions' in sys.modules)").strip() == "False"


def test_five_lines_without_a_repository_decide_and_explain_a_retry() -> None:
    code = """
from jobstate import Event, Job, decide, explain
times = dict(created_at=1_700_000_000, updated_at=1_700_000_030, expires_at=1_700_000_060)
job = Job(id="job_" + "0" * 21, organization_id="org", endpoint="/x", status="failed", run=1, ttl=60, **times)
print(decide(job, Event.RETRY, 1_700_000_040).target)
print(explain(job, Event.CANCEL, 1_700_000_040))
"""
    target, words = _python(code).splitlines()
    assert target == "queued"
    assert "refused [illegal_transition]" in words
    assert "legal now: retry" in words


@pytest.mark.parametrize(("sync", "asynchronous"), [(Jobs, AsyncJobs), (Attempt, AsyncAttempt), (Context, AsyncContext)])
def test_both_colours_have_the_same_methods_with_the_same_parameters(sync: type, asynchronous: type) -> None:
    def face(cls: type) -> dict[str, list[str]]:
        functions = inspect.getmembers(cls, inspect.isroutine)
        return {name: list(inspect.signature(function).parameters) for name, function in functions if name[0] != "_"}

    assert face(sync) == face(asynchronous)
    assert len(face(sync)) >= 4
