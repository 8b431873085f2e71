"""The pytest plugin, as a host's suite meets it: its report, its threshold, its workers, and what it costs when nobody asks."""

from __future__ import annotations

import pytest

from jobstate.lifecycle import decision
from jobstate.testing.table_coverage import TableCoverage

pytest_plugins = ["pytester"]

ALL = len(TableCoverage().everything)
ONE = 1000 // ALL / 10
"""What one decision is, in percent."""

DECIDES = """
from jobstate import Event, JobStatus, decide
from jobstate.testing.examples import T, filled_job

def test_a_queued_job_is_cancelled():
    decide(filled_job(JobStatus.QUEUED), Event.CANCEL, T + 100)
"""
DECIDES_ANOTHER = DECIDES.replace("QUEUED", "IN_PROGRESS").replace("a_queued", "a_running")


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """A host's suite that exercises one row."""
    pytester.makepyfile(test_it=DECIDES)
    return pytester


def ini(suite: pytest.Pytester, **options: str) -> None:
    suite.makeini("\n".join(["[pytest]", *(f"{name} = {value}" for name, value in options.items())]))


def test_a_suite_ends_with_a_report_of_the_table(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--jobstate-table")
    assert result.ret == 0
    result.stdout.fnmatch_lines(
        [
            "*= jobstate table =*",
            "rows        1 of *",
            "no row      0 of *",
            "refusals    0 of *",
            "repeats     0 of *",
            f"all         1 of {ALL} ({ONE:g} %)",
            "missing rows: cancel: in_progress -> cancelled, validating -> cancelled",
            "missing repeats: retry: already",
        ]
    )
    result.stdout.no_fnmatch_line("FAIL: *")


def test_the_report_is_asked_for_in_the_ini_file(suite: pytest.Pytester) -> None:
    ini(suite, jobstate_table="true")
    result = suite.runpytest_inprocess()
    result.stdout.fnmatch_lines(["*= jobstate table =*", f"all         1 of {ALL} *"])


def test_nothing_is_reported_when_nobody_asks(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess()
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*jobstate table*")


@pytest.mark.full
def test_the_library_is_not_imported_when_nobody_asks(pytester: pytest.Pytester) -> None:
    """So a suite that measures coverage measures its import too, and one that has no use for it pays nothing."""
    pytester.makepyfile(
        "import sys\ndef test_it():\n    assert not [name for name in sys.modules if name.startswith('jobstate.')]"
    )
    assert pytester.runpytest_subprocess().ret == 0
    assert pytester.runpytest_subprocess("--jobstate-table").ret == 1, "asked for, it is: the test can fail"


@pytest.mark.parametrize("where", ["option", "ini"])
@pytest.mark.parametrize(
    ("percent", "status"), [(f"{100 / ALL - 0.01:.3f}", 0), (f"{100 / ALL + 0.01:.3f}", 1), ("100", 1), ("0", 0)]
)
def test_a_suite_fails_that_exercises_less_than_is_required(
    suite: pytest.Pytester, where: str, percent: str, status: int
) -> None:
    if where == "ini":
        ini(suite, jobstate_table_fail_under=percent)
    result = suite.runpytest_inprocess(*([f"--jobstate-table-fail-under={percent}"] if where == "option" else []))
    assert result.ret == status
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines([f"all         1 of {ALL} ({ONE:g} %)"])
    failed = [line for line in result.outlines if line.startswith("FAIL: ")]
    assert failed == ([f"FAIL: {ONE:g} % is exercised, {float(percent):g} % is required"] if status else [])


def test_the_option_wins_over_the_ini_file(suite: pytest.Pytester) -> None:
    ini(suite, jobstate_table_fail_under="100")
    assert suite.runpytest_inprocess().ret == 1
    assert suite.runpytest_inprocess("--jobstate-table-fail-under=0").ret == 0


@pytest.mark.parametrize("text", ["101", "-1", "most", "nan"])
def test_a_threshold_that_is_no_percentage_is_an_error_that_names_the_limit(suite: pytest.Pytester, text: str) -> None:
    result = suite.runpytest_inprocess(f"--jobstate-table-fail-under={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*jobstate-table-fail-under: a percentage from 0 to 100 is needed, not '{text}'"])


def test_a_collection_alone_is_neither_reported_nor_judged(suite: pytest.Pytester) -> None:
    result = suite.runpytest_inprocess("--collect-only", "--jobstate-table-fail-under=100")
    assert result.ret == 0
    result.stdout.no_fnmatch_line("*jobstate table*")


@pytest.mark.parametrize("under", ["0", "100"])
def test_a_failure_of_the_tests_keeps_its_exit_status(pytester: pytest.Pytester, under: str) -> None:
    pytester.makepyfile(test_it=DECIDES + "\ndef test_that_fails():\n    assert False\n")
    result = pytester.runpytest_inprocess(f"--jobstate-table-fail-under={under}")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([f"all         1 of {ALL} *"])


def test_a_suite_without_tests_keeps_its_exit_status(pytester: pytest.Pytester) -> None:
    assert pytester.runpytest_inprocess("--jobstate-table-fail-under=100").ret == pytest.ExitCode.NO_TESTS_COLLECTED


@pytest.mark.full
def test_what_the_workers_exercise_is_added_up(suite: pytest.Pytester) -> None:
    """A test for each of two workers: the threshold is reached by both together only, and no worker judges by itself."""
    pytest.importorskip("xdist")
    suite.makepyfile(test_other=DECIDES_ANOTHER)
    both = f"{200 / ALL - 0.01:.3f}"
    result = suite.runpytest_subprocess("-n", "2", "--dist", "loadfile", f"--jobstate-table-fail-under={both}")
    assert result.ret == 0, result.outlines
    result.stdout.fnmatch_lines([f"all         2 of {ALL} *"])
    assert len([line for line in result.outlines if "jobstate table" in line]) == 1
    assert suite.runpytest_subprocess("-n", "2", f"--jobstate-table-fail-under={200 / ALL + 0.01:.3f}").ret == 1


def test_a_suite_can_be_run_by_a_suite_that_is_recorded(suite: pytest.Pytester) -> None:
    """As here: what is decided inside counts in both, and each stops its own."""
    outer = TableCoverage()
    outer.start()
    recording = decision._answer
    try:
        result = suite.runpytest_inprocess("--jobstate-table")
        result.stdout.fnmatch_lines([f"all         1 of {ALL} *"])
        assert decision._answer is recording
    finally:
        outer.stop()
    assert len(outer.seen) == 1


def test_the_options_are_explained(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--help")
    result.stdout.fnmatch_lines(["*--jobstate-table *", "*--jobstate-table-fail-under=PERCENT*", "*jobstate_table_fail_under*"])


@pytest.mark.full
def test_the_plugin_needs_no_other_plugin(suite: pytest.Pytester) -> None:
    """Without pytest-xdist, whose hook it implements."""
    result = suite.runpytest_subprocess("-p", "no:xdist", "--jobstate-table", "-W", "error")
    assert result.ret == 0, result.errlines
