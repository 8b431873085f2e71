"""`jobstate graph`."""

from __future__ import annotations

import argparse

from jobstate.cli.source import Commands


def add(commands: Commands) -> None:
    """The command's options."""
    parser = commands.add_parser("graph", help="print the lifecycle as a picture, made from its table")
    parser.add_argument("--format", choices=("mermaid", "svg"), default="mermaid", help="default mermaid")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    from jobstate.diagram import mermaid
    from jobstate.picture import svg

    print(svg().rstrip() if options.format == "svg" else mermaid())
    return 0
