"""How long the tests take, printed per room; past the budget the run fails.

Seconds say little where others use the machine too, so the budget is one of this machine's own: what
the same work takes here, beside what it took where the budget was set, stretches it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest

BUDGET_SECONDS = 800
"""Of the whole run, on two cores that take `REFERENCE_SECONDS` for the reference work."""
LONGEST_SECONDS = 1_500
"""However slow the machine is: with installation and checks, CI ends well before forty minutes. (At a
third of the speed, 1,268 tests took 916 s.)"""
REFERENCE_SECONDS = 0.16
_REFERENCE_WORK = """
import asyncio, decimal, email.message, http.client, json, sqlite3, xml.dom.minidom
for _ in range(40):
    sum(number * number for number in range(40_000))
"""
"""What the tests' processes do most: start, import, and run Python."""

_ROOT = Path(__file__).parent


def reference_seconds() -> float:
    """What the reference work takes here and now, two processes side by side; the best of three."""
    taken = []
    for _ in range(3):
        begun = time.monotonic()
        pair = [subprocess.Popen([sys.executable, "-c", _REFERENCE_WORK]) for _ in range(2)]
        for process in pair:
            process.wait()
        taken.append(time.monotonic() - begun)
    return min(taken)


class TimeBudget:
    """Adds up the seconds of every room's tests: set-up, call and tear-down."""

    def __init__(self) -> None:
        self._reference = reference_seconds()
        self._allowed = float(BUDGET_SECONDS)
        self._passed = 0.0
        self._start = time.monotonic()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._tests: defaultdict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        room = _room(report.nodeid)
        self._seconds[room] += report.duration
        self._tests[room] += report.when == "call"

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._passed = time.monotonic() - self._start
        if self._passed > BUDGET_SECONDS:
            # the machine may have slowed down, or others come to it, after the run began
            slower = max(self._reference, reference_seconds()) / REFERENCE_SECONDS
            self._allowed = min(BUDGET_SECONDS * max(slower, 1.0), LONGEST_SECONDS)
        if self._passed > self._allowed and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        write = terminalreporter.write_line
        terminalreporter.section("seconds per room")
        for room, seconds in sorted(self._seconds.items(), key=lambda line: -line[1]):
            write(f"{seconds:8.1f} s  {self._tests[room]:4d} tests  {room}")
        verdict = "within" if self._passed <= self._allowed else "FAILED: past"
        write(
            f"{self._passed:8.1f} s  in all, {verdict} the budget of {self._allowed:.0f} s on this "
            f"machine (its reference work takes {self._reference:.2f} s)"
        )


def _room(nodeid: str) -> str:
    """`tests/unit/engine/test_book.py::test_x` gives `unit/engine`."""
    parts = Path(nodeid.split("::", maxsplit=1)[0]).parts
    inside = parts[parts.index(_ROOT.name) + 1 : -1] if _ROOT.name in parts else parts[:-1]
    return "/".join(inside[:2]) or "tests"


def pytest_configure(config: pytest.Config) -> None:
    """Register the plugin once, and not in the processes that a run is shared out among."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(TimeBudget(), "tallystick-time-budget")
