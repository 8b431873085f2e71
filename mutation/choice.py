"""Which mutants of a sample are run, and which tests on each."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from fractions import Fraction
from itertools import zip_longest


def is_in_share(key: str, share: Fraction) -> bool:
    """Whether a mutant is in a sample of this size: by a hash of its text, so always the same, a smaller one in a larger."""
    return Fraction(int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()), 1 << 64) < share


def within_budget(tests: Iterable[str], durations: dict[str, float], budget: float) -> list[str]:
    """Of each test function in turn the quickest case that is left, while the budget (processor seconds) lasts."""
    cases: dict[str, list[str]] = {}
    for test in sorted(tests, key=lambda test: (durations[test], test)):
        cases.setdefault(test.partition("[")[0], []).append(test)
    chosen: list[str] = []
    for test in (test for turn in zip_longest(*cases.values()) for test in turn if test is not None):
        if durations[test] <= budget:
            chosen.append(test)
            budget -= durations[test]
    return chosen
