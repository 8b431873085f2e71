"""The tests of the HTTP adapter bite: each fault that is put into a copy of it is seen by the test that is named for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.http_mutants import HTTP_MUTANTS
from tests.mutants import Mutant
from tests.test_mutants import ROOT, copied, exit_status


def test_each_fault_can_still_be_put_in() -> None:
    for mutant in HTTP_MUTANTS:
        assert (ROOT / "jobstate" / mutant.file).read_text().count(mutant.old) == 1, mutant.name


@pytest.mark.nightly
@pytest.mark.parametrize("mutant", HTTP_MUTANTS, ids=lambda mutant: mutant.name)
def test_a_fault_is_seen(mutant: Mutant, tmp_path: Path) -> None:
    broken = copied(tmp_path) / "jobstate" / mutant.file
    broken.write_text(broken.read_text().replace(mutant.old, mutant.new))
    assert exit_status(tmp_path, mutant.seen_by) == 1
