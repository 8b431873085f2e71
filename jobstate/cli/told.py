"""What a command tells a program: JSON on standard output, one document."""

from __future__ import annotations

import argparse
import json


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option that asks for it."""
    parser.add_argument("--json", action="store_true", help="tell it as one JSON document")


def tell_json(value: object) -> None:
    """Print it. What a terminal would obey stands in it as escapes."""
    print(json.dumps(value, indent=2))
