"""What is published: the archives hold what they should, and a new user's first commands work from them."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import venv
from email.message import Message
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

from jobstate import __version__

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.full

NOT_PACKED = {"__pycache__"}


def run(*command: str | Path, cwd: Path) -> str:
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "JOBSTATE_DATABASE")}
    variables["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run([*map(str, command)], cwd=cwd, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files(folder: Path) -> set[str]:
    """The files below, as they are called in an archive."""
    return {str(path.relative_to(ROOT)) for path in folder.rglob("*") if path.is_file() and not NOT_PACKED & {*path.parts}}


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=ROOT)
    [made] = folder.iterdir()
    return made


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the other one, as installers do: so that one lacks nothing."""
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    [source] = folder.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=source)
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"jobstate-{__version__}.dist-info/METADATA").decode())


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The Python of an empty environment."""
    venv.create(tmp_path / "empty", with_pip=True)
    return tmp_path / "empty" / "bin" / "python"


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files(ROOT / "jobstate") | {"jobstate_pytest.py"}
    assert {"jobstate/py.typed", "jobstate/demo/invoice.pdf", "jobstate/demo/rates.csv"} <= names


def test_the_source_holds_what_a_packager_and_a_contributor_need(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("jobstate", "tests", "docs"):
        assert files(ROOT / folder) - names == set()
    top = {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "pyproject.toml", "jobstate_pytest.py"}
    assert top - names == set()


def test_the_metadata_say_what_the_package_is(metadata: Message) -> None:
    assert (metadata["Name"], metadata["Version"], metadata["License-Expression"]) == ("jobstate", __version__, "MIT")
    assert metadata["Description-Content-Type"] == "text/markdown"
    always = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert sorted(line.partition(">=")[0] for line in always) == ["pydantic", "transitions"]


def test_in_an_empty_environment_the_core_and_the_command_work(wheel: Path, python: Path, tmp_path: Path) -> None:
    run(python, "-m", "pip", "install", "-q", wheel, cwd=tmp_path)
    assert run(python, "-W", "error", "-c", "import jobstate; print(jobstate.__version__)", cwd=tmp_path).strip() == __version__
    command = python.with_name("jobstate")
    assert "retry or" in run(command, "--help", cwd=tmp_path)
    assert run(command, "graph", "--format", "svg", cwd=tmp_path).startswith("<svg")
    missing = subprocess.run([command, "jobs"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.stderr == "jobstate: sqlalchemy is missing: pip install 'jobstate[cli]'\n"
    run(python, "-m", "pip", "install", "-q", f"{wheel}[demo]", cwd=tmp_path)
    assert "Total 11502.50 NOK = 1000.00 EUR" in run(python, "-W", "error", "-m", "jobstate", "demo", cwd=tmp_path)
    assert "completed" in run(command, "jobs", cwd=tmp_path)


def test_all_extras_can_be_installed_together(wheel: Path, metadata: Message, python: Path, tmp_path: Path) -> None:
    extras = metadata.get_all("Provides-Extra", [])
    assert {"cli", "demo", "postgresql", "celery", "cloud-tasks", "serve", "testing", "dev"} <= set(extras)
    run(python, "-m", "pip", "install", "-q", "--dry-run", f"{wheel}[{','.join(extras)}]", cwd=tmp_path)
