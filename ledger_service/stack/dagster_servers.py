"""Dagster's own processes: the code server and the daemon, with their files in the home."""

from __future__ import annotations

import sqlite3
import sys
import time
from pathlib import Path

from ledger_service.contract.snapshots import write_atomically
from ledger_service.stack.home import Home

_HERE = Path(__file__).parent
_STALE_SECONDS = 60


def prepare(home: Home) -> None:
    """Write Dagster's instance file and its workspace, which names the code server's address."""
    folder = home / "dagster"
    folder.mkdir(parents=True, exist_ok=True)
    template = (_HERE / "dagster.yaml").read_text()
    write_atomically(
        folder / "dagster.yaml", template.replace("DAGSTER_STORAGE", str(folder)).encode()
    )
    port = home.port("dagster-code")
    workspace = (
        "load_from:\n  - grpc_server:\n      host: 127.0.0.1\n"
        f"      port: {port}\n      location_name: tallystick\n"
    )
    write_atomically(folder / "workspace.yaml", workspace.encode())


def code_server_command(home: Home) -> list[str]:
    """The server that holds the definitions and runs the runs."""
    where = ["--host", "127.0.0.1", "--port", str(home.port("dagster-code"))]
    what = ["--module-name", "pipelines.definitions", "--location-name", "tallystick"]
    python = ["--use-python-environment-entry-point"]
    return [sys.executable, "-m", "dagster", "code-server", "start", *where, *what, *python]


def daemon_command(home: Home) -> list[str]:
    """Schedules, sensors and the queue of runs."""
    return [
        sys.executable,
        "-m",
        "dagster._daemon",
        "run",
        "-w",
        str(home / "dagster" / "workspace.yaml"),
    ]


def daemon_probe(home: Home) -> str | None:
    """The daemon has a heartbeat in the instance's storage that is not stale."""
    file = home / "dagster" / "history" / "runs.db"
    if not file.exists():
        return "no heartbeat yet"
    try:
        with sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=2) as storage:
            row = storage.execute(
                "select max(strftime('%s', timestamp)) from daemon_heartbeats"
            ).fetchone()
    except sqlite3.Error as error:
        return f"no heartbeat yet ({error})"
    if row[0] is None or time.time() - int(row[0]) > _STALE_SECONDS:
        return "no fresh heartbeat of Dagster's daemon"
    return None
