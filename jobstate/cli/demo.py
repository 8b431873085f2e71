"""`jobstate demo`."""

from __future__ import annotations

import argparse
from importlib import import_module
from pathlib import Path

from jobstate.cli.source import DATABASE, Commands


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("demo", help="send a document through its whole life on a SQLite file, and watch")
    words = "a PDF or text file; without one, an invoice that comes with the package"
    parser.add_argument("file", nargs="?", type=Path, help=words)
    parser.add_argument("--database", type=Path, default=Path(DATABASE), help=f"a SQLite file (default {DATABASE})")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Tell the story."""
    import_module("pypdf")  # before a job fails for want of it
    from jobstate.demo import run_demo
    from jobstate.show import open_out

    return 0 if run_demo(options.database, options.file, open_out()) else 1
