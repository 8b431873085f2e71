"""What a worker asks. Every command carries the lease token; the lifecycle fences by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from jobstate.effects import Flow, GetArtifact, IdKind, Load, NewId
from jobstate.errors import (
    ArtifactError,
    ArtifactNotFoundError,
    InvalidInputError,
    JobNotFoundError,
    LeaseLostError,
    TransitionError,
)
from jobstate.flows.commands import put_artifact, remove_artifacts
from jobstate.flows.dispatch import hand_over
from jobstate.flows.settle import Command, Outcome, Scope, answer, carry_out, command, judge, reload
from jobstate.flows.whole import need_store, restored
from jobstate.lifecycle import Accepted, Facts, Refused
from jobstate.model import AnyJob, Delivery, Event, JobError, JobResponse, JobWarning
from jobstate.payload import artifact_prefix, describe_artifacts, result_digest

_ENDS_THE_JOB = ("no_attempts_left", "already_finished")
"""Refusals of a release after which the failure is for good, or was told before."""


def anything(_: AnyJob) -> None:
    """Any job will do: its request is read when its attempt asks for it."""
    return


class Hold(NamedTuple):
    """What a worker holds: the job as it last saw it, its token, and the number of its attempt."""

    job: AnyJob
    token: str
    attempt: int


def start(scope: Scope, delivery: Delivery, check: Callable[[AnyJob], None], *, include_request: bool = True) -> Flow[Hold]:
    """Begin the delivery's run under a new lease; `check` looks at the job before, and may raise.

    A request that was cut is made whole first: without it nothing runs, and no attempt is used up.
    """
    job = yield from Load(delivery.job_id, scope.organization_id, include_request)
    check(job)
    token = yield from NewId(IdKind.LEASE)
    asked = yield from command(Event.START, {"token": token, "run": delivery.run})
    job = yield from _made_whole(scope, job, asked)
    job = (yield from carry_out(scope, job, asked)).job
    return Hold(job, token, job.attempt_count)


def _made_whole(scope: Scope, job: AnyJob, asked: Command) -> Flow[AnyJob]:
    """The job with its request as it came. If a part is gone, the start itself is asked before anyone is blamed."""
    try:
        return (yield from restored(scope, job))
    except (ArtifactError, InvalidInputError):
        decision = yield from judge(scope, (yield from reload(scope, job)), asked)
        if isinstance(decision, Refused):
            raise decision.error() from None
        raise


class Ended(NamedTuple):
    """How a command ended the attempt: the event that was saved, now or before, and the job as it is."""

    job: AnyJob
    event: Event


def heartbeat(scope: Scope, hold: Hold, progress: float | None = None, warnings: tuple[JobWarning, ...] = ()) -> Flow[AnyJob]:
    """Stay alive: the lease grows."""
    facts: Facts = {"token": hold.token, "warnings": warnings}
    if progress is not None:
        facts["progress"] = progress
    return (yield from _ask(scope, hold, Event.HEARTBEAT, facts)).job


def complete(
    scope: Scope,
    hold: Hold,
    response: JobResponse[Any],
    artifacts: Mapping[str, bytes],
    warnings: tuple[JobWarning, ...] = (),
) -> Flow[Ended]:
    """Bring the result. Artifacts are put first, under a fresh heartbeat, and shown by the save.

    A fenced attempt's own artifacts are removed again.
    """
    prefix = artifact_prefix(hold.job.id, hold.attempt)
    refs = describe_artifacts(prefix, artifacts) or None
    facts: Facts = {
        "token": hold.token,
        "response": response,
        "response_artifacts": refs,
        "digest": result_digest(response, refs),
        "warnings": warnings,
    }
    if not artifacts:
        return Ended((yield from _ask(scope, hold, Event.COMPLETE, facts)).job, Event.COMPLETE)
    need_store(scope)
    try:
        return (yield from _complete_with(scope, hold, facts, prefix, artifacts))
    except (LeaseLostError, JobNotFoundError):
        yield from remove_artifacts(prefix)
        raise


def _complete_with(scope: Scope, hold: Hold, facts: Facts, prefix: str, artifacts: Mapping[str, bytes]) -> Flow[Ended]:
    hold = hold._replace(job=(yield from heartbeat(scope, hold)))
    asked = yield from command(Event.COMPLETE, facts)
    decision = yield from judge(scope, hold.job, asked)
    if not isinstance(decision, Accepted):
        return Ended(answer(hold.job, decision).job, Event.COMPLETE)
    for name, data in artifacts.items():
        yield from put_artifact(prefix + name, data)
    return Ended((yield from carry_out(scope, hold.job, asked)).job, Event.COMPLETE)


def fail(scope: Scope, hold: Hold, error: JobError, *, retryable: bool, warnings: tuple[JobWarning, ...] = ()) -> Flow[Ended]:
    """End the attempt without a result; a retryable failure goes back to the queue while attempts are left."""
    if retryable:
        if warnings:  # a release keeps the warnings that a job has, and brings none
            hold, warnings = hold._replace(job=(yield from heartbeat(scope, hold, None, warnings))), ()
        facts: Facts = {"token": hold.token, "failure_code": error.code}
        asked = yield from command(Event.RELEASE, facts)
        decision = yield from judge(scope, hold.job, asked)
        if not isinstance(decision, Refused) or decision.code not in _ENDS_THE_JOB:
            try:
                outcome = yield from carry_out(scope, hold.job, asked, held=True)
                return Ended((yield from hand_over(scope, outcome.job, tell=False)), Event.RELEASE)
            except TransitionError as refusal:
                if refusal.code not in _ENDS_THE_JOB:
                    raise
    facts = {"token": hold.token, "error": error, "digest": result_digest(error), "warnings": warnings}
    return Ended((yield from _ask(scope, hold, Event.FAIL, facts)).job, Event.FAIL)


def give_back(scope: Scope, hold: Hold) -> Flow[Ended]:
    """Stop in good order: queued again at once, at no cost."""
    outcome = yield from _ask(scope, hold, Event.GIVE_BACK, {"token": hold.token})
    return Ended((yield from hand_over(scope, outcome.job, tell=False)), Event.GIVE_BACK)


def get_artifact(scope: Scope, hold: Hold, name: str) -> Flow[bytes]:
    """A part of the request. If it is gone, the lease is asked before anyone is blamed."""
    need_store(scope)
    for artifact in hold.job.request_artifacts or ():
        if artifact.name == name:
            try:
                return (yield from GetArtifact(artifact.key))
            except ArtifactNotFoundError:
                yield from heartbeat(scope, hold)
                raise
    known = ", ".join(artifact.name for artifact in hold.job.request_artifacts or ()) or "none"
    raise InvalidInputError("name", f"the request has no artifact {name!r}; it has {known}")


def _ask(scope: Scope, hold: Hold, event: Event, facts: Facts) -> Flow[Outcome]:
    asked = yield from command(event, facts)
    return (yield from carry_out(scope, hold.job, asked, held=True))
