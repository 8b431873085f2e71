"""The command: makes the mutants, runs them, and prints what became of them."""

from __future__ import annotations

import argparse
import sys
import time
import tomllib
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import Phase, settings

from mutation import cold, warm
from mutation.choice import is_in_share
from mutation.forks import Status
from mutation.mutants import ROOT, Mutant, mutants_of

MUTATED = ("lifecycle/*.py", "policy.py", "flows/*.py", "drivers.py", "memory/*.py")
"""The files that are mutated, in the package."""

QUICK = (
    "alarms attempts beside bulk bulk_edges changes cleanup clocks contracts creates delayed_dispatch deliveries diagram "
    "dispatch drivers edges endpoints errors fencing flow_words gather hostile in_threads inprocess inprocess_async "
    "inprocess_delayed lifecycle_properties listing lost_answers matrix memory model observe parts policy retry_reset "
    "running sweeps table taking tenants transactional without_history words workers"
)
"""The tests that are run on mutants of functions: those that need only the core, and the memory.

What starts processes or servers, reads the source as it stands, takes long, or is of an adapter is never run on a mutant.
"""

ON_IMPORT = {
    "lifecycle": "words table matrix changes edges retry_reset lifecycle_properties errors fencing creates tenants diagram",
    "policy": "policy model clocks sweeps cleanup deliveries dispatch lifecycle_properties hostile",
    "flows": "attempts bulk bulk_edges cleanup deliveries dispatch fencing flow_words listing lost_answers parts sweeps "
    "tenants",
    "drivers": "attempts drivers listing deliveries dispatch creates cleanup sweeps fencing transactional",
    "memory": "listing creates hostile dispatch contracts cleanup flow_words memory",
}
"""The tests of what is evaluated on import, by part of the package."""


def main(words: list[str], workers: int, budget: float, share: Fraction, again: Path | None) -> int:
    """Run the mutants of the files whose path has one of the words in it; the exit status is 1 for one that lives.

    Of those the share that is asked for; with `again`, only the ones that this file names as an earlier run's survivors.
    """
    began = time.monotonic()
    settings.register_profile("mutation", phases=[Phase.explicit, Phase.generate])  # one example that fails is enough
    settings.load_profile("mutation")
    paths = sorted(path for pattern in MUTATED for path in (ROOT / "jobstate").glob(pattern))
    chosen = [path for path in paths if not words or any(word in str(path.relative_to(ROOT)) for word in words)]
    former = None if again is None else {line.partition(": ")[2] for line in again.read_text().splitlines()}
    made = [mutant for path in chosen for mutant in mutants_of(path)]
    mutants = [mutant for mutant in made if is_in_share(mutant.key, share) and (former is None or mutant.key in former)]
    print(f"{len(made)} mutants made, {len(mutants)} to run, in {time.monotonic() - began:.0f} s", file=sys.stderr)
    with TemporaryDirectory() as folder:
        statuses = _statuses(mutants, workers, budget, folder)
    files = {str(path.relative_to(ROOT)) for path in chosen}
    listed = {key for key in _equivalent() if key.split(" ")[0] in files and is_in_share(key, share)}
    if former is not None:
        listed &= set(statuses)
    faults = _report(mutants, statuses, listed)
    print(f"{(time.monotonic() - began) / 60:.0f} minutes, {workers} processes at a time")
    return 1 if faults else 0


def _statuses(mutants: list[Mutant], workers: int, budget: float, folder: str) -> dict[str, Status]:
    quick = [mutant for mutant in mutants if mutant.function]
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as other:  # this process does not import the package
        statuses, durations = other.submit(warm.run, quick, _quick_tests(), workers, budget, f"{folder}/warm").result()
    rest = [mutant for mutant in mutants if statuses.get(mutant.key, Status.IMPORT) is Status.IMPORT]
    print(f"{len(quick)} mutants run, {len(rest)} to import", file=sys.stderr)
    on_import = {mutant.file: _tests_on_import(mutant.file) for mutant in rest}
    return statuses | cold.run(rest, on_import, cold.WithinBudget(durations, budget), workers, folder)


def _quick_tests() -> list[str]:
    return [str(ROOT / "tests" / f"test_{name}.py") for name in QUICK.split()]


def _tests_on_import(file: str) -> list[str]:
    part = Path(file).parts[1].removesuffix(".py")
    paths = [ROOT / "tests" / f"test_{name}.py" for name in dict.fromkeys(ON_IMPORT[part].split())]
    return [str(path) for path in paths if path.exists()]


def _equivalent() -> list[str]:
    text = (Path(__file__).parent / "equivalent.toml").read_text()
    listed = tomllib.loads(text).get("equivalent", [])
    return [f"{entry['file']} {entry['function']}: {change}" for entry in listed for change in entry["changes"]]


def _report(mutants: list[Mutant], statuses: dict[str, Status], equivalent: set[str]) -> int:
    """Print the score by file, then each mutant that lives, and each that is listed as equivalent and is not. How many."""
    alive = {mutant.key for mutant in mutants if statuses[mutant.key] in (Status.SURVIVED, Status.UNTESTED)}
    count = Counter((mutant.file, _word(mutant.key, statuses, equivalent)) for mutant in mutants)
    words = ("killed", "timeout", "equivalent", "survived")
    print(f"{'':32}{'mutants':>10}" + "".join(f"{word:>12}" for word in words) + f"{'score':>10}")
    for file in (*sorted({mutant.file for mutant in mutants}), ""):
        numbers = [sum(n for (of, what), n in count.items() if what == word and of.startswith(file)) for word in words]
        score = 100 * (numbers[0] + numbers[1]) / max(1, sum(numbers) - numbers[2])
        print(f"{file or 'all':32}{sum(numbers):>10}" + "".join(f"{number:>12}" for number in numbers) + f"{score:>8.1f} %")
    for key in sorted(alive - equivalent):
        print(f"{statuses[key].name.lower()}: {key}")
    for key in sorted(equivalent - alive):
        print(f"listed as equivalent, but {'killed' if key in statuses else 'there is none'}: {key}")
    return len(alive ^ equivalent)


def _word(key: str, statuses: dict[str, Status], equivalent: set[str]) -> str:
    if statuses[key] in (Status.KILLED, Status.TIMEOUT):
        return statuses[key].name.lower()
    return "equivalent" if key in equivalent else "survived"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m mutation", description="Mutation testing of the core.")
    parser.add_argument("words", nargs="*", help="only files whose path has one of these words in it")
    parser.add_argument("--workers", type=int, default=2, help="mutants that are run at a time")
    parser.add_argument(
        "--budget",
        type=float,
        default=15,
        help="processor seconds of tests for one mutant at most, of each test function a case in turn",
    )
    parser.add_argument(
        "--share", type=Fraction, default=Fraction(1), help="a fixed share of the mutants, like 1/3, by a hash of their text"
    )
    parser.add_argument("--again", type=Path, help="only mutants that this output of an earlier run names as alive")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(**vars(_arguments())))
