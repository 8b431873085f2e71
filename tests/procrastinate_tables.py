"""procrastinate on the tests' PostgreSQL: its tables, apps, and workers in the process."""

from __future__ import annotations

import asyncio
from typing import Any

from procrastinate import App, PsycopgConnector
from sqlalchemy import URL, Engine, text


def dsn(url: URL) -> str:
    """The address, as psycopg takes it."""
    return url.set(drivername="postgresql").render_as_string(hide_password=False)


def app_of(url: URL) -> App:
    """An app with few connections."""
    return App(connector=PsycopgConnector(conninfo=dsn(url), min_size=0, max_size=4))


def prepared(engine: Engine, url: URL) -> None:
    """Its tables, and nothing in them."""
    with engine.begin() as connection:
        there = connection.execute(text("SELECT to_regclass('procrastinate_jobs')")).scalar_one()
    if there is None:
        with app_of(url).open() as app:
            app.schema_manager.apply_schema()
    with engine.begin() as connection:
        connection.execute(text("TRUNCATE procrastinate_jobs, procrastinate_workers CASCADE"))


def tasks(engine: Engine) -> list[tuple[Any, ...]]:
    """Status, lock and arguments of all tasks, oldest first."""
    with engine.begin() as connection:
        rows = connection.execute(text("SELECT status::text, queueing_lock, args FROM procrastinate_jobs ORDER BY id"))
        return [tuple(row) for row in rows]


async def worked(app: App, **options: Any) -> None:
    """A worker has run what was due."""
    async with app.open_async():
        await app.run_worker_async(wait=False, install_signal_handlers=False, listen_notify=False, **options)


def work(app: App, **options: Any) -> None:
    """The same, called."""
    asyncio.run(worked(app, **options))
