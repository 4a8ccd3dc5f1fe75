"""Reports as assets, a partition per day."""

import datetime as dt

import dagster as dg

from pipelines.assets.snapshots import GENERAL
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from pipelines.reports.fbo import read_days, unexplained, write_reports
from pipelines.resources import OWNER, RETRY, TIME_ZONE

DAYS = dg.DailyPartitionsDefinition(start_date="2025-01-01", timezone=TIME_ZONE, end_offset=1)


# Begun by the clock, carried out when the night's build has published: yesterday's, and today's as far
# as it goes.
_AFTER_THE_BUILD = dg.AutomationCondition.on_cron("0 2 * * *", TIME_ZONE).replace(
    dg.AutomationCondition.in_latest_time_window(),
    dg.AutomationCondition.in_latest_time_window(dt.timedelta(days=2)),
)


@dg.asset(
    key=dg.AssetKey(["reports", "fbo_reconciliation"]),
    deps=[GENERAL],
    partitions_def=DAYS,
    automation_condition=_AFTER_THE_BUILD,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="reports",
    kinds={"csv", "pdf"},
    owners=[OWNER],
    retry_policy=RETRY,
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
            "break amounts, minor units": sum(
                abs(int(one["difference"])) for day in asked for one in day.breaks
            ),
            "unexplained, minor units": sum(unexplained(day) for day in asked),
            "snapshot": manifest.version,
        }
    )
