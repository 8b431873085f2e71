"""`jobstate sweep`: all sweeps once, for a cron."""

from __future__ import annotations

import argparse
import sys

from jobstate.cli.source import Commands, add_source, opened
from jobstate.cli.told import add_json, tell_json
from jobstate.flows.sweeps import SweepReport, Swept


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("sweep", help="expire, rescue, clean up, forget and relay, once: for a cron job")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Sweep once; 1 when something failed or cannot be read, which the next sweep tries again."""
    try:
        with opened(options) as jobs:
            report = jobs.sweep()
    except ExceptionGroup as errors:
        for words in dict.fromkeys(f"{type(error).__name__}: {' '.join(str(error).split())}" for error in errors.exceptions):
            print(f"jobstate: {words}", file=sys.stderr)
        return 1
    if options.json:
        tell_json({name: swept._asdict() for name, swept in _named(report)})
    else:
        for name, swept in _named(report):
            print(f"{name}: {swept.moved} moved, {swept.left} left, {swept.lost} lost, {swept.failed} failed")
    for job_id in sorted({job_id for swept in report for job_id in swept.unreadable}):
        print(f"jobstate: the row of {job_id} cannot be read", file=sys.stderr)
    return int(any(swept.failed or swept.unreadable for swept in report))


def _named(report: SweepReport) -> list[tuple[str, Swept]]:
    return list(zip(report._fields, report, strict=True))
