"""A home with a tiny service of the tests' own, registered as any package would register one."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from ledger_service.stack import supervision
from ledger_service.stack.home import Home
from ledger_service.stack.kafka.server import fetch_jars
from tests import servers

TINY = '''
import subprocess, sys
from ledger_service.contract import environment
from ledger_service.contract.service import Health, stop_on_signals

def main():
    """Ready at once; its child, in a session of its own, hears no signal but the kill."""
    stop = stop_on_signals()
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", deaf], start_new_session=True)
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    health.report(ready=True, child=child.pid)
    stop.wait()

def broken():
    sys.exit("the last words of broken")
'''
ENTRY_POINTS = "[tallystick.services]\ntiny = tiny:main\nbroken = tiny:broken\n"


@dataclasses.dataclass(frozen=True)
class Stack:
    """A home, and `tally` for it."""

    home: Home
    plugins: Path

    def tally(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run `tally` with this home; it is up to the test what to make of the exit code."""
        surroundings = {
            **os.environ,
            "TALLYSTICK_HOME": str(self.home.path),
            "PYTHONPATH": str(self.plugins),
            **settings,
        }
        return subprocess.run(
            [sys.executable, "-m", "ledger_service.stack.cli", *arguments],
            env=surroundings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )

    def up(self, *names: str) -> None:
        """`tally up`, which must succeed."""
        done = self.tally("up", *names)
        assert done.returncode == 0, done.stdout + done.stderr

    def status(self) -> dict[str, dict[str, Any]]:
        """What runs, by name."""
        lines = json.loads(self.tally("status", "--json").stdout)["services"]
        return {name: line for name, line in lines.items() if line["pid"]}

    def processes(self) -> list[psutil.Process]:
        """Everything of this home that lives, the supervisor too."""
        pid_file = self.home / "supervisor" / "supervisord.pid"
        found = supervision.families(self.home)
        with contextlib.suppress(OSError, ValueError, psutil.NoSuchProcess):
            found.append(psutil.Process(int(pid_file.read_text())))
        return found


@pytest.fixture(scope="session")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Stack]]:
    """Makes homes; whatever runs in them at the end is ended by pid."""
    plugins = tmp_path_factory.mktemp("plugins")
    (plugins / "tiny.py").write_text(TINY)
    described = plugins / "tiny-1.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: tiny\nVersion: 1\n")
    (described / "entry_points.txt").write_text(ENTRY_POINTS)
    made: list[Stack] = []

    def make(name: str) -> Stack:
        home = Home(tmp_path_factory.mktemp(name) / "home").create()
        (home / "kafka" / "lib").symlink_to(servers.JARS)
        made.append(Stack(home, plugins))
        return made[-1]

    fetch_jars(servers.JARS)
    yield make
    for stack in made:
        left = stack.processes()
        for process in reversed(left):  # the supervisor first, so that it restarts nothing
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        supervision.wait_for_ends(left, 10)
