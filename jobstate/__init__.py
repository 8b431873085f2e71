"""Job semantics to embed: a job object, a guarded lifecycle, retry that resets the right fields, fenced workers.

The pure core (`Job`, `decide`, `apply`, `explain`) needs nothing but values. `Jobs` and `AsyncJobs` run it on a repository and
a dispatcher of the host's choice; see `jobstate.ports`.

The core is imported with the package, and each other name when it is asked for, so that who needs values only pays for no more.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jobstate.errors import (
    ArtifactConflictError,
    ArtifactError,
    ArtifactNotFoundError,
    BulkStoppedError,
    DispatchError,
    GuardRefusedError,
    IdempotencyConflictError,
    IllegalTransitionError,
    InvalidInputError,
    JobNotFoundError,
    JobstateError,
    LeaseLostError,
    OutcomeUnknownError,
    RepositoryError,
    StaleJobError,
    TableError,
    TransitionError,
    UnreadableJobError,
)
from jobstate.lifecycle import Accepted, Already, Refused, allowed_events, apply, decide, explain
from jobstate.model import (
    Delivery,
    Event,
    HistoryRecord,
    Job,
    JobError,
    JobResponse,
    JobStatus,
    JobWarning,
    Lease,
)
from jobstate.policy import Backoff, Policy

if TYPE_CHECKING:
    from jobstate.attempt import AsyncAttempt, Attempt
    from jobstate.context import AsyncContext, Context
    from jobstate.endpoint import Endpoint
    from jobstate.loop import AsyncWorker, Worker, async_work, work
    from jobstate.maintenance import async_run_maintenance, run_maintenance
    from jobstate.query import JobPage
    from jobstate.service import AsyncJobs, Jobs
    from jobstate.worker import JobFailed, async_run_job, run_job

__version__ = "0.1.0"

__all__ = [
    "Accepted",
    "Already",
    "ArtifactConflictError",
    "ArtifactError",
    "ArtifactNotFoundError",
    "AsyncAttempt",
    "AsyncContext",
    "AsyncJobs",
    "AsyncWorker",
    "Attempt",
    "Backoff",
    "BulkStoppedError",
    "Context",
    "Delivery",
    "DispatchError",
    "Endpoint",
    "Event",
    "GuardRefusedError",
    "HistoryRecord",
    "IdempotencyConflictError",
    "IllegalTransitionError",
    "InvalidInputError",
    "Job",
    "JobError",
    "JobFailed",
    "JobNotFoundError",
    "JobPage",
    "JobResponse",
    "JobStatus",
    "JobWarning",
    "Jobs",
    "JobstateError",
    "Lease",
    "LeaseLostError",
    "OutcomeUnknownError",
    "Policy",
    "Refused",
    "RepositoryError",
    "StaleJobError",
    "TableError",
    "TransitionError",
    "UnreadableJobError",
    "Worker",
    "allowed_events",
    "apply",
    "async_run_job",
    "async_run_maintenance",
    "async_work",
    "decide",
    "explain",
    "run_job",
    "run_maintenance",
    "work",
]

_PLACES = {
    "attempt": ("AsyncAttempt", "Attempt"),
    "context": ("AsyncContext", "Context"),
    "endpoint": ("Endpoint",),
    "loop": ("AsyncWorker", "Worker", "async_work", "work"),
    "maintenance": ("async_run_maintenance", "run_maintenance"),
    "query": ("JobPage",),
    "service": ("AsyncJobs", "Jobs"),
    "worker": ("JobFailed", "async_run_job", "run_job"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}


if not TYPE_CHECKING:  # a checker would take any name for one that is imported now

    def __getattr__(name: str) -> Any:
        """A public name that is not of the core, imported now."""
        if name not in _PLACE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"{__name__}.{_PLACE_OF[name]}"), name)


def __dir__() -> list[str]:
    """What is imported, and the public names that are not yet."""
    return sorted({*globals(), *__all__})
