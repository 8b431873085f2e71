"""`jobstate work`."""

from __future__ import annotations

import argparse

from jobstate.cli.source import Commands, add_source, database_of, handler_named, jobs_named
from jobstate.loop import Working
from jobstate.loop import work as work_on
from jobstate.service import Jobs


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("work", help="take pending jobs from a database and run a handler on them")
    parser.add_argument("handler", metavar="MODULE:HANDLER", help="a function of a request and a context")
    add_source(parser)
    parser.add_argument("--concurrency", type=int, default=10, help="how many jobs run at once, in threads (default 10)")
    parser.add_argument("--poll", type=float, default=1.0, help="seconds between two looks of who is idle (default 1)")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds for what runs when it is stopped (default 10)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Work until it is stopped."""
    handler = handler_named(options.handler)
    how = Working(concurrency=options.concurrency, poll=options.poll, grace=options.grace)
    if options.jobs is not None:
        work_on(jobs_named(options.jobs), handler, **how)
        return 0
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from jobstate.database import open_engine

    engine = open_engine(database_of(options), connections=options.concurrency + 1)
    repository = SQLAlchemyRepository(engine)
    repository.create_schema()
    try:
        work_on(Jobs(repository), handler, **how)
    finally:
        engine.dispose()
    return 0
