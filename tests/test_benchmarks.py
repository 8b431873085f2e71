"""The benchmarks measure what they say: no test here looks at how fast anything is."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree as Xml

import pytest
from sqlalchemy import URL

from benchmarks import measure, plot, record, suite
from benchmarks.measure import PACE, Result, compare, compare_seconds, heading, report
from jobstate.errors import StaleJobError

ROOT = Path(__file__).parent.parent
SVG = "{http://www.w3.org/2000/svg}"

MET = Result("ours / theirs", ((1.0, 2.0), (3.0, 4.0), (1.0, 1.0)), asked=0.75)
MISSED = Result("<ours> & more / theirs", ((3000.0, 2000.0), (3000.0, 4000.0)), "ms", asked=0.5)
FREE = Result("nothing is asked", ((0.0, 800.0),), "")


@pytest.fixture(autouse=True)
def _own_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "RESULTS", [])


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds, in its only item, that go by when a test says so."""
    now = [0.0]
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    return now


def test_a_comparison_times_both_in_turn_and_leaves_out_what_comes_before_and_the_first_round(clock: list[float]) -> None:
    told: list[str] = []

    def spend(name: str, seconds: float) -> None:
        told.append(name)
        clock[0] += seconds * (100 if len(told) <= 6 else 1)  # the first round is slow

    result = compare(
        "a title",
        lambda: spend("first", 3e-6),
        lambda: spend("second", 4e-6),
        calls=2,
        rounds=3,
        before=lambda: spend("before", 1000),
        asked=1.5,
    )
    assert told == ["before", "first", "first", "before", "second", "second"] * 4
    assert [pytest.approx(row, abs=1e-4) for row in result.rows] == [(3, 4)] * 3
    assert (result.title, result.unit, result.asked) == ("a title", "us", 1.5)
    assert [result] == measure.RESULTS


def test_each_comparison_goes_no_more_rounds_than_the_run_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, rounds = iter(range(1, 100)), list[str]()
    monkeypatch.setattr(PACE, "most", 2)
    monkeypatch.setattr(PACE, "turn", lambda: rounds.append("round"))
    result = compare_seconds("t", lambda: next(seconds), lambda: 1.0, units=4, rounds=5)
    assert result.rows == ((2e6 / 4, 1e6 / 4), (3e6 / 4, 1e6 / 4))
    assert rounds == ["round"] * 3


def test_the_ratio_is_the_median_of_the_rounds_and_not_the_ratio_of_the_medians() -> None:
    result = report("t", [(1.0, 10.0), (6.0, 3.0), (8.0, 1.0)])
    assert (result.first, result.second) == (6, 3)
    assert (result.low, result.ratio, result.high) == (0.1, 2, 8)
    other = report("t", [(1.0, 10.0), (6.0, 12.0), (20.0, 11.0)])
    assert (other.ratio, other.first / other.second) == (0.5, 6 / 11)


def test_a_median_above_what_is_asked_for_misses() -> None:
    assert [each.missed for each in (MET, MISSED, FREE)] == [False, True, False]
    assert not MET._replace(asked=MET.ratio).missed


def test_the_table_is_markdown_of_equal_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print(heading())
    for each in (MET, MISSED, FREE):
        report(*each)
    lines = capsys.readouterr().out.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert len({tuple(match.start() for match in re.finditer(r"\|", line)) for line in lines}) == 1
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["what", "first / second", "ratio", "range", "asked"]
    assert cells[2:] == [
        ["ours / theirs", "1.0 us / 2.0 us", "0.75", "0.50 to 1.00", "0.75"],
        ["<ours> & more / theirs", "3.0 s / 3.0 s", "**1.12**", "0.75 to 1.50", "0.5"],
        ["nothing is asked", "0.0 / 800", "0.00", "", ""],
    ]


def test_the_record_holds_every_round_and_what_it_was_measured_on() -> None:
    where = record.about()
    text = record.record(where, [MET, MISSED, FREE])
    assert record.results_of(text) == [MET, MISSED, FREE]
    found = json.loads(text)
    assert {name: found[name] for name in where} == where
    assert {"date", "revision", "python", "system", "processor", "cpus", "load", "libraries"} == set(where)
    assert {"pydantic", "transitions", "sqlalchemy"} <= set(where["libraries"])
    names = ("first", "second", "ratio", "low", "high", "missed")
    assert [found["results"][0][name] for name in names] == [1, 2, 0.75, 0.5, 1, False]


def test_the_revision_is_marked_when_files_differ_from_it(tmp_path: Path) -> None:
    assert record.revision(tmp_path) is None
    _repository(tmp_path)
    revision = record.revision(tmp_path)
    assert revision is not None
    assert re.fullmatch("[0-9a-f]{40}", revision)
    (tmp_path / "jobstate" / "__init__.py").write_text("TIME = 2\n")
    assert record.revision(tmp_path) == f"{revision}+"
    assert f"revision {revision[:10]}+," in plot.caption_of({**record.about(), "revision": f"{revision}+"})


def _groups(root: Xml.Element) -> list[Xml.Element]:
    return [group for group in root.iter(f"{SVG}g") if group.attrib["class"].startswith("result")]


def _number(element: Xml.Element | None, pattern: str) -> list[float]:
    assert element is not None
    found = re.fullmatch(pattern, element.attrib["d"])
    assert found is not None
    return [float(each) for each in found.groups()]


def test_the_plot_has_a_bar_a_dot_and_the_tick_that_is_asked_for_each_where_the_axis_has_it() -> None:
    results = [MET, MISSED, FREE]
    root, axis = Xml.fromstring(plot.svg(results, "a <machine>")), plot.axis_of(results)
    groups = _groups(root)
    assert [group.attrib["data-title"] for group in groups] == [each.title for each in results]
    for group, result in zip(groups, results, strict=True):
        bar = _number(group.find(f"{SVG}path[@class='range']"), r"M([\d.]+) \d+ H([\d.]+)")
        assert bar == pytest.approx([axis.at(result.low), axis.at(result.high)], abs=0.1)
        (dot,) = group.findall(f"{SVG}circle")
        assert float(dot.attrib["cx"]) == pytest.approx(axis.at(result.ratio), abs=0.1)
        ticks = group.findall(f"{SVG}path[@class='asked']")
        assert [_number(tick, r"M([\d.]+) \d+ V\d+")[0] for tick in ticks] == (
            [] if result.asked is None else [pytest.approx(axis.at(result.asked), abs=0.1)]
        )
        assert ("missed" in group.attrib["class"].split()) == result.missed
    assert "a <machine>" in [text.text for text in root.iter(f"{SVG}text")]


def test_the_axis_is_logarithmic_and_holds_all_but_what_is_next_to_nothing() -> None:
    axis = plot.axis_of([MET, MISSED, FREE])
    assert (axis.low, axis.high) == (0.01, 10)
    steps = [second - first for first, second in pairwise(map(axis.at, (0.01, 0.1, 1, 10)))]
    assert steps == pytest.approx([plot.PLOT / 3] * 3)
    assert axis.at(0) == axis.at(0.01)
    assert list(plot.axis_of([MET]).marks()) == [0.1, 0.2, 0.5, 1, 2, 5, 10]


def test_the_plot_of_the_readme_is_the_one_of_its_record() -> None:
    folder = ROOT / "benchmarks"
    text = (folder / "results.json").read_text()
    drawn = plot.svg(record.results_of(text), plot.caption_of(json.loads(text)))
    assert (folder / "results.svg").read_text() == drawn
    assert "results.svg" in (folder / "README.md").read_text()


def test_the_readme_names_each_part() -> None:
    assert set(suite.PARTS) == set(re.findall(r"^\| `(\w+)` \|", (ROOT / "benchmarks" / "README.md").read_text(), re.MULTILINE))


def test_errors_and_saves_in_vain_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.processes import Counting
    from jobstate import Jobs
    from jobstate.adapters.sqlalchemy import SQLAlchemyRepository
    from jobstate.lifecycle import Accepted, decide
    from jobstate.model import Event
    from tests.sql import sqlite_engine

    monkeypatch.setattr(Counting, "conflicts", 0)
    engine = sqlite_engine(tmp_path)
    repository = Counting(engine)
    repository.create_schema()
    job = Jobs(repository).create("/x", {}, organization_id="org")
    decision = decide(job, Event.CANCEL, job.updated_at, operation="op")
    assert isinstance(decision, Accepted)
    repository.save(decision)
    assert Counting.conflicts == 0
    with pytest.raises(StaleJobError):
        repository.save(decision)
    assert Counting.conflicts == 1
    repository.save_many([decision, decision])
    assert Counting.conflicts == 3

    def answers(_: object, transitions: object) -> Iterator[Exception]:
        repository._count(1)  # another thread's
        yield StaleJobError(job.id, 1)

    monkeypatch.setattr(SQLAlchemyRepository, "save_many", answers)
    repository.save_many([decision])
    assert Counting.conflicts == 5
    engine.dispose()


def test_processes_take_turns_at_whole_lives_and_none_is_in_vain(server: URL) -> None:
    from benchmarks import processes

    processes.lives(server, jobs=12, counts=(1, 2), rounds=2)
    lives, *vain = measure.RESULTS
    assert lives.title.startswith("a life, 12 jobs by 2 processes / by one")
    assert [len(lives.rows), len(vain)] == [2, 2]
    assert [each.rows for each in vain] == [((0.0, 12.0),) * 2] * 2


# The command, in a repository of a test's own: its jobstate is a constant, and its suite tells that as a time.

SUITE = """
from pathlib import Path
import jobstate
from benchmarks.measure import compare_seconds, report
LOG = Path({log!r})
def tiny():
    def seconds():
        with LOG.open("a") as log:
            print(jobstate.TIME, file=log)
        return float(jobstate.TIME)
    compare_seconds("tiny", seconds, lambda: 4.0, rounds=4, asked=0.5)
    report("in vain", [(0.0, 8.0)], "")
PARTS = {{"tiny": tiny}}
"""


def _git(folder: Path, *arguments: str) -> None:
    settings = ("user.name=test", "user.email=test@localhost", "commit.gpgsign=false", "core.hooksPath=/dev/null")
    who = [word for setting in settings for word in ("-c", setting)]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


def _repository(folder: Path) -> None:
    (folder / "jobstate").mkdir()
    (folder / "jobstate" / "__init__.py").write_text("TIME = 1\n")
    _git(folder, "init")
    _git(folder, "add", "jobstate")
    _git(folder, "commit", "-m", "one")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One second at HEAD, and three now."""
    folder = tmp_path / "checkout"
    shutil.copytree(ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "benchmarks" / "suite.py").write_text(SUITE.format(log=str(tmp_path / "log")))
    (folder / "tests").mkdir()
    _repository(folder)
    (folder / "jobstate" / "__init__.py").write_text("TIME = 3\n")
    return folder


def _run(folder: Path, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120, **options)


def _results(folder: Path) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = json.loads((folder / "out.json").read_text())["results"]
    return results


def test_the_command_writes_its_record_and_its_plot_and_says_when_a_median_misses(checkout: Path) -> None:
    ran = _run(checkout, "tiny", "--rounds", "2", "--json", "out.json", "--plot", "out.svg")
    assert (ran.returncode, ran.stderr) == (0, "")
    tiny, none = _results(checkout)
    assert (tiny["title"], tiny["rows"], tiny["missed"]) == ("tiny", [[3e6, 4e6]] * 2, True)
    assert (none["title"], none["rows"], none["missed"]) == ("in vain", [[0, 8]], False)
    assert len(_groups(Xml.parse(checkout / "out.svg").getroot())) == 2
    assert "| **0.75** " in ran.stdout
    assert _run(checkout, "--check").returncode == 1
    (checkout / "jobstate" / "__init__.py").write_text("TIME = 2\n")
    assert _run(checkout, "--check").returncode == 0


@pytest.mark.parametrize(("end", "status"), [("1 / 0", 1), ("os.kill(os.getpid(), signal.SIGTERM)", 128 + signal.SIGTERM)])
def test_what_was_measured_before_a_run_is_broken_off_is_kept(checkout: Path, end: str, status: int) -> None:
    with (checkout / "benchmarks" / "suite.py").open("a") as file:
        file.write(f"import os, signal\nPARTS['broken'] = lambda: {end}\n")
    ran = _run(checkout, "tiny", "broken", "tiny", "--json", "out.json", "--plot", "out.svg")
    assert ran.returncode == status
    assert len(_results(checkout)) == len(_groups(Xml.parse(checkout / "out.svg").getroot())) == 2


def test_two_revisions_are_measured_round_by_round_in_turn(checkout: Path) -> None:
    ran = _run(checkout, "--against", "HEAD", "--rounds", "2", "--json", "out.json")
    assert (ran.returncode, ran.stderr) == (0, "")
    (result,) = _results(checkout)  # a count of 0 has no ratio
    assert (result["title"], result["rows"], result["asked"]) == ("tiny", [[3e6, 1e6]] * 6, None)
    assert "now / then" in ran.stdout
    told = (checkout.parent / "log").read_text().split()
    assert told == ["1", "3"] * 3 + ["3", "1"] * 3 + ["1", "3"] * 3


def test_a_process_of_a_pair_ends_with_the_one_that_started_it(checkout: Path) -> None:
    ran = _run(checkout, "--in-turn", "--json", "out.json", stdin=subprocess.DEVNULL)
    assert ran.returncode == 1
    assert _results(checkout) == []


def test_a_revision_that_there_is_not_or_that_the_benchmarks_do_not_run_on_is_told(checkout: Path) -> None:
    unknown = _run(checkout, "--against", "nowhere")
    assert unknown.returncode == 1
    assert "git has no jobstate at 'nowhere'" in unknown.stderr
    (checkout / "jobstate" / "__init__.py").write_text("")
    broken = _run(checkout, "--against", "HEAD")
    assert broken.returncode == 1
    assert "do not run on the jobstate of now" in broken.stderr


def test_help_needs_none_of_what_is_compared() -> None:
    hidden = (
        "import sys; sys.modules.update(dict.fromkeys(['statemachine', 'dbos', 'pgqueuer', 'oban', 'sqlalchemy', 'celery']))"
    )
    program = f"{hidden}; sys.argv = ['x', '--help']; import runpy; runpy.run_module('benchmarks', run_name='__main__')"
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert all(part in ran.stdout for part in suite.PARTS)
