"""How long the tests take, printed per room; past the budget the run fails."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

import pytest

BUDGET_SECONDS = 900
"""Of the whole run on two cores, also where others use them too."""

_ROOT = Path(__file__).parent


class TimeBudget:
    """Adds up the seconds of every room's tests: set-up, call and tear-down."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._tests: defaultdict[str, int] = defaultdict(int)

    def passed(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._start

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        room = _room(report.nodeid)
        self._seconds[room] += report.duration
        self._tests[room] += report.when == "call"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.passed() > BUDGET_SECONDS and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        terminalreporter.section("seconds per room")
        for room, seconds in sorted(self._seconds.items(), key=lambda line: -line[1]):
            write(f"{seconds:8.1f} s  {self._tests[room]:4d} tests  {room}")
        passed = self.passed()
        verdict = "within" if passed <= BUDGET_SECONDS else "FAILED: past"
        write(f"{passed:8.1f} s  in all, {verdict} the budget of {BUDGET_SECONDS} s")


def _room(nodeid: str) -> str:
    """`tests/unit/engine/test_book.py::test_x` gives `unit/engine`."""
    parts = Path(nodeid.split("::", maxsplit=1)[0]).parts
    inside = parts[parts.index(_ROOT.name) + 1 : -1] if _ROOT.name in parts else parts[:-1]
    return "/".join(inside[:2]) or "tests"


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin once."""
    config.pluginmanager.register(TimeBudget(), "tallystick-time-budget")
