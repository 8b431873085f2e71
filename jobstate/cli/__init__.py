"""The command line: `jobstate`, or `python -m jobstate`. One module for each command; none decides what the core decides.

A command imports what it needs when it runs, so that the help needs nothing but the core.
"""

from __future__ import annotations

import argparse
import os
import sys

from jobstate.cli import check, demo, explain, graph, jobs, serve, sweep, work
from jobstate.errors import JobstateError

EXTRAS = {"psycopg": "postgresql", "pypdf": "demo", "fastapi": "serve", "uvicorn": "serve"}
"""The extra of a third party that is missing; `cli` for the others."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command. Exit codes: 0 done, 1 not done (the reason is on standard error), 2 wrong usage, 130 interrupted."""
    words = sys.argv[1:] if arguments is None else arguments
    options = parser().parse_args(jobs.with_verb(words))
    try:
        return int(options.run(options))
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0], "cli")
        return _not_done(f"{error.name} is missing: pip install 'jobstate[{extra}]'")
    except ExceptionGroup as errors:
        return _not_done(f"{errors.message}: {'; '.join(dict.fromkeys(map(str, errors.exceptions)))}")
    except BrokenPipeError:  # whoever read the output has seen enough: nothing more is written, not even at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (JobstateError, OSError, ValueError) as error:
        return _not_done(str(error))
    except KeyboardInterrupt:
        return 130


def _not_done(words: str) -> int:
    print(f"jobstate: {' '.join(words.split())}", file=sys.stderr)  # what databases say has several lines
    return 1


def parser() -> argparse.ArgumentParser:
    """All commands with their options."""
    made = argparse.ArgumentParser(prog="jobstate", description="Job semantics to embed.")
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    for command in (demo, serve, work, sweep, jobs, explain, check, graph):
        command.add(commands)
    return made
