"""Reports as assets, a partition per day."""

import dagster as dg

from pipelines.assets.snapshots import GENERAL
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from pipelines.reports.fbo import read_days, write_reports
from pipelines.resources import OWNER

TIME_ZONE = "America/New_York"
DAYS = dg.DailyPartitionsDefinition(start_date="2025-01-01", timezone=TIME_ZONE, end_offset=1)


@dg.asset(
    key=dg.AssetKey(["reports", "fbo_reconciliation"]),
    deps=[GENERAL],
    partitions_def=DAYS,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="reports",
    kinds={"csv", "pdf"},
    owners=[OWNER],
    description="Daily FBO reconciliation per ledger: bank = ledger's cash = customers + in transit.",
)
def fbo_reconciliation(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """Write the reports of all days asked for, in one run."""
    places = Places.from_settings()
    wanted = set(context.partition_keys)
    manifest, days = read_days(places)
    asked = [day for day in days if day.day.isoformat() in wanted]
    api = LedgerApi.from_settings()
    try:
        files = write_reports(places, manifest, asked, api)
    finally:
        api.close()
    return dg.MaterializeResult(
        metadata={
            "reports": len(files),
            "open breaks": sum(len(day.breaks) for day in asked),
            "snapshot": manifest.version,
        }
    )
