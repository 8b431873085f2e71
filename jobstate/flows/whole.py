"""Requests made whole: their parts come back from the artifact store."""

from __future__ import annotations

from hashlib import sha256

from jobstate.effects import Flow, GetArtifact
from jobstate.errors import ArtifactError, InvalidInputError
from jobstate.flows.settle import Scope
from jobstate.model import AnyJob, Artifact, JobWarning, evolve
from jobstate.parts import parts_of, put_back

RESTORE_FAILED = "restore_failed"
"""The code of the warning that stands in for the parts of a request that could not be had."""


def is_degraded(job: AnyJob) -> bool:
    """Whether this answer shows a request with references in the place of parts."""
    return any(warning.code == RESTORE_FAILED for warning in job.warnings or ())


def restored(scope: Scope, job: AnyJob) -> Flow[AnyJob]:
    """The job with its request as it came, if its request is there.

    Raises ArtifactError for the first part that cannot be had, InvalidInputError when there is no store to ask.
    """
    if job.request is None or not (parts := parts_of(job)):
        return job
    need_store(scope)
    found = dict[str, bytes]()
    for name, part in parts.items():
        found[name] = yield from _get(part)
    return evolve(job, {"request": put_back(job.request, found)})


def shown(scope: Scope, job: AnyJob) -> Flow[AnyJob]:
    """The same for a reader, who is answered whatever the store says: a part that cannot be had stays a reference.

    Then the job that is returned, and only that, carries a warning that names these parts.
    """
    if job.request is None or not (parts := parts_of(job)):
        return job
    found, lost = dict[str, bytes](), list[str]()
    for name, part in parts.items():
        try:
            need_store(scope)
            found[name] = yield from _get(part)
        except (ArtifactError, InvalidInputError):
            lost.append(name)
    job = evolve(job, {"request": put_back(job.request, found)})
    return evolve(job, {"warnings": (*(job.warnings or ()), _warning(lost))}) if lost else job


def need_store(scope: Scope) -> None:
    """Raises InvalidInputError when there is no artifact store."""
    if not scope.has_artifacts:
        raise InvalidInputError("artifacts", "there is no artifact store: pass artifacts=... to Jobs")


def _get(part: Artifact) -> Flow[bytes]:
    """The bytes that were put, or an ArtifactError: other bytes are as good as none."""
    try:
        data = yield from GetArtifact(part.key)
    except ArtifactError:
        raise
    except Exception as error:
        raise ArtifactError(part.key) from error
    if sha256(data).hexdigest() != part.digest:
        raise ArtifactError(part.key)
    return data


def _warning(lost: list[str]) -> JobWarning:
    return JobWarning(
        code=RESTORE_FAILED,
        message=f"{len(lost)} parts of the request could not be had from the artifact store; references stand in their place.",
        details={"artifacts": list(lost)},
    )
