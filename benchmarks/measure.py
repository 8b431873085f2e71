"""Two ways to do one thing, timed in turn in one run: medians, the ratio, its spread, and whether that is what is asked for."""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

ROUNDS = 15
WIDTH = 92
"""Of the column of titles, in characters."""


class Result(NamedTuple):
    """What was measured: in each round the first way and the second, in `unit` (microseconds, unless it says otherwise).

    `asked`: the ratio of first to second that is asked for, at most; None where nothing is.
    """

    title: str
    rows: tuple[tuple[float, float], ...]
    unit: str = "us"
    asked: float | None = None

    @property
    def first(self) -> float:
        """The median of the first."""
        return statistics.median(first for first, _ in self.rows)

    @property
    def second(self) -> float:
        """The median of the second."""
        return statistics.median(second for _, second in self.rows)

    @property
    def ratios(self) -> list[float]:
        """Of each round, the smallest first."""
        return sorted(first / second for first, second in self.rows)

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: not the ratio of the medians."""
        return statistics.median(self.ratios)

    @property
    def low(self) -> float:
        """The smallest ratio of a round."""
        return self.ratios[0]

    @property
    def high(self) -> float:
        """The largest."""
        return self.ratios[-1]

    @property
    def missed(self) -> bool:
        """Whether the median is more than was asked for."""
        return self.asked is not None and self.ratio > self.asked

    def __str__(self) -> str:
        """A row of a Markdown table, under `heading()`; a median that misses is bold."""
        times = f"{_figure(self.first, self.unit):>8} / {_figure(self.second, self.unit):<8}"
        ratio = f"**{self.ratio:.2f}**" if self.missed else f"{self.ratio:.2f}"
        spread = f"{self.low:.2f} to {self.high:.2f}" if len(self.rows) > 1 else ""
        asked = "" if self.asked is None else f"{self.asked:.3g}"
        return f"| {self.title:<{WIDTH}} | {times} | {ratio:<9} | {spread:<14} | {asked:<5} |"


RESULTS: list[Result] = []


def heading(pair: str = "first / second") -> str:
    """The head of the table."""
    titles = f"| {'what':<{WIDTH}} | {pair:^19} | ratio     | {'range':<14} | asked |"
    return titles + "\n" + re.sub(r"[^|]", "-", titles)


@dataclass
class Pace:
    """How all comparisons of a process go: at most `most` rounds each, and `turn` before each of them."""

    most: int = ROUNDS
    turn: Callable[[], object] = lambda: None


PACE = Pace()


def compare(
    title: str,
    first: Callable[[], object],
    second: Callable[[], object],
    calls: int = 1,
    rounds: int = ROUNDS,
    before: Callable[[], object] = lambda: None,
    asked: float | None = None,
) -> Result:
    """Time both in turn, `rounds` times, and one round more that does not count; `before` comes before each, untimed."""
    return compare_seconds(
        title,
        lambda: _time(first, calls, before),
        lambda: _time(second, calls, before),
        units=calls,
        rounds=rounds,
        asked=asked,
    )


def compare_seconds(
    title: str,
    first: Callable[[], float],
    second: Callable[[], float],
    *,
    units: int = 1,
    rounds: int = ROUNDS,
    asked: float | None = None,
) -> Result:
    """The same for what times itself: seconds for so many units."""
    rows = [(first(), second()) for _ in turns(rounds)][1:]
    return report(title, [(mine * 1e6 / units, its * 1e6 / units) for mine, its in rows], asked=asked)


def turns(rounds: int) -> Iterator[int]:
    """The numbers of the rounds. That of number 0 comes first, and does not count.

    What earlier comparisons have left in the process is out of the garbage collector's sight.
    """
    _ = gc.collect()
    gc.freeze()
    for number in range(min(rounds, PACE.most) + 1):
        PACE.turn()
        yield number


def report(title: str, rows: Sequence[tuple[float, float]], unit: str = "us", asked: float | None = None) -> Result:
    """Print and keep the line of what was measured, a pair for each round."""
    result = Result(title, tuple(rows), unit, asked)
    RESULTS.append(result)
    print(result, flush=True)
    return result


def _time(work: Callable[[], object], calls: int, before: Callable[[], object]) -> float:
    before()
    begin = time.perf_counter()
    for _ in range(calls):
        work()
    return time.perf_counter() - begin


_LARGER = {"us": ("ms", 1e3), "ms": ("s", 1e3)}


def _figure(value: float, unit: str) -> str:
    """In a unit in which it has few digits."""
    while value >= 1000 and unit in _LARGER:
        unit, by = _LARGER[unit]
        value /= by
    return f"{value:.{0 if value >= 100 else 1}f} {unit}".rstrip()
