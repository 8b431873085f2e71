"""Mutants of functions, in forks of a process that has the package and all tests loaded.

A pytest plugin. Its run loop first runs all tests under coverage, which says what tests run each line and how long they take.
Then a fork for each mutant gets the mutated function's code in the place of the old one, and runs the tests of the changed
lines, of each test function a case in turn, while the budget lasts; then, with a budget of its own, other tests of the mutated
function: coverage loses lines behind a `throw` into a generator. What is evaluated on import cannot be put in so: `cold` runs
it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from inspect import getattr_static
from time import process_time
from types import CodeType, FunctionType
from typing import Any

import pytest
from coverage import Coverage

from mutation.choice import within_budget
from mutation.forks import Status, give_time, watched
from mutation.mutants import ROOT, Mutant

CHOSEN = "not postgresql and not sqlite"
"""What runs in memory too is left out."""


class Warm:
    """The plugin: gives each mutant its status; one whose change is evaluated on import has status IMPORT."""

    def __init__(self, mutants: list[Mutant], workers: int, budget: float) -> None:
        self.mutants = mutants
        self.workers = workers
        self.budget = budget
        self.statuses: dict[str, Status] = {}
        self.durations: dict[str, float] = {}
        self.failed: list[str] = []
        files = sorted({str(ROOT / mutant.file) for mutant in mutants})
        self.coverage = Coverage(data_file=None, include=files, config_file=False)
        self.coverage.start()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A failure is all that a mutant's fork waits for."""
        if report.failed:
            self.failed.append(report.nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All tests once, then each mutant."""
        for item, following in _pairs(session.items):
            self.coverage.switch_context(item.nodeid)
            began = process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            self.durations[item.nodeid] = process_time() - began
        self.coverage.stop()
        if self.failed or not session.items:
            raise pytest.UsageError(f"without a mutant, these fail: {self.failed or 'there are no tests'}")
        self.items = {item.nodeid: item for item in session.items}
        data = self.coverage.get_data()
        self.lines = {file: data.contexts_by_lineno(str(ROOT / file)) for file in {mutant.file for mutant in self.mutants}}
        self.statuses = dict(watched(((mutant, self._in_a_fork) for mutant in self.mutants), self.workers))
        return True

    def _in_a_fork(self, mutant: Mutant) -> Status:
        tests = self._tests(mutant)
        if not put_in(mutant):
            return Status.IMPORT
        for item, following in _pairs([self.items[test] for test in tests]):
            give_time(2 + 10 * self.durations[item.nodeid])
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self.failed:
                return Status.KILLED
        imported = any("" in self.lines[mutant.file].get(line, ()) for line in mutant.lines)
        return Status.IMPORT if imported else Status.SURVIVED if tests else Status.UNTESTED

    def _tests(self, mutant: Mutant) -> list[str]:
        on_lines = self._of_lines(mutant, mutant.lines)
        near = self._of_lines(mutant, lines_of(mutant)) - on_lines
        return [test for tests in (on_lines, near) for test in within_budget(tests, self.durations, self.budget)]

    def _of_lines(self, mutant: Mutant, lines: Iterable[int]) -> set[str]:
        seen = self.lines[mutant.file]
        return {test for line in lines for test in seen.get(line, ()) if test}


def _pairs(items: list[pytest.Item]) -> Iterator[tuple[pytest.Item, pytest.Item | None]]:
    return zip(items, [*items[1:], None], strict=True)


def lines_of(mutant: Mutant) -> set[int]:
    """The lines of the function that is mutated, but for its first, which runs on import."""
    function = _living(mutant)
    if function is None:
        return set()
    code = function.__code__
    return {line for *_, line in code.co_lines() if line is not None and line > code.co_firstlineno}


def put_in(mutant: Mutant) -> bool:
    """Give the living function the mutated code; False when there is no such function, or its code is the same."""
    function = _living(mutant)
    if function is None:
        return False
    code = _code(compile(mutant.source, str(ROOT / mutant.file), "exec"), mutant.function)
    if code is None or _same(code, function.__code__):
        return False
    function.__code__ = code
    return True


def _living(mutant: Mutant) -> FunctionType | None:
    return _function(sys.modules[mutant.file.removesuffix(".py").replace("/", ".")], mutant.function)


def _function(owner: Any, name: str) -> FunctionType | None:
    for part in name.split("."):
        owner = getattr_static(owner, part, None)
    owner = getattr(owner, "fget", None) or getattr(owner, "__func__", None) or getattr(owner, "__wrapped__", owner)
    return owner if isinstance(owner, FunctionType) else None


def _code(code: CodeType, name: str) -> CodeType | None:
    for const in code.co_consts:
        if isinstance(const, CodeType) and f"{name}.".startswith(f"{const.co_qualname}."):
            return const if const.co_qualname == name else _code(const, name)
    return None


def _same(one: CodeType, other: CodeType) -> bool:
    return _shape(one) == _shape(other)


def _shape(code: CodeType) -> tuple[object, ...]:
    return code.co_code, code.co_names, code.co_varnames, tuple(_kind_and_value(const) for const in code.co_consts)


def _kind_and_value(const: object) -> tuple[object, ...]:
    """1, 1.0 and True are equal, and not the same."""
    return _shape(const) if isinstance(const, CodeType) else (type(const), const)


def run(
    mutants: list[Mutant], tests: list[str], workers: int, budget: float, folder: str
) -> tuple[dict[str, Status], dict[str, float]]:
    """The status of each mutant, by its key, and how many seconds each test takes."""
    plugin = Warm(mutants, workers, budget)
    os.chdir(ROOT)
    code = pytest.main([*options(folder), *tests], plugins=[plugin])
    if len(plugin.statuses) != len(mutants):
        raise RuntimeError(f"pytest ended with {code!r} before all mutants were run: {plugin.failed}")
    return plugin.statuses, plugin.durations


def options(folder: str) -> list[str]:
    """How pytest is run: in a folder of its own, without traces, without what is left out."""
    quiet = [
        "-q",
        "-W",
        "ignore::pytest.PytestAssertRewriteWarning",
        "--tb=no",
        "--no-header",
        "--no-summary",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-x",
    ]
    return [*quiet, f"--basetemp={folder}", "-o", "tmp_path_retention_policy=none", "-k", CHOSEN]
