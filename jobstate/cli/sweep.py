"""`jobstate sweep`: all sweeps once, for a cron."""

from __future__ import annotations

import argparse

from jobstate.cli.source import Commands, add_source, opened
from jobstate.cli.told import add_json, tell_json
from jobstate.flows.sweeps import SweepReport, Swept


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("sweep", help="expire, rescue, clean up, forget and relay once: for a cron")
    add_source(parser)
    add_json(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Sweep once; 1 when something failed or cannot be read, which the next sweep tries again."""
    from jobstate.show import open_out

    with opened(options) as jobs:
        report = jobs.sweep()
    if options.json:
        tell_json({name: swept._asdict() for name, swept in _named(report)})
    else:
        columns = ("sweep", "moved", "left", "lost", "failed", "unreadable")
        open_out().table(columns, [(name, *_figures(swept)) for name, swept in _named(report)])
    return 1 if _met_errors(report) else 0


def _figures(swept: Swept) -> tuple[str, ...]:
    return (*map(str, swept[:-1]), str(len(swept.unreadable)))


def _named(report: SweepReport) -> list[tuple[str, Swept]]:
    return list(zip(report._fields, report, strict=True))


def _met_errors(report: SweepReport) -> bool:
    return any(swept.failed or swept.unreadable for swept in report)
