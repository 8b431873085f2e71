"""`jobstate serve`."""

from __future__ import annotations

import argparse
import os

from jobstate.cli.source import Commands, add_database, database_of


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("serve", help="serve the job API over HTTP, with workers in the process")
    add_database(parser)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="the port to listen on; 0 for any (default 8000)")
    parser.add_argument("--workers", type=int, default=4, help="how many jobs run at once (default 4)")
    parser.add_argument("--grace", type=float, default=10, help="seconds for what runs when it is stopped (default 10)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until it is stopped."""
    from jobstate.serve import API_KEYS, api_keys, serve

    keys = api_keys(os.environ.get(API_KEYS))
    serve(
        database_of(options),
        keys,
        host=options.host,
        port=options.port,
        workers=options.workers,
        grace=options.grace,
    )
    return 0
