"""What is compared is timed in turn, in one run: a table in Markdown, with the medians, the ratio and its range.

Needs what the tests need, and the extra `benchmarks`. Installs nothing; starts PostgreSQL and Valkey from their wheels.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import against
from benchmarks.measure import PACE, RESULTS, ROUNDS, heading
from benchmarks.plot import caption_of, svg
from benchmarks.record import about, record
from benchmarks.suite import PARTS


def options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--rounds", type=int, metavar="N", help="at most so many rounds of each comparison")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all rounds, and what they were measured on, to a file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios, and what is asked for, to an SVG file")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a median misses what is asked for")
    words = "compare with the jobstate of another revision instead: the columns are then what ours took now, and at REV"
    parser.add_argument("--against", metavar="REV", help=words)
    parser.add_argument("--in-turn", action="store_true", help=argparse.SUPPRESS)  # a process that `against` has started
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for, all by default. What was measured is written also when something breaks it off."""
    asked, where = options(arguments), about()
    print(f"{caption_of(where)}\n\n{heading('now / then' if asked.against else 'first / second')}", flush=True)
    try:
        measure(asked)
    finally:
        if asked.json:
            asked.json.write_text(record(where, RESULTS))
        if asked.plot:
            asked.plot.write_text(svg(RESULTS, caption_of(where)))
    return int(asked.check and any(result.missed for result in RESULTS))


def measure(asked: argparse.Namespace) -> None:
    """All comparisons, one after the other."""
    parts = asked.parts or list(PARTS)
    if asked.against:
        against.compare(asked.against, parts, asked.rounds or against.ROUNDS)
        return
    PACE.most = asked.rounds or ROUNDS
    if asked.in_turn:
        PACE.turn = against.turn
        against.wait()
    for name in parts:
        PARTS[name]()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # servers are stopped, files are written
    sys.exit(main())
