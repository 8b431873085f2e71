"""What a host and its users ask: create, accept, reject, cancel, retry."""

from __future__ import annotations

from typing import Any

from jobstate.effects import Flow, IdKind, Insert, Load, NewId, Now, PutArtifact, Revoke
from jobstate.errors import IdempotencyConflictError, OutcomeUnknownError, TransitionError
from jobstate.flows.dispatch import hand_over
from jobstate.flows.settle import TRIES, Dispatching, Scope, carry_out, command, task_name
from jobstate.lifecycle import Draft, Facts, creation_record, mark_created, new_job
from jobstate.model import Event, Job, JobStatus, evolve
from jobstate.payload import request_prefix

AnyJob = Job[Any, Any]


def create(scope: Scope, draft: Draft, actor: str | None = None) -> Flow[AnyJob]:
    """A new job, queued and dispatched; or the first one under the same idempotency key, finished if it was left half done."""
    job_id = yield from NewId(IdKind.JOB)
    operation = yield from NewId(IdKind.OPERATION)
    now = yield from Now()
    job = new_job(draft, job_id=job_id, now=now, operation=operation, policy=scope.policy)
    stored = yield from _insert(scope, job, actor)
    if stored.id != job.id and stored.request_digest != job.request_digest:
        raise IdempotencyConflictError(str(job.idempotency_key), stored.id)
    if stored.cleanup_started_at is None:
        stored = evolve(stored, {"request": job.request})
    if stored.status is JobStatus.VALIDATING:
        stored = yield from _finish(scope, stored, draft, actor)
    return (yield from hand_over(scope, stored, tell=True))


def _insert(scope: Scope, job: AnyJob, actor: str | None) -> Flow[AnyJob]:
    """Store the row once. Repeating it after a lost answer finds the own row by its id."""
    record = creation_record(job, actor)
    detail = ""
    if scope.dispatching is Dispatching.WITHIN and job.dispatch_pending and job.is_available(job.created_at):
        marked, name = mark_created(job, task_name(job)), task_name(job)
        try:
            return (yield from Insert(marked, creation_record(marked, actor), name)) or marked
        except OutcomeUnknownError as error:
            detail = error.detail
        except Exception:  # the dispatcher's: rolled back, so the job is stored without it, pending
            detail = ""
    for _ in range(TRIES):
        try:
            return (yield from Insert(job, record)) or job
        except OutcomeUnknownError as error:
            detail = error.detail
    raise OutcomeUnknownError(job.id, detail)


def _finish(scope: Scope, job: AnyJob, draft: Draft, actor: str | None) -> Flow[AnyJob]:
    """Put the artifacts, and accept the job unless its host holds it; if another was quicker, the job as it is."""
    for name, data in draft.artifacts.items():
        yield from PutArtifact(request_prefix(job.id) + name, data)
    if job.held:
        return job
    asked = yield from command(Event.ACCEPT, actor=actor)
    try:
        return (yield from carry_out(scope, job, asked)).job
    except TransitionError:
        return (yield from Load(job.id, scope.organization_id, include_request=True))


def change(
    scope: Scope,
    job_id: str,
    event: Event,
    facts: Facts | None = None,
    *,
    actor: str | None = None,
    reason: str | None = None,
    include_request: bool = False,
) -> Flow[AnyJob]:
    """Accept, reject, cancel or retry a job; what is queued then is dispatched, and a cancelled task is taken back."""
    job = yield from Load(job_id, scope.organization_id, include_request)
    asked = yield from command(event, facts, actor, reason)
    outcome = yield from carry_out(scope, job, asked)
    if event is Event.CANCEL:
        yield from take_back(scope, outcome.job)
    return (yield from hand_over(scope, outcome.job, tell=True))


def take_back(scope: Scope, job: AnyJob) -> Flow[None]:
    """Ask the dispatcher to drop the task of a cancelled job. Nothing rests on it, so no failure of it is told."""
    if job.status is JobStatus.CANCELLED and job.task_name is not None and scope.dispatching is not Dispatching.NEVER:
        try:
            yield from Revoke(job.task_name)
        except Exception:
            return
