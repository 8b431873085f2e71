"""`jobstate check`: whether what is stored is what this release knows."""

from __future__ import annotations

import argparse

from jobstate.cli.source import Commands, add_database, database_of, engine_of
from jobstate.cli.told import add_json, tell_json


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("check", help="check the tables' version and what is stored against this release")
    add_database(parser)
    parser.add_argument("--prefix", default="jobstate_", help="the prefix of the tables (default jobstate_)")
    parser.add_argument("--schema", help="the database schema of the tables")
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Check; 1 when something is wrong."""
    from jobstate.adapters.sqlalchemy.check import check
    from jobstate.adapters.sqlalchemy.tables import Tables

    with engine_of(database_of(options)) as engine:
        found = check(engine, Tables(prefix=options.prefix, schema=options.schema))
    if options.json:
        tell_json({"version": found.version, "needed": found.needed, "jobs": found.jobs, "problems": found.problems})
    elif found.problems:
        print(*found.problems, sep="\n")
    else:
        print(f"ok: tables of version {found.version}, {found.jobs} jobs")
    return 1 if found.problems else 0
