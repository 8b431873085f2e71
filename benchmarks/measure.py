"""Two ways to do one thing, timed in turn in one run: medians, the ratio, and its spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROUNDS = 15


class Result(NamedTuple):
    """Median of each (microseconds, or what `unit` says), and the ratios of the rounds: median, smallest, largest."""

    title: str
    first: float
    second: float
    ratio: float
    low: float
    high: float
    unit: str = "us"

    def __str__(self) -> str:
        spread = f"({self.low:.2f} to {self.high:.2f})"
        return f"{self.title:<78} {self.first:11.1f} {self.unit} {self.second:11.1f} {self.unit}  {self.ratio:5.2f}  {spread}"


RESULTS: list[Result] = []


def compare(
    title: str,
    first: Callable[[], object],
    second: Callable[[], object],
    calls: int = 1,
    rounds: int = ROUNDS,
    before: Callable[[], object] = lambda: None,
) -> Result:
    """Time both in turn, `rounds` times, and one round more that does not count; `before` comes before each, untimed."""
    return compare_seconds(
        title,
        lambda: _time(first, calls, before),
        lambda: _time(second, calls, before),
        units=calls,
        rounds=rounds,
    )


def compare_seconds(
    title: str, first: Callable[[], float], second: Callable[[], float], *, units: int = 1, rounds: int = ROUNDS
) -> Result:
    """The same for what times itself: seconds for so many units."""
    rows = [(first(), second()) for _ in range(rounds + 1)][1:]
    return report(title, [(mine * 1e6 / units, its * 1e6 / units) for mine, its in rows])


def report(title: str, rows: Sequence[tuple[float, float]], unit: str = "us") -> Result:
    """Print and keep the line of what was measured, a pair for each round."""
    ratios = sorted(mine / its for mine, its in rows)
    first, second = (statistics.median(row[index] for row in rows) for index in (0, 1))
    result = Result(title, first, second, statistics.median(ratios), ratios[0], ratios[-1], unit)
    RESULTS.append(result)
    print(result, flush=True)
    return result


def _time(work: Callable[[], object], calls: int, before: Callable[[], object]) -> float:
    before()
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - begin
