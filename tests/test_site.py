"""The documentation's site: its reference is fresh and whole; it is built without a warning; no link leads nowhere."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urldefrag, urlsplit
from xml.etree import ElementTree

import pytest

import jobstate
from jobstate import errors, worker
from jobstate.lifecycle import TABLE
from jobstate.lifecycle.changes import WORKER_LOST
from tests.pages import DOCS, PAGES

ROOT = DOCS.parent
FAILURES = {worker.HANDLER_ERROR, worker.INVALID_REQUEST, worker.INVALID_RESULT, worker.GIVEN_BACK_TOO_OFTEN, WORKER_LOST}


def _configured() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]
    return project


def _leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    parts = cast("dict[str, Any]", nav).values() if isinstance(nav, dict) else cast("list[Any]", nav)
    return [leaf for part in parts for leaf in _leaves(part)]


def _rows(page: str, heading: str) -> list[str]:
    """The names in the first column of the table below a heading."""
    section = (DOCS / page).read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


@pytest.mark.parametrize(("name", "made"), PAGES.items(), ids=PAGES)
def test_a_page_that_is_made_from_the_code_is_fresh(name: str, made: Callable[[], str]) -> None:
    assert (DOCS / name).read_text() == made()


def test_every_page_stands_in_the_navigation_once() -> None:
    assert sorted(_leaves(_configured()["nav"])) == sorted(page.name for page in DOCS.glob("*.md"))


def test_the_page_of_errors_has_each_class_once_and_no_other() -> None:
    classes = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert _rows("errors.md", "The classes") == classes


def test_the_page_of_errors_has_each_code_of_a_refusal_once_and_no_other() -> None:
    calls = [
        call
        for file in (ROOT / "jobstate" / "lifecycle").glob("*.py")
        for call in ast.walk(ast.parse(file.read_text()))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Reason"
    ]
    said = {str(node.value) for call in calls if isinstance(node := call.args[0], ast.Constant)}
    assert sorted(_rows("errors.md", "The codes of a refusal")) == sorted(said | {"run_over", "run_not_reached"})


def test_the_page_of_errors_has_each_failure_that_is_the_librarys_own() -> None:
    assert sorted(_rows("errors.md", "The codes of a failed job")) == sorted(FAILURES)


def test_the_page_of_the_api_has_each_public_name() -> None:
    documented = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert "jobstate.errors" in documented
    assert {f"jobstate.{name}" for name in jobstate.__all__ if name not in vars(errors)} <= set(documented)


def test_the_picture_has_every_move_of_the_table_and_no_other() -> None:
    arrows = [node.attrib for node in ElementTree.parse(DOCS / "lifecycle.svg").iter() if "data-to" in node.attrib]
    drawn = [
        (event, source, arrow["data-to"])
        for arrow in arrows
        for source in arrow["data-from"].split() or ("",)
        for event in arrow["data-events"].split()
    ]
    moves = {(str(event), str(source), str(row.target)) for (event, source), rows in TABLE.items() for row in rows}
    declared = {move for move in moves if move[1] != move[2]} | {("create", "", "validating"), ("create", "", "queued")}
    assert sorted(drawn) == sorted(declared)


class _Page(HTMLParser):
    """What stands on a page: anchors, links, and what a browser loads with it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.classes: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.classes |= set(given.get("class", "").split())
        if "href" in given and (tag == "a" or given.get("rel") in ("prev", "next")):
            self.links.append(given["href"])
        self.loaded += [given[name] for name in ("src", "href") if name in given and tag in ("script", "link", "img", "iframe")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    for name in ("docs", "jobstate"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "zensical.toml", folder)
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr, done.stdout + done.stderr
    return folder / "build" / "site"


@pytest.mark.full
def test_the_site_is_built_and_each_link_leads_somewhere(site: Path) -> None:
    pages = {path.resolve(): _Page(path) for path in site.rglob("*.html")}
    assert len(pages) > len(list(DOCS.glob("*.md")))
    lost: list[str] = []
    for path, page in pages.items():
        for link in {*page.links, *page.loaded}:
            address, anchor = urldefrag(link)
            if urlsplit(address).scheme or path.name == "404.html":
                continue
            target = (path.parent / unquote(address)).resolve() if address else path
            known = pages[target].anchors if target in pages else {unquote(anchor)}
            if not target.exists() or (anchor and unquote(anchor) not in known):
                lost.append(f"{path.name}: {link}")
    assert lost == []


@pytest.mark.full
def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """The theme has features that load scripts from elsewhere, by the class of an element: none of these is used."""
    for path in site.rglob("*.html"):
        page = _Page(path)
        assert [address for address in page.loaded if urlsplit(address).scheme or address.startswith("//")] == [], path
        assert page.classes & {"mermaid", "glightbox", "pyodide"} == set(), path
    styles = "".join(path.read_text() for path in site.rglob("*.css"))
    assert re.findall(r"@import|url\(['\"]?(?:https?:)?//[^)]*", styles) == []
