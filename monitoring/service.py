"""The service `monitor`: watches the restricted snapshot and keeps the alerts up with it."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import msgspec
import psycopg
import psycopg_pool
import structlog

from ledger_service.contract import environment, logs
from ledger_service.contract.service import Health, stop_on_signals
from ledger_service.contract.snapshots import Manifest, read_manifest
from monitoring.alerts.intake import take_in
from monitoring.database import Connection, open_pool
from monitoring.marts import Marts

POLL_SECONDS = 0.5

_log = structlog.get_logger()

_PASSING = (
    *(psycopg.Error, psycopg_pool.PoolTimeout, duckdb.Error),
    *(OSError, LookupError, msgspec.MsgspecError),
)
"""A database or a file that is away for a while: said at /readyz, tried again."""


class Watcher:
    """Takes each new snapshot in, once."""

    def __init__(self, pool: psycopg_pool.ConnectionPool[Connection], marts: Marts) -> None:
        self._pool = pool
        self._marts = marts
        self._taken: tuple[Manifest | None, Manifest | None] | None = None

    def step(self, moment: dt.datetime) -> dict[str, Any] | None:
        """Figures after an intake; None where nothing new is published."""
        # General too: it is what tells of a reversal, and is published more often than restricted.
        pointers = (
            read_manifest(self._marts.folder, "restricted"),
            read_manifest(self._marts.folder, "general"),
        )
        if pointers == self._taken or pointers[0] is None:
            return None
        with self._pool.connection() as connection:
            taken = take_in(connection, self._marts, moment)
            counts = connection.execute(
                "select status, count(*) as alerts from alert group by status"
            ).fetchall()
        self._taken = pointers
        if taken.opened or taken.changed:
            _log.info("intake.taken", **msgspec.structs.asdict(taken))
        return {
            "snapshot_version": taken.snapshot_version,
            "candidates": taken.candidates,
            "alerts": {row["status"]: row["alerts"] for row in counts},
        }


def main() -> None:
    """Run until SIGTERM."""
    logs.configure("monitor", environment.read("TALLYSTICK_LOG_LEVEL"))
    health, stop = Health(), stop_on_signals()
    port = health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    marts = Marts(environment.directory("TALLYSTICK_SNAPSHOTS", "snapshots"))
    with open_pool(environment.read("TALLYSTICK_DATABASE_URL"), size=2) as pool:
        watcher = Watcher(pool, marts)
        _log.info("monitor.started", health_port=port)
        while not stop.is_set():
            try:
                figures = watcher.step(dt.datetime.now(dt.UTC))
                with pool.connection() as connection:
                    connection.execute("select 1 from alert limit 1")
                health.report(ready=True, error=None, **(figures or {}))
            except _PASSING as error:
                _log.warning("monitor.waiting", error=type(error).__name__, detail=str(error))
                health.report(ready=False, error=type(error).__name__)
                stop.wait(2)
            stop.wait(POLL_SECONDS)
    _log.info("monitor.stopped")
