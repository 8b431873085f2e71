"""The database that a command line names: an engine for the library alone."""

from __future__ import annotations

from sqlalchemy import URL, Engine, create_engine, make_url
from sqlalchemy.exc import ArgumentError


def open_engine(database: str, *, connections: int = 15) -> Engine:
    """An engine of a SQLite file by its path, or of a database by its URL. Raises ValueError for one that is not supported.

    At most so many connections are in use at once.
    """
    try:
        url = make_url(database if "://" in database else f"sqlite:///{database}")
    except (ArgumentError, ValueError):  # the latter of a port that is no number
        raise ValueError("--database: a SQLite file or a URL such as postgresql://user:password@host/name is needed") from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return create_engine(
        _checked(url),
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
    )


def _checked(url: URL) -> URL:
    if url.get_backend_name() not in ("postgresql", "sqlite"):
        raise ValueError(f"--database: PostgreSQL and SQLite are possible, not {url.get_backend_name()}")
    if url.get_dialect().is_async:
        raise ValueError(
            f"--database: {url.drivername} is for asyncio: name the database without it, {url.get_backend_name()}://…"
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise ValueError("--database: a SQLite database in memory is empty and gone with the command: name a file")
    return url
