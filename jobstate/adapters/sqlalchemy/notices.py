"""Notices of new jobs through PostgreSQL: `NOTIFY` after a write that queued a job, `LISTEN` on a connection of one's own.

The notice is a statement after the write, not a part of it: a commit that notifies holds a lock of the whole server until it is
on disk, and writers would wait for one another's disks.

Source of that: PostgreSQL 18, src/backend/commands/async.c, "PreCommit_Notify".
"""

from __future__ import annotations

import asyncio
import re
from hashlib import blake2b
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from jobstate.adapters.sqlalchemy.tables import Tables
from jobstate.errors import RepositoryError
from jobstate.lifecycle import Accepted
from jobstate.model import Job, JobStatus

_PLAIN = re.compile(r"[a-z0-9_.]{1,63}")
_CLOSED = "the connection that listens was closed"


def channel_of(tables: Tables) -> str:
    """The channel of these tables: the jobs table's name, or what fits of one that is long or strange."""
    name = tables.jobs.fullname
    return name if _PLAIN.fullmatch(name) else "jobstate_" + blake2b(name.encode(), digest_size=16).hexdigest()


def is_new(job: Job[Any, Any]) -> bool:
    """Whether a worker may take this job as soon as it is stored."""
    return job.status is JobStatus.QUEUED and job.is_available(job.created_at)


def is_queued(transition: Accepted) -> bool:
    """Whether a worker may take a job as soon as this is saved."""
    if transition.target is not JobStatus.QUEUED or transition.source is JobStatus.QUEUED:
        return False
    return (transition.changes.get("available_at") or 0) <= transition.at


class PostgreSQLListener:
    """A `Listener` on a connection of psycopg."""

    def __init__(self, engine: Engine, channel: str) -> None:
        self._connection: Connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        try:
            _ = self._connection.exec_driver_sql(f'LISTEN "{channel}"')
        except BaseException:
            self.close()
            raise
        self._driver: Any = self._connection.connection.driver_connection

    def wait(self, seconds: float) -> bool:
        """As `Listener.wait`."""
        try:
            return any(True for _ in self._driver.notifies(timeout=seconds, stop_after=1))
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise RepositoryError(f"no notices come any more: {error}") from error

    def close(self) -> None:
        """As `Listener.close`. The pool gets no connection back that listens."""
        self._connection.invalidate()
        self._connection.close()


class AsyncPostgreSQLListener:
    """An `AsyncListener` on a connection of psycopg or asyncpg."""

    def __init__(self, connection: AsyncConnection, driver: Any) -> None:
        self._connection = connection
        self._driver = driver
        self._heard = asyncio.Event()
        self._closed = False

    @classmethod
    async def open(cls, engine: AsyncEngine, channel: str) -> AsyncPostgreSQLListener:
        """Listen on a connection of this engine."""
        connection = await engine.connect()
        try:
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            raw = await connection.get_raw_connection()
            listener = cls(connection, raw.driver_connection)
            if listener._has_callbacks:
                await listener._driver.add_listener(channel, listener._hear)
                listener._driver.add_termination_listener(listener._end)
            else:
                _ = await connection.exec_driver_sql(f'LISTEN "{channel}"')
        except BaseException:
            await connection.invalidate()
            await connection.close()
            raise
        return listener

    @property
    def _has_callbacks(self) -> bool:
        """Of the two drivers, asyncpg."""
        return hasattr(self._driver, "add_listener")

    def _hear(self, *_: object) -> None:
        self._heard.set()

    def _end(self, *_: object) -> None:
        self._closed = True
        self._heard.set()

    async def wait(self, seconds: float) -> bool:
        """As `Listener.wait`."""
        if not self._has_callbacks:
            return await self._notified(seconds)
        try:
            _ = await asyncio.wait_for(self._heard.wait(), seconds)
        except TimeoutError:
            return False
        if self._closed:
            raise RepositoryError(f"no notices come any more: {_CLOSED}")
        self._heard.clear()
        return True

    async def _notified(self, seconds: float) -> bool:
        try:
            async for _ in self._driver.notifies(timeout=seconds, stop_after=1):
                return True
        except self._connection.dialect.loaded_dbapi.Error as error:
            raise RepositoryError(f"no notices come any more: {error}") from error
        return False

    async def close(self) -> None:
        """As `Listener.close`."""
        await self._connection.invalidate()
        await self._connection.close()
