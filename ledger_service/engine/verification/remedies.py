"""What is done about findings: stop the ledger, have a projection rebuilt, or raise an alarm."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import structlog

from ledger_service.engine.verification.report import Finding, Report

log = structlog.get_logger()

Rebuild = Callable[[str, str], None]
"""Makes a projection (table) of a ledger anew from the journal, while writing goes on."""


def apply(url: str, report: Report, rebuild: Rebuild | None = None) -> list[str]:
    """Act on a report, as the verifier's role; gives the ledgers that are stopped now by it.

    Without `rebuild`, a drifted projection is an alarm that says to run `tally rebuild`.
    """
    stopped: list[str] = []
    for finding in report.findings:
        if finding.remedy == "stop" and finding.ledger and finding.ledger not in stopped:
            _stop(url, finding)
            stopped.append(finding.ledger)
    drifted = {(f.ledger, f.table) for f in report.findings if f.remedy == "rebuild"}
    for ledger, table in sorted(drifted):
        if rebuild is None:
            log.error("projection.drifted", ledger=ledger, table=table, remedy="tally rebuild")
        else:
            log.warning("projection.rebuilt", ledger=ledger, table=table)
            rebuild(ledger, table)
    for finding in report.findings:
        if finding.remedy == "look":
            log.error("verification.finding", **_facts(finding))
    return stopped


def _stop(url: str, finding: Finding) -> None:
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "select ledger.stop_ledger(%s, %s, %s, %s, %s)",
            (finding.ledger, finding.table, finding.code, finding.seq, finding.message),
        ).fetchone()
    if row is not None and row[0] is not None:
        log.error("ledger.stopped", stop=row[0], **_facts(finding))


def _facts(finding: Finding) -> dict[str, str | int | None]:
    return {
        "ledger": finding.ledger,
        "table": finding.table,
        "row": finding.row,
        "seq": finding.seq,
        "code": finding.code,
        "detail": finding.message,
    }
