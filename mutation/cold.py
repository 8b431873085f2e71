"""Mutants of what is evaluated on import: each in a fork of a process that has imported all but the package and its tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType

import pytest

from mutation.choice import within_budget
from mutation.forks import Status, give_time, watched
from mutation.mutants import ROOT, Mutant
from mutation.warm import options

for _name in ("pydantic", "sqlalchemy", "transitions"):
    import_module(_name)  # here, so that no fork has to

SECONDS = 60
"""A mutant that needs more of the processor is a timeout."""


class Mutated(MetaPathFinder, Loader):
    """Imports the mutant's source in the place of its file."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = mutant.file.removesuffix(".py").replace("/", ".")

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002  # the signature is the base class's
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        """The module of the mutant, and no other."""
        return spec_from_loader(fullname, self, origin=str(ROOT / self.mutant.file)) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        """Runs the mutant's source."""
        module.__file__ = str(ROOT / self.mutant.file)
        exec(compile(self.mutant.source, module.__file__, "exec"), vars(module))


class WithinBudget:
    """A plugin: of each test function a case in turn, while the budget lasts."""

    def __init__(self, durations: dict[str, float], budget: float) -> None:
        self.durations = durations
        self.budget = budget

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Puts the items in order, and leaves the long ones out."""
        by_name = {item.nodeid: item for item in items if item.nodeid in self.durations}
        items[:] = [by_name[test] for test in within_budget(by_name, self.durations, self.budget)]


def run(
    mutants: list[Mutant], tests: dict[str, list[str]], quick: WithinBudget, workers: int, folder: str
) -> dict[str, Status]:
    """The status of each mutant, by its key; `tests` by file."""
    assert "jobstate" not in sys.modules
    os.chdir(ROOT)
    work = ((mutant, partial(_in_a_fork, tests=tests[mutant.file], quick=quick, folder=folder)) for mutant in mutants)
    return dict(watched(work, workers))


def _in_a_fork(mutant: Mutant, tests: list[str], quick: WithinBudget, folder: str) -> Status:
    give_time(SECONDS)
    sys.meta_path.insert(0, Mutated(mutant))
    code = pytest.main([*options(f"{folder}/{os.getpid()}"), *tests], plugins=[quick])
    untested = code is pytest.ExitCode.NO_TESTS_COLLECTED
    return Status.UNTESTED if untested else Status.SURVIVED if code is pytest.ExitCode.OK else Status.KILLED
