"""How a write is made on a connection: alone, in a transaction of the library's own, or as a part of the host's.

Connections are in AUTOCOMMIT mode, so that one statement costs one round trip; a transaction is begun by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Connection

from jobstate.adapters.sqlalchemy.backend import Backend
from jobstate.adapters.sqlalchemy.faults import DRIVER_ERRORS, is_refused, maybe_done, words
from jobstate.errors import OutcomeUnknownError

R = TypeVar("R")


def make_ready(connection: Connection, backend: Backend) -> None:
    """Switch a connection that was just checked out to AUTOCOMMIT mode, where it is not in it anyway, and prepare it.

    An engine's own `isolation_level` option switches while it connects: a task that is cancelled there loses the connection.
    One that is cancelled here throws it away, for nobody would switch it back.
    """
    try:
        there = connection.connection.dbapi_connection
        if there is not None and not connection.dialect.detect_autocommit_setting(there):
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
        backend.prepare(connection)
    except BaseException:
        connection.invalidate()
        raise


class Transactions:
    """Transactions of the library's own."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def write(self, connection: Connection, job_id: str, work: Callable[[Connection], R]) -> R:
        """Make a write: what is one statement needs no transaction."""
        if self.backend.in_one:
            with maybe_done(job_id):
                return work(connection)
        with self.transaction(connection, job_id):
            return work(connection)

    @contextmanager
    def transaction(self, connection: Connection, job_id: str) -> Generator[None]:
        """Committed at the end, rolled back by any error; OutcomeUnknownError if the commit itself fails."""
        try:
            self.begin(connection)
            yield
        except BaseException as error:
            self.abandon(connection, error)
            raise
        self.commit(connection, job_id)

    def begin(self, connection: Connection) -> None:
        """Begin."""
        _ = connection.exec_driver_sql(self.backend.begin)

    def abandon(self, connection: Connection, error: BaseException) -> None:
        """Roll back after an error; who was cancelled cannot know what the connection is doing, and throws it away."""
        if isinstance(error, Exception):
            self.rollback(connection)
        else:
            connection.invalidate()

    def rollback(self, connection: Connection) -> None:
        """Roll back; a connection on which not even this works is thrown away."""
        try:
            _ = connection.exec_driver_sql("ROLLBACK")
        except DRIVER_ERRORS:
            connection.invalidate()

    def commit(self, connection: Connection, job_id: str) -> None:
        """Commit."""
        try:
            _ = connection.exec_driver_sql("COMMIT")
        except DRIVER_ERRORS as error:
            self.rollback(connection)
            if is_refused(error):
                raise
            raise OutcomeUnknownError(job_id, f"the commit failed: {words(error)}") from error
        except BaseException as error:
            self.abandon(connection, error)
            raise

    def check(self, connection: Connection) -> None:
        """Raise if an error that somebody swallowed has ended the transaction: its COMMIT would roll back without a word."""
        _ = connection.exec_driver_sql("SELECT 1")


class PartOfAnother(Transactions):
    """Writes in a transaction of the host's, which commits or rolls back: nothing of it is done before."""

    def write(self, connection: Connection, job_id: str, work: Callable[[Connection], R]) -> R:
        """As `Transactions.write`."""
        self.backend.join(connection)
        if self.backend.in_one:
            return work(connection)
        with self.transaction(connection, job_id):
            return work(connection)

    def begin(self, connection: Connection) -> None:
        """A savepoint, so that a write is whole or not there."""
        self.backend.join(connection)
        _ = connection.exec_driver_sql("SAVEPOINT jobstate")

    def abandon(self, connection: Connection, error: BaseException) -> None:
        """Back to the savepoint; the connection is the host's to throw away."""
        self.rollback(connection)

    def rollback(self, connection: Connection) -> None:
        """Back to the savepoint; what cannot be, has ended the host's transaction."""
        try:
            _ = connection.exec_driver_sql("ROLLBACK TO SAVEPOINT jobstate")
        except DRIVER_ERRORS:
            return

    def commit(self, connection: Connection, job_id: str) -> None:
        """Forget the savepoint."""
        _ = connection.exec_driver_sql("RELEASE SAVEPOINT jobstate")
