"""`jobstate sweep`: all sweeps once, for a cron."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from jobstate.cli.source import Commands, add_source, opened
from jobstate.cli.told import add_json, tell_json
from jobstate.flows.sweeps import SweepError, Swept
from jobstate.service import Jobs


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("sweep", help="expire, rescue, clean up, forget and relay, once: for a cron job")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Sweep once; 1 when something failed or cannot be read, which the next sweep tries again."""
    with opened(options) as jobs:
        made, errors = _sweep(jobs)
    if options.json:
        tell_json({name: swept._asdict() for name, swept in made.items()})
    else:
        for name, swept in made.items():
            print(f"{name}: {swept.moved} moved, {swept.left} left, {swept.lost} lost, {swept.failed} failed")
    unreadable = sorted({job_id for swept in made.values() for job_id in swept.unreadable})
    for words in (*errors, *(f"the row of {job_id} cannot be read" for job_id in unreadable)):
        print(f"jobstate: {words}", file=sys.stderr)
    return int(bool(errors or unreadable) or any(swept.failed for swept in made.values()))


def _sweep(jobs: Jobs) -> tuple[Mapping[str, Swept], list[str]]:
    """What the sweeps did, and the errors that others of them met, each once."""
    try:
        return jobs.sweep()._asdict(), []
    except SweepError as raised:
        told = (f"{type(error).__name__}: {' '.join(str(error).split())}" for error in raised.exceptions)
        return raised.made, list(dict.fromkeys(told))
