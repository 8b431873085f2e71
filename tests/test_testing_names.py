"""What `jobstate.testing` offers, and what it says where its extra is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobstate import testing

NAMES = """
ArtifactStoreContract AsyncArtifactStoreContract AsyncDispatcherContract AsyncJobsMachine AsyncRepositoryContract
AsyncRepositoryRaces BrokenPromiseError Capability DispatcherContract events explore histories JobHistory jobs JobsMachine
ManualClock policies RepositoryContract RepositoryRaces
""".split()


def without(package: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run code where a package is not installed."""
    blocked = f"import sys; sys.modules[{package!r}] = None\n{code}"
    return subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)


def test_the_names_are_these_and_no_others() -> None:
    assert sorted(testing.__all__) == testing.__all__ == dir(testing)
    assert set(testing.__all__) == set(NAMES)
    assert all(getattr(testing, name).__name__ == name for name in NAMES)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        getattr(testing, "nothing")  # noqa: B009


@pytest.mark.parametrize(
    ("package", "name"), [("hypothesis", "jobs"), ("hypothesis", "JobsMachine"), ("pytest", "RepositoryContract")]
)
def test_a_missing_extra_says_how_to_install_it(package: str, name: str) -> None:
    done = without(package, f"from jobstate.testing import {name}")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ModuleNotFoundError: {package} is not installed: pip install 'jobstate[testing]'"


@pytest.mark.parametrize("package", ["hypothesis", "pytest"])
@pytest.mark.parametrize("code", ["from jobstate.testing import ManualClock, explore", "import jobstate.demo"])
def test_what_needs_no_extra_works_without_it(package: str, code: str) -> None:
    done = without(package, code)
    assert (done.returncode, done.stderr) == (0, "")
