"""docs/proof.md says what is so: its tests exist, each property has one, and the invariants agree."""

from __future__ import annotations

import ast
import re
from math import comb
from pathlib import Path

import pytest

from jobstate.testing.contracts import ArtifactStoreContract, DispatcherContract, RepositoryContract, clauses
from jobstate.testing.explorer import invariants
from jobstate.testing.explorer.actors import POLICY
from tests.exploration import KINDS
from tests.mutants import MUTANTS

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "proof.md").read_text()
ROWS = {cells[0]: cells for line in PAGE.splitlines() if re.match(r"\| P\d", line) for cells in [line.split("|")[1:-1]]}
PROPERTIES = {number.strip(): (inv, tests) for number, _, inv, tests in ROWS.values()}
TEST = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
CLAUSE = re.compile(r"\b[RDA]\d\d\b")


def _tests_in(file: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def test_the_page_has_every_property() -> None:
    assert list(PROPERTIES) == [f"P{number}" for number in range(1, 24)]


@pytest.mark.parametrize("number", PROPERTIES)
def test_a_property_has_tests_and_they_exist(number: str) -> None:
    named = TEST.findall(PROPERTIES[number][1])
    assert named, "a clause of a port alone keeps no property of the library"
    assert [test for file, test in named if test not in _tests_in(file)] == []
    proved = {
        clause for contract in (RepositoryContract, DispatcherContract, ArtifactStoreContract) for clause in clauses(contract)
    }
    assert set(CLAUSE.findall(PROPERTIES[number][1])) <= proved
    rest = CLAUSE.sub("", TEST.sub("", PROPERTIES[number][1]))
    assert rest.strip() == "", "nothing else stands among the tests"


def test_the_invariants_keep_what_the_page_says() -> None:
    keep = {(number, invariant.name) for invariant in invariants(POLICY) for number in invariant.keeps}
    assert {(number, name) for number, (names, _) in PROPERTIES.items() for name in re.findall(r"\*(.+?)\*", names)} == keep
    assert all(invariant.keeps for invariant in invariants(POLICY)), "each keeps something"


def test_the_page_counts_the_faults_that_are_put_in() -> None:
    words = {45: "Forty-five", 46: "Forty-six", 47: "Forty-seven", 48: "Forty-eight", 49: "Forty-nine", 50: "Fifty"}
    assert re.findall(r"(\S+) (?:faults are put|mutants say)", PAGE) == [words[len(MUTANTS)]] * 2


def test_every_kind_of_actor_stands_on_the_page() -> None:
    """And so many pairs and triples of them as it says."""
    words = {"second": "second delivery"}
    names = [words.get(kind, kind) for kind in KINDS]
    assert f"{', '.join(names[:-1])} and {names[-1]}" in PAGE.replace("\n", " ")
    assert f"all {comb(len(KINDS), 2)} pairs" in PAGE
    assert f"all {comb(len(KINDS), 3)} triples" in PAGE
