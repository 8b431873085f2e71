"""How a write is made on a connection: alone, in a transaction of the library's own, or as a part of the host's.

Connections are in AUTOCOMMIT mode, so that one statement costs one round trip; a transaction is begun by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.faults import DRIVER_ERRORS, MaybeDone, is_refused, words
from jobstate.adapters.sqlalchemy.lines import Line, Seen
from jobstate.errors import OutcomeUnknownError

R = TypeVar("R")


def make_ready(line: Seen, backend: Backend) -> None:
    """Switch a connection that was just checked out to AUTOCOMMIT mode, where it is not in it anyway, and prepare it.

    An engine's own `isolation_level` option switches while it connects: a task that is cancelled there loses the connection.
    One that is cancelled here throws it away, for nobody would switch it back.
    """
    try:
        if not line.commits_itself:
            _ = line.connection.execution_options(isolation_level="AUTOCOMMIT")
        backend.prepare(line)
    except BaseException:
        line.invalidate()
        raise


class Transactions:
    """Transactions of the library's own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def write(self, line: Line, job_id: str, work: Callable[[Line], R]) -> R:
        """Make a write: what is one statement needs no transaction."""
        if self.backend.in_one:
            with MaybeDone(job_id):
                return work(line)
        with self.transaction(line, job_id):
            return work(line)

    @contextmanager
    def transaction(self, line: Line, job_id: str) -> Generator[None]:
        """Committed at the end, rolled back by any error; OutcomeUnknownError if the commit itself fails."""
        try:
            self.begin(line)
            yield
        except BaseException as error:
            self.abandon(line, error)
            raise
        self.commit(line, job_id)

    def begin(self, line: Line) -> None:
        """Begin."""
        _ = line.send(self.backend.begin)

    def abandon(self, line: Line, error: BaseException) -> None:
        """Roll back after an error; who was cancelled cannot know what the connection is doing, and throws it away."""
        if isinstance(error, Exception):
            self.rollback(line)
        else:
            line.invalidate()

    def rollback(self, line: Line) -> None:
        """Roll back; a connection on which not even this works is thrown away."""
        try:
            _ = line.send("ROLLBACK")
        except DRIVER_ERRORS:
            line.invalidate()

    def commit(self, line: Line, job_id: str) -> None:
        """Commit."""
        try:
            _ = line.send("COMMIT")
        except DRIVER_ERRORS as error:
            self.rollback(line)
            if is_refused(error):
                raise
            raise OutcomeUnknownError(job_id, f"the commit failed: {words(error)}") from error
        except BaseException as error:
            self.abandon(line, error)
            raise

    def check(self, line: Line) -> None:
        """Raise if an error that somebody swallowed has ended the transaction: its COMMIT would roll back without a word."""
        _ = line.send("SELECT 1")


class PartOfAnother(Transactions):
    """Writes in a transaction of the host's, which commits or rolls back: nothing of it is done before."""

    def write(self, line: Line, job_id: str, work: Callable[[Line], R]) -> R:
        """As `Transactions.write`."""
        self.backend.join(line)
        if self.backend.in_one:
            return work(line)
        with self.transaction(line, job_id):
            return work(line)

    def begin(self, line: Line) -> None:
        """A savepoint, so that a write is whole or not there."""
        self.backend.join(line)
        _ = line.send("SAVEPOINT jobstate")

    def abandon(self, line: Line, error: BaseException) -> None:
        """Back to the savepoint; the connection is the host's to throw away."""
        self.rollback(line)

    def rollback(self, line: Line) -> None:
        """Back to the savepoint; what cannot be, has ended the host's transaction."""
        try:
            _ = line.send("ROLLBACK TO SAVEPOINT jobstate")
        except DRIVER_ERRORS:
            return

    def commit(self, line: Line, job_id: str) -> None:
        """Forget the savepoint."""
        _ = line.send("RELEASE SAVEPOINT jobstate")
