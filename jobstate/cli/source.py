"""Where a command finds the jobs: a database, or the `Jobs` of the host's own program."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from jobstate.service import AsyncJobs, Jobs
from jobstate.worker import Handler

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

DATABASE = "jobstate.sqlite"
VARIABLE = "JOBSTATE_DATABASE"


def add_database(parser: argparse._ActionsContainer) -> None:
    """The option that names a database."""
    words = f"a SQLite file, or a URL (default: ${VARIABLE}, else {DATABASE})"
    parser.add_argument("--database", metavar="URL", help=words)


def add_source(parser: argparse.ArgumentParser) -> None:
    """The options that say where the jobs are."""
    group = parser.add_mutually_exclusive_group()
    add_database(group)
    words = "your own Jobs, or a function that makes it: with its policy, dispatcher and artifacts"
    group.add_argument("--jobs", metavar="MODULE:NAME", help=words)


def database_of(options: argparse.Namespace) -> str:
    """The database that was named, here or in the environment."""
    return str(options.database or os.environ.get(VARIABLE) or DATABASE)


@contextmanager
def opened(options: argparse.Namespace) -> Generator[Jobs]:
    """The jobs that the options name. Raises ValueError for what is no `Jobs`, FileNotFoundError for a missing SQLite file."""
    if options.jobs is not None:
        yield jobs_named(options.jobs)
        return
    with existing(options) as repository:
        yield Jobs(repository)


@contextmanager
def existing(options: argparse.Namespace) -> Generator[SQLAlchemyRepository]:
    """The repository of a database that is there, for this command alone."""
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository

    with engine_of(database_of(options)) as engine:
        yield SQLAlchemyRepository(engine)


@contextmanager
def engine_of(database: str) -> Generator[Engine]:
    """An engine until the command's end. A SQLite file has to be there."""
    from jobstate.database import open_engine

    engine = open_engine(database)
    file = engine.url.database or ""
    if engine.dialect.name == "sqlite" and not Path(file).exists():
        raise FileNotFoundError(f"{file} does not exist: name a database with --database, or run the demo first")
    try:
        yield engine
    finally:
        engine.dispose()


def jobs_named(name: str) -> Jobs:
    """The `Jobs` that `module:name` names, or that the function of this name makes. Raises ValueError with what is wrong."""
    found = _named("--jobs", name)
    if callable(found) and not isinstance(found, Jobs | AsyncJobs):
        found = found()
    if not isinstance(found, Jobs):
        kind = type(found).__name__
        advice = "make a Jobs on the same database for the command line" if isinstance(found, AsyncJobs) else "name a Jobs"
        raise ValueError(f"--jobs: {name!r} is {kind}: {advice}")
    return found


def handler_named(name: str) -> Handler:
    """The function that `module:function` names. Raises ValueError with what is wrong with it."""
    found = _named("handler", name)
    if not callable(found) or iscoroutinefunction(found):
        kind = "async: run it with jobstate.async_work in a program of your own" if callable(found) else type(found).__name__
        raise ValueError(f"handler: {name!r} must be a plain function of a request and a context; it is {kind}")
    handler: Handler = found
    return handler


def _named(field: str, name: str) -> Any:
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(
            f"{field}: a name such as package.module:{'function' if field == 'handler' else 'name'} is needed, not {name!r}"
        )
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` does: modules of the folder that one stands in are found
    try:
        found: Any = import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{field}: {name!r} was not found: {error}") from error
    return found
