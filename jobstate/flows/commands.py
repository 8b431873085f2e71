"""What a host and its users ask: create, accept, reject, cancel, retry."""

from __future__ import annotations

from jobstate.effects import DeleteArtifacts, Flow, IdKind, Insert, Load, NewId, Now, PutArtifact, Revoke
from jobstate.errors import ArtifactError, IdempotencyConflictError, OutcomeUnknownError, TransitionError
from jobstate.flows.dispatch import hand_over
from jobstate.flows.settle import TRIES, Dispatching, Scope, carry_out, command, not_before, reload, task_name
from jobstate.flows.whole import shown
from jobstate.lifecycle import Draft, Facts, creation_record, mark_created, new_job
from jobstate.model import AnyJob, Event, JobStatus, evolve
from jobstate.parts import parts_in, parts_of
from jobstate.payload import artifact_prefix, request_prefix


def create(scope: Scope, draft: Draft, actor: str | None = None) -> Flow[AnyJob]:
    """A new job, queued and dispatched; or the first one under the same idempotency key, finished if it was left half done."""
    job_id = yield from NewId(IdKind.JOB)
    operation = yield from NewId(IdKind.OPERATION)
    now = yield from Now()
    limit = scope.policy.inline_limit if scope.has_artifacts and not scope.bound else None
    job = new_job(draft, job_id=job_id, now=now, operation=operation, policy=scope.policy, inline_limit=limit)
    stored = yield from _insert(scope, job, actor)
    if stored.id != job.id and stored.request_digest != job.request_digest:
        raise IdempotencyConflictError(str(job.idempotency_key), stored.id)
    if stored.cleanup_started_at is None:
        stored = evolve(stored, {"request": draft.request})
    if stored.status is JobStatus.VALIDATING:
        stored = yield from _finish(scope, stored, draft, actor)
    return (yield from hand_over(scope, stored, tell=True))


def _insert(scope: Scope, job: AnyJob, actor: str | None) -> Flow[AnyJob]:
    """Store the row once. Repeating it after a lost answer finds the own row by its id; till then nothing else is said."""
    doubt: OutcomeUnknownError | None = None
    early = not_before(job, job.created_at)
    within = scope.dispatching is Dispatching.WITHIN and job.dispatch_pending and scope.takes(job, job.created_at)
    for _ in range(TRIES):
        name = task_name(job) if within else None
        new = job if name is None else mark_created(job, name)
        try:
            return (yield from Insert(new, creation_record(new, actor), name, early)) or new
        except OutcomeUnknownError as error:
            doubt = error
        except Exception as error:
            if scope.bound or not within:
                raise error if doubt is None else OutcomeUnknownError(job.id, f"an answer was lost, then: {error}") from error
        within = False  # it may have been a transactional dispatcher's error: then the job is stored without it
    raise OutcomeUnknownError(job.id, "" if doubt is None else doubt.detail)


def _finish(scope: Scope, job: AnyJob, draft: Draft, actor: str | None) -> Flow[AnyJob]:
    """Put the artifacts, and accept the job unless its host holds it; if another was quicker, the job as it is.

    What was put for a job whose clean-up has begun is removed again.
    """
    yield from _put_all(job, draft)
    if job.held:
        return job
    asked = yield from command(Event.ACCEPT, actor=actor)
    try:
        return (yield from carry_out(scope, job, asked)).job
    except TransitionError:
        found = yield from reload(scope, job)
    if found.cleanup_started_at is not None and job.request_artifacts:
        yield from remove_artifacts(artifact_prefix(job.id))
    return found


def _put_all(job: AnyJob, draft: Draft) -> Flow[None]:
    """Put what the caller gave, and what was cut out of the request: the row says what, whatever the limit is by now."""
    for name, data in draft.artifacts.items():
        yield from put_artifact(request_prefix(job.id) + name, data)
    if parts := parts_of(job):
        for name, data in parts_in(draft.request, parts):
            yield from put_artifact(parts[name].key, data)


def remove_artifacts(prefix: str) -> Flow[None]:
    """Remove what stands under a prefix, as far as the store lets us: clean-up removes all that stands under the job's."""
    try:
        yield from DeleteArtifacts(prefix)
    except Exception:
        return


def put_artifact(key: str, data: bytes) -> Flow[None]:
    """Put an artifact. A store's error of its own becomes an ArtifactError, whose key names the job."""
    try:
        yield from PutArtifact(key, data)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(key) from error


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
    job = yield from hand_over(scope, outcome.job, tell=True)
    return (yield from shown(scope, job))


def dispatch(scope: Scope, job_id: str) -> Flow[AnyJob]:
    """Give a job to the dispatcher, if it is pending, and due or can be given with its time."""
    job = yield from Load(job_id, scope.organization_id)
    return (yield from hand_over(scope, job, tell=False))


def take_back(scope: Scope, job: AnyJob) -> Flow[None]:
    """Ask the dispatcher to drop the task of a cancelled job. Nothing rests on it, so no failure of it is told."""
    if scope.bound or scope.dispatching is Dispatching.NEVER:
        return
    if job.status is JobStatus.CANCELLED and job.task_name is not None:
        try:
            yield from Revoke(job.task_name)
        except Exception:
            return
