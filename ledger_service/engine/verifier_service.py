"""The verifier: verifies what is new every few seconds, everything once a day, and acts on it.

A violation stops its ledger. What only readers use and has drifted is made anew, at most once in
REBUILD_INTERVAL_S: where it drifts again so soon somebody writes into it, and people must look.

/readyz is 503 while a ledger is stopped or anything was found; its figures say up to which `seq`
each ledger is verified, what is behind, and what was found. Settings: TALLYSTICK_DATABASE_URL (role
tallystick_verifier), TALLYSTICK_LOG_PUBLIC_KEY, TALLYSTICK_WITNESS_PUBLIC_KEY,
TALLYSTICK_HEALTH_LISTEN.
"""

from __future__ import annotations

import time
from typing import Any

import msgspec
import psycopg
import structlog

from ledger_service.contract import environment, logs
from ledger_service.contract.service import Health, stop_on_signals
from ledger_service.engine.verification import remedies
from ledger_service.engine.verify import Keys, Report, verify, verify_new

log = structlog.get_logger()
INTERVAL_S = 5.0
FULL_INTERVAL_S = 24 * 3600.0
UNSOUND_INTERVAL_S = 60.0
"""Between full runs while the last one found something: mended is what a full run finds mended."""
REBUILD_INTERVAL_S = 600.0
"""Between rebuilds of one projection of one ledger."""


class Verifier:
    """Runs verifications and remembers what the last full one found."""

    def __init__(self, url: str, keys: Keys) -> None:
        self._url = url
        self._keys = keys
        self._full: Report | None = None
        self._full_at = 0.0
        self._rebuilt_at: dict[tuple[str, str], float] = {}

    def run_once(self) -> dict[str, Any]:
        """Verify what is new, all where that is due, and act. Gives figures for /readyz.

        Errors: `psycopg.OperationalError` while the database is away.
        """
        begun = time.monotonic()
        report = verify_new(self._url, keys=self._keys)
        remedies.apply(self._url, report)
        self._mend(report)
        known = {(one.table, one.ledger, one.code) for one in report.findings}
        # what a run of what is new finds, too, it also finds mended
        sound = self._full is not None and known.issuperset(
            (one.table, one.ledger, one.code) for one in self._full.findings
        )
        wait = FULL_INTERVAL_S if sound else UNSOUND_INTERVAL_S
        if self._full is None or begun - self._full_at > wait:
            self._full = verify(self._url, keys=self._keys)
            self._full_at = begun
            remedies.apply(self._url, self._full)
            self._mend(self._full)
        found = {*report.findings, *self._full.findings}
        stopped = self.stopped()
        return {
            "ready": not found and not stopped,
            "verified": report.ledgers,
            "stopped": stopped,
            "findings": [msgspec.to_builtins(one) for one in list(found)[:20]],
            "seconds": round(time.monotonic() - begun, 3),
        }

    def _mend(self, report: Report) -> None:
        """Rebuild what drifted, but nothing from the journal of a ledger that is stopped."""
        drifted = remedies.drifted(report)
        stopped = self.stopped() if drifted else {}
        for ledger, projection in sorted(drifted):
            now, before = time.monotonic(), self._rebuilt_at.get((ledger, projection))
            if ledger in stopped or (before is not None and now - before < REBUILD_INTERVAL_S):
                continue
            self._rebuilt_at[ledger, projection] = now
            remedies.mend(self._url, ledger, projection)

    def stopped(self) -> dict[str, str]:
        """Ledgers that stand still, and for what."""
        with psycopg.connect(self._url) as connection:
            rows = connection.execute(
                "select ledger, found_in || ' ' || code from ledger.stop where resumed_at is null"
            )
            return dict(rows.fetchall())


def main() -> None:
    """Run until SIGTERM."""
    logs.configure("verifier", environment.read("TALLYSTICK_LOG_LEVEL"))
    stop = stop_on_signals()
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    keys = Keys.from_text(
        environment.read("TALLYSTICK_LOG_PUBLIC_KEY"),
        environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY"),
    )
    verifier = Verifier(environment.read("TALLYSTICK_DATABASE_URL"), keys)
    is_first = True
    while not stop.is_set():
        try:
            if is_first:
                # the first run may read whole ledgers; until it ends, what stands written counts
                stopped = verifier.stopped()
                health.report(ready=not stopped, stopped=stopped)
                is_first = False
            health.report(**verifier.run_once())
        except psycopg.OperationalError as error:
            health.report(ready=False, database=type(error).__name__)
            log.warning("verifier.database_unreachable", error=type(error).__name__)
        stop.wait(INTERVAL_S)
