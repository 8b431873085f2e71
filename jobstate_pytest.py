"""The pytest plugin: how much of jobstate's transition table a suite exercises.

    pytest --jobstate-table                             a report at the end
    pytest --jobstate-table-fail-under=80               the same, and exit status 1 below 80 percent

The ini options `jobstate_table` and `jobstate_table_fail_under` say the same once for all. With pytest-xdist, what the workers
exercise is added up. A module of its own, which imports jobstate only when it is asked for: it costs nothing otherwise, and
does not import the library before its coverage is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from jobstate.testing.table_coverage import TableCoverage

_WORKER_OUTPUT = "jobstate_table"


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options, on the command line and in the ini file."""
    group = parser.getgroup("jobstate", "jobstate's transition table")
    words = "report which rows, refusals and repeats of jobstate's transition table the tests exercise"
    under = "with exit status 1 when they exercise less of it, in percent (0 to 100)"
    group.addoption("--jobstate-table", action="store_true", help=words)
    group.addoption("--jobstate-table-fail-under", metavar="PERCENT", default=None, help=f"the same, {under}")
    parser.addini("jobstate_table", words, type="bool", default=False)
    parser.addini("jobstate_table_fail_under", f"the same, {under}", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to record, if that is asked for."""
    under = _fail_under(config)
    if under is None and not (config.getoption("--jobstate-table") or config.getini("jobstate_table")):
        return
    from jobstate.testing.table_coverage import TableCoverage

    config.pluginmanager.register(_Recorder(TableCoverage(), under), "jobstate_table_recorder")


def _fail_under(config: pytest.Config) -> float | None:
    text = config.getoption("--jobstate-table-fail-under") or config.getini("jobstate_table_fail_under")
    if not text:
        return None
    try:
        percent = float(text)
    except ValueError:
        percent = -1
    if not 0 <= percent <= 100:
        raise pytest.UsageError(f"jobstate-table-fail-under: a percentage from 0 to 100 is needed, not {text!r}")
    return percent


class _Recorder:
    """Records one run of pytest."""

    def __init__(self, coverage: TableCoverage, under: float | None) -> None:
        self.coverage = coverage
        self.under = under
        self.coverage.start()

    def pytest_unconfigure(self) -> None:
        self.coverage.stop()

    @property
    def too_little(self) -> bool:
        return self.under is not None and not self.coverage.reaches(self.under)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A worker of pytest-xdist has ended."""
        self.coverage.add(getattr(node, "workeroutput", {}).get(_WORKER_OUTPUT, ()))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        output: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
        if output is not None:  # a worker of pytest-xdist leaves the judgement to its controller
            output[_WORKER_OUTPUT] = [tuple(item) for item in self.coverage.seen]
        elif self.too_little and session.exitstatus == pytest.ExitCode.OK and not session.config.option.collectonly:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
        if config.option.collectonly:
            return
        terminalreporter.section("jobstate table")
        for line in self.coverage.report():
            terminalreporter.write_line(line)
        if self.too_little:
            terminalreporter.write_line(
                f"FAIL: {self.coverage.percent:g} % is exercised, {self.under:g} % is required", red=True
            )
