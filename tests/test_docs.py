"""The documents say what is: pages made from the code are fresh, and the code in them runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import URL

from jobstate.testing.contracts import DispatcherContract, NoticesContract, RepositoryContract, SharedSweepsContract, clauses
from jobstate.testing.contracts.clauses import Contract
from tests.postgresql import emptied, engine_of
from tests.procrastinate_tables import prepared

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY")), *sorted((ROOT / "docs").glob("*.md"))]
WHOLE = ("tutorial.md", "migrate-a-jobs-table.md")
"""Pages that are done from their beginning to their end, by tests of their own."""


def _code(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def _blocks() -> list[tuple[str, Path, str]]:
    pages = [page for page in DOCUMENTS if page.name not in WHOLE]
    return [(f"{page.name}-{number}", page, block) for page in pages for number, block in enumerate(_code(page), 1)]


def _shown(page: Path, code: str) -> list[str]:
    """The lines of the block of text that stands right behind this code: what it prints."""
    behind = page.read_text().split(f"```python\n{code}```\n", 1)[1]
    text = re.match(r"\n```text\n(.*?)```", behind, re.DOTALL)
    return text[1].splitlines() if text else []


def write_files(page: Path, folder: Path) -> None:
    """The blocks of a page that begin with the name of a file, as files: the other blocks of the page may import them."""
    for block in _code(page):
        if name := re.match(r"# (\w+\.py)\n", block):
            (folder / name[1]).write_text(block)


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), **variables}
    command = [sys.executable, "-W", "error", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def _database(request: pytest.FixtureRequest) -> str:
    """An empty one, on the server that the tests share; with procrastinate's schema, as its own command makes it."""
    url: URL = request.getfixturevalue("server").set(drivername="postgresql+psycopg")
    engine = engine_of(url)
    emptied(engine)
    prepared(engine, url)
    engine.dispose()
    return url.render_as_string(hide_password=False)


def _marks(code: str) -> list[pytest.MarkDecorator]:
    """What needs a server is run where all of it is."""
    return [pytest.mark.full] if "DATABASE_URL" in code or "REDIS_URL" in code else []


@pytest.mark.parametrize(
    ("name", "page", "code"), [pytest.param(*block, id=block[0], marks=_marks(block[2])) for block in _blocks()]
)
def test_code_in_the_documents_runs_and_prints_what_it_says(
    name: str, page: Path, code: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    write_files(page, tmp_path)
    variables = {"DATABASE_URL": _database(request)} if "DATABASE_URL" in code else {}
    if "REDIS_URL" in code:
        variables["REDIS_URL"] = request.getfixturevalue("valkey").url
    done = run(tmp_path, "-c", code, **variables)
    assert done.returncode == 0, done.stderr
    promised = [line.split("#")[-1].strip() for line in code.splitlines() if line.lstrip().startswith("print(") and "#" in line]
    assert all(words in done.stdout for words in promised), done.stdout
    assert [line for line in _shown(page, code) if line not in done.stdout.splitlines()] == []


@pytest.mark.full
def test_the_dispatcher_of_its_page_keeps_its_contract(tmp_path: Path) -> None:
    write_files(ROOT / "docs" / "write-a-dispatcher.md", tmp_path)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_spool.py", "test_spool_served.py")
    assert done.returncode == 0, done.stdout
    assert re.search(r"^6 passed, 4 skipped", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.full
def test_the_skeleton_of_a_repository_is_red_because_it_is_not_written(tmp_path: Path) -> None:
    """Every case is found and runs into what is to be written, and into nothing else."""
    write_files(ROOT / "docs" / "write-a-repository.md", tmp_path)
    done = run(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=line", "test_mine.py")
    errors = re.findall(r"^\S+:\d+: (.+)$", done.stdout, re.MULTILINE)
    assert len(errors) == int(re.findall(r"^(\d+) failed, 3 skipped", done.stdout, re.MULTILINE)[0]) > 25
    assert all(re.search(r"NotImplementedError\W+R\d\d", error) for error in errors), errors


@pytest.mark.parametrize(
    ("page", "contract"),
    [
        ("write-a-repository.md", RepositoryContract),
        ("write-a-repository.md", SharedSweepsContract),
        ("write-a-repository.md", NoticesContract),
        ("write-a-dispatcher.md", DispatcherContract),
    ],
)
def test_a_page_on_a_port_speaks_of_each_of_its_clauses(page: str, contract: type[Contract]) -> None:
    """Spelled out, or between two of them ("R08 to R12")."""
    text = (ROOT / "docs" / page).read_text()
    named = set(re.findall(r"\b[RDSNL]\d\d\b", text))
    for first, last in re.findall(r"\b([RDSNL]\d\d) to ([RDSNL]\d\d)\b", text):
        if first[1:] != "01":  # not the sentence that says how many there are
            named |= {f"{first[0]}{number:02}" for number in range(int(first[1:]), int(last[1:]) + 1)}
    assert set(clauses(contract)) <= named


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install '.[demo]' && python -m jobstate demo" in text
    assert "pip install -e '.[test]' && python -m pytest" in text
