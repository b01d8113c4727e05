"""The pytest option `--allowed-skips FILE`: a skipped test that the file does not name fails the run.

A line of the file is `test id: reason`; `#` begins a comment.
"""

from pathlib import Path

import pytest

LIST = Path(__file__).parent / "allowed_skips.txt"
LIMIT = 5
"""More than this many exceptions would make the rule a formality."""


def read_list(path: Path) -> dict[str, str]:
    """Test ids with their reasons. Raises ValueError on a line without a reason."""
    allowed: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        test, colon, reason = line.partition(": ")
        if not colon or not reason.strip():
            raise ValueError(f"{path.name}: {line!r} is not `test id: reason`")
        allowed[test.strip()] = reason.strip()
    return allowed


class SkipRule:
    """Notes every skip, in collection too, and turns the exit status when one is not allowed."""

    def __init__(self, allowed: dict[str, str]) -> None:
        self._allowed = allowed
        self._surprises: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._note(report.nodeid, report.longrepr)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._note(report.nodeid, report.longrepr)

    def _note(self, test: str, why: object) -> None:
        if test not in self._allowed:
            reason = why[2] if isinstance(why, tuple) else why
            self._surprises.append(f"{test}: {reason}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._surprises and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._surprises:
            terminalreporter.section("skips that nobody has allowed")
            for line in self._surprises:
                terminalreporter.line(line, red=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--allowed-skips", type=Path, help="fail on a skip that this file does not name")


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--allowed-skips")
    if path is not None:
        config.pluginmanager.register(SkipRule(read_list(path)), "ingester-skips")
