"""What is promised to those who import the package."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import jobstate
from jobstate import AsyncAttempt, AsyncJobs, Attempt, Jobs, Policy
from jobstate.context import AsyncContext, Context
from tests import public_api

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


def test_the_public_api_is_the_one_that_was_written_down() -> None:
    """`python -m tests.public_api` writes it anew; what a change of it means for others is in docs/versioning.md."""
    assert public_api.text().splitlines() == public_api.FILE.read_text().splitlines()


def test_a_change_of_a_signature_or_of_a_field_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def retrieve(self: Jobs, job_id: str, *, include_all: bool = False) -> None: ...

    monkeypatch.setattr(Jobs, "retrieve", retrieve)
    assert public_api.text() != public_api.FILE.read_text()
    monkeypatch.undo()
    monkeypatch.setitem(Policy.__annotations__, "colour", "str")
    assert public_api.text() != public_api.FILE.read_text()


def test_importing_the_package_loads_only_what_pydantic_and_transitions_load() -> None:
    loaded = "print(*sorted({name.split('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    model = "class Model(pydantic.BaseModel): field: int = pydantic.Field(ge=0)"
    plain = set(_python(f"import sys, pydantic, transitions\n{model}\n{loaded}").split())
    ours = set(_python(f"import sys; from jobstate import *; {loaded}").split())
    assert ours - plain == {"jobstate"}


def test_importing_the_package_loads_the_core_only() -> None:
    loaded = "print(*sorted(name[9:] for name in sys.modules if name.count('.') == 1 and name.startswith('jobstate.')))"
    core = ["errors", "lifecycle", "model", "parts", "payload", "policy"]
    assert _python(f"import sys, jobstate; {loaded}").split() == core
    assert {"service", "worker"} <= set(_python(f"import sys; from jobstate import *; {loaded}").split())


def test_a_public_name_is_listed_before_it_is_loaded_and_an_unknown_one_is_an_error() -> None:
    assert set(NAMES) <= set(_python("import jobstate; print(*dir(jobstate))").split())
    with pytest.raises(AttributeError, match="module 'jobstate' has no attribute 'Jobbs'"):
        _ = jobstate.Jobbs  # type: ignore[attr-defined]


def test_importing_everything_builds_the_schema_of_a_job_once() -> None:
    """Pydantic builds it once more for each pair of parameters that is written out where it is evaluated."""
    assert _python("from jobstate import *; print(Job.__subclasses__())").strip() == "[]"


def test_the_extensions_of_transitions_are_never_loaded() -> None:
    assert _python("import sys; from jobstate import *; print('transitions.extensions' in sys.modules)").strip() == "False"


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
