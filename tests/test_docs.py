"""The documents say what is: pages made from the code are fresh, and the code in them runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jobstate import diagram
from jobstate.lifecycle import MACHINE

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks() -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for path in DOCUMENTS:
        for number, block in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL), 1):
            found.append((f"{path.name}-{number}", block))
    return found


def test_the_page_of_the_lifecycle_is_fresh() -> None:
    assert (ROOT / "docs" / "lifecycle.md").read_text() == diagram.page()


def test_the_diagram_has_every_move_of_the_machine_and_no_other() -> None:
    drawn = {
        (source, target, event)
        for source, target, events in re.findall(r"^    (\w+) --> (\w+): (.+)$", diagram.mermaid(), re.MULTILINE)
        for event in events.split(", ")
    }
    declared = {
        (source.lower(), str(rule.dest).lower(), name)
        for name, event in MACHINE.events.items()
        for source, rules in list(event.transitions.items())
        for rule in rules
        if rule.dest != source
    }
    assert drawn == declared


@pytest.mark.parametrize(("name", "code"), _blocks(), ids=[name for name, _ in _blocks()])
def test_code_in_the_documents_runs_and_prints_what_it_says(name: str, code: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    promised = [line.split("#")[-1].strip() for line in code.splitlines() if line.startswith("print(") and "#" in line]
    assert all(words in done.stdout for words in promised), done.stdout


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_the_readme_has_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert "pip install '.[demo]' && python -m jobstate demo" in text
    assert "pip install -e '.[test]' && python -m pytest" in text
