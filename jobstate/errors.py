"""Every exception of the library. Knows nothing but strings and numbers.

    JobstateError
    ├── InvalidInputError           (also a ValueError) a value from outside breaks a stated limit
    ├── TableError                  the transition table itself is wrong; raised at import only
    ├── TransitionError             the lifecycle refuses an event; nothing was changed
    │   ├── IllegalTransitionError      the table has no row for this event and status
    │   ├── GuardRefusedError           there is a row, and its guard says no
    │   └── LeaseLostError              the worker's token is not the job's lease any more
    ├── RepositoryError             what a repository answers besides a job
    │   ├── JobNotFoundError            no such job (for this organization)
    │   ├── IdempotencyConflictError    the key was used with another request
    │   ├── StaleJobError               certainly not applied: the row is at another version
    │   ├── OutcomeUnknownError         applied or not: nobody can say; repeating the command is safe
    │   ├── BulkStoppedError            a bulk command was stopped in the middle; what it did stands
    │   └── UnreadableJobError          a stored row that this version of the library cannot read
    ├── DispatchError               a dispatcher did not take a delivery
    └── ArtifactError               what an artifact store answers besides bytes
        ├── ArtifactNotFoundError       nothing stands under the key
        └── ArtifactConflictError       other bytes stand under the key; they were left alone

Errors carry ids and scalars, never a job, and pickle: each passes all its arguments on to `Exception`.
"""

from __future__ import annotations


class JobstateError(Exception):
    """Base of all errors of this library."""


class InvalidInputError(JobstateError, ValueError):
    """A value from outside breaks a limit; nothing was stored or changed.

    Attributes:
        field: the name of the parameter or field, dotted for what is nested (`metadata.batch_id`).
        problem: what is wrong, the limit, and what to do.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class TableError(JobstateError):
    """The transition table has an unknown, unreachable, shadowed or duplicate row."""


class TransitionError(JobstateError):
    """The lifecycle refused an event; the job is as it was.

    Attributes:
        job_id: the job.
        code: the stable code of the refusal, such as `cleaned_up`.
        event: what was asked.
        status: the status it was asked in.
        reason: the guard's own words, with its figures.
        legal: the events that would be accepted now.
        wait_until: Unix seconds from when on the same event may be accepted; None when waiting does not help.
    """

    def __init__(
        self,
        job_id: str,
        code: str,
        event: str,
        status: str,
        reason: str,
        legal: tuple[str, ...] = (),
        wait_until: int | None = None,
    ) -> None:
        super().__init__(job_id, code, event, status, reason, legal, wait_until)
        self.job_id = job_id
        self.code = code
        self.event = event
        self.status = status
        self.reason = reason
        self.legal = legal
        self.wait_until = wait_until

    def __str__(self) -> str:
        wait = "waiting does not help" if self.wait_until is None else f"it may be accepted from {self.wait_until} on"
        legal = ", ".join(self.legal) or "nothing"
        return (
            f"{self.event} of {self.job_id} ({self.status}) is refused [{self.code}]: {self.reason}; {wait}; legal now: {legal}"
        )


class IllegalTransitionError(TransitionError):
    """The table has no row for this event in this status."""


class GuardRefusedError(TransitionError):
    """The table has a row, and its guard says no."""


class LeaseLostError(TransitionError):
    """The worker's lease token is not, or no longer, the one that executes the job. Stop work, drop the result."""


class RepositoryError(JobstateError):
    """What a repository answers besides a job."""


class JobNotFoundError(RepositoryError):
    """No job has this id, or it belongs to another organization: the two look the same.

    Attributes:
        job_id: the id that was asked for.
    """

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id

    def __str__(self) -> str:
        return f"no job {self.job_id!r}: check the id; a job is also gone once it was forgotten"


class IdempotencyConflictError(RepositoryError):
    """The idempotency key was used before by this organization, for another request.

    Attributes:
        idempotency_key: the key.
        job_id: the job that has it.
    """

    def __init__(self, idempotency_key: str, job_id: str) -> None:
        super().__init__(idempotency_key, job_id)
        self.idempotency_key = idempotency_key
        self.job_id = job_id

    def __str__(self) -> str:
        return (
            f"idempotency_key {self.idempotency_key!r} belongs to {self.job_id}, which was created from another "
            "endpoint, request or artifacts: use a new key for a new request"
        )


class StaleJobError(RepositoryError):
    """The write was certainly not applied: the row is not at the version that was decided on.

    Attributes:
        job_id: the job.
        version: the version that was expected.
    """

    def __init__(self, job_id: str, version: int) -> None:
        super().__init__(job_id, version)
        self.job_id = job_id
        self.version = version

    def __str__(self) -> str:
        return f"{self.job_id} is not at version {self.version} any more: load it and decide again"


class OutcomeUnknownError(RepositoryError):
    """The write may have been applied, or not, or may yet be. Repeating the same command is safe.

    Attributes:
        job_id: the job.
        detail: what happened, in words.
    """

    def __init__(self, job_id: str, detail: str) -> None:
        super().__init__(job_id, detail)
        self.job_id = job_id
        self.detail = detail

    def __str__(self) -> str:
        return f"the outcome for {self.job_id} is unknown ({self.detail}): retrieve the job, or repeat the command"


class UnreadableJobError(RepositoryError):
    """A stored row that cannot be read back: a status that the table no longer has, or a damaged field.

    Attributes:
        job_id: the job.
        field: the field that cannot be read.
        problem: what is wrong with it.
    """

    def __init__(self, job_id: str, field: str, problem: str) -> None:
        super().__init__(job_id, field, problem)
        self.job_id = job_id
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.job_id} cannot be read: {self.field}: {self.problem}"


class BulkStoppedError(RepositoryError):
    """A bulk command met an error of a port after it had decided on some jobs; what it did to these stands.

    Attributes:
        event: what was asked.
        outcomes: pairs of job id and fate (`moved`, `already`, `refused`, `unknown`), in the order they were decided.
        detail: what happened, in words.
    """

    def __init__(self, event: str, outcomes: tuple[tuple[str, str], ...], detail: str) -> None:
        super().__init__(event, outcomes, detail)
        self.event = event
        self.outcomes = outcomes
        self.detail = detail

    def __str__(self) -> str:
        done = f"{self.event} of many stopped after {len(self.outcomes)} jobs"
        return f"{done} ({self.detail}): the same command again does the rest"


class DispatchError(JobstateError):
    """A dispatcher did not take a delivery. Inside a command this means *delayed*, never *failed*."""


class ArtifactError(JobstateError):
    """What an artifact store answers besides bytes.

    Attributes:
        key: the artifact's key, which begins with its job's id.
    """

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the artifact store failed at {self.key!r}: repeat the command"


class ArtifactNotFoundError(ArtifactError):
    """Nothing stands under the key."""

    def __str__(self) -> str:
        return f"no artifact {self.key!r}"


class ArtifactConflictError(ArtifactError):
    """Other bytes stand under the key; they were left alone. Artifacts are written once."""

    def __str__(self) -> str:
        return f"artifact {self.key!r} exists with other content: artifacts are written once; use another name"
