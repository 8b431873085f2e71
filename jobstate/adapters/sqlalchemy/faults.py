"""The errors of databases and their drivers, as the port's.

What a server refuses was not done. What met a conflict was certainly not done, and may be decided again. When the connection
breaks under a write that may have been committed, nobody can say.

Source of the codes: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError, TimeoutError  # noqa: A004  # of the pool

from jobstate.errors import OutcomeUnknownError, RepositoryError, StaleJobError

DRIVER_ERRORS = (SQLAlchemyError, OSError)
"""What a database may raise: asyncpg lets errors of its socket pass."""

_CONFLICTS = frozenset({"40001", "40P01"})
"""serialization_failure, deadlock_detected: rolled back."""

_BROKEN = ("08", "57P", "40003")
"""connection exceptions, a server that shuts down or crashed, statement_completion_unknown."""

_AT_FAULT = ("25", "28", "3D", "3F", "42", "53")
"""read-only and other states of a transaction, authorization, missing database, schema, table or right, no disk, memory or
connection left."""


_NO_TABLE = "42P01"
"""undefined_table"""


class HostError(Exception):
    """Carries an error of the host's part of a transaction past the mapping of the library's own."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(cause)
        self.cause = cause


def _code(error: BaseException) -> str:
    """The SQLSTATE, or nothing."""
    return str(getattr(getattr(error, "orig", None), "sqlstate", None) or "")


def is_conflict(error: BaseException) -> bool:
    """Others were quicker: it was rolled back."""
    return _code(error) in _CONFLICTS


def is_broken(error: BaseException) -> bool:
    """The connection broke: what was under way may have been done."""
    lost = isinstance(error, OSError) or (isinstance(error, DBAPIError) and error.connection_invalidated)
    return lost or _code(error).startswith(_BROKEN)


def is_refused(error: BaseException) -> bool:
    """The server has said no, and is there to say it: nothing was done."""
    return bool(_code(error)) and not is_broken(error)


def is_hopeless(error: RepositoryError) -> bool:
    """The database, not the data, is at fault: what was meant for many fails for each of them too."""
    cause = error.__cause__
    unspoken = isinstance(cause, OperationalError) and not _code(cause)
    at_fault = cause is not None and _code(cause).startswith(_AT_FAULT)
    return cause is None or isinstance(cause, TimeoutError) or unspoken or at_fault or is_broken(cause)


def words(error: BaseException) -> str:
    """What the database said, and what to do when it has no tables."""
    said = str(error.orig) if isinstance(error, DBAPIError) else str(error)
    missing = _code(error) == _NO_TABLE or said.startswith("no such table")
    return f"{said}: call create_schema(), or run the migration that makes the tables" if missing else said


class OfTheHost:
    """Around what the host does in a transaction of the library's."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DRIVER_ERRORS):
            raise HostError(error) from error


class NothingDone:
    """Around what writes nothing, or has not committed."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, HostError):
            raise error.cause from None
        if isinstance(error, DRIVER_ERRORS):
            raise RepositoryError(f"the database failed, nothing was done: {words(error)}") from error


class MaybeDone:
    """Around a write that commits by itself."""

    __slots__ = ("_job_id",)

    def __init__(self, job_id: str) -> None:
        self._job_id = job_id

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DRIVER_ERRORS) and is_broken(error):
            raise OutcomeUnknownError(self._job_id, f"the connection broke: {words(error)}") from error


class Conflicts:
    """Around a compare-and-set."""

    __slots__ = ("_job_id", "_version")

    def __init__(self, job_id: str, version: int) -> None:
        self._job_id, self._version = job_id, version

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, DRIVER_ERRORS) and is_conflict(error):
            raise StaleJobError(self._job_id, self._version) from error
