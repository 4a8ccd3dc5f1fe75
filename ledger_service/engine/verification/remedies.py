"""What is done about findings: stop the ledger, make a projection anew, or raise an alarm."""

from __future__ import annotations

import psycopg
import structlog

from ledger_service.engine.projections import HISTORY, PROJECTIONS
from ledger_service.engine.rebuild import RebuildError, rebuild
from ledger_service.engine.verification.report import Finding, Report

log = structlog.get_logger()

_PROJECTION_OF = {
    "ledger.projection": HISTORY.name,
    **{
        f"ledger.{table.name}": projection.name
        for projection in PROJECTIONS.values()
        for table in projection.tables
    },
}
_AS_REBUILDER = "-c role=tallystick_rebuilder"


def apply(url: str, report: Report) -> None:
    """Stop ledgers and raise alarms, as the verifier's role."""
    stopped: set[str] = set()
    for finding in report.findings:
        if finding.remedy == "stop" and finding.ledger and finding.ledger not in stopped:
            _stop(url, finding)
            stopped.add(finding.ledger)
        elif finding.remedy == "look":
            log.error("verification.finding", **_facts(finding))
    for ledger, projection in sorted(drifted(report)):
        log.error("projection.drifted", ledger=ledger, projection=projection)


def drifted(report: Report) -> set[tuple[str, str]]:
    """Ledgers and projections that are to be made anew from the journal."""
    return {
        (finding.ledger, _PROJECTION_OF[finding.table])
        for finding in report.findings
        if finding.remedy == "rebuild"
    }


def mend(url: str, ledger: str, projection: str) -> None:
    """Make a projection anew while writing goes on; what fails is an alarm.

    `url`: the verifier's role, which may take on that of the rebuilder.
    Errors: `psycopg.OperationalError` while the database is away.
    """
    try:
        with psycopg.connect(url, autocommit=True, options=_AS_REBUILDER) as connection:
            found = rebuild(connection, ledger, projection)
    except (RebuildError, psycopg.DataError) as error:
        log.error(  # noqa: TRY400 - a verdict
            "projection.not_rebuilt", ledger=ledger, projection=projection, detail=str(error)
        )
        return
    log.warning(
        "projection.rebuilt",
        ledger=ledger,
        projection=projection,
        differing=found.differing,
        places=found.places,
    )


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
