"""The pipelines as Dagster sees them; `workspace.yaml` and `[tool.dg]` both load this module."""

from __future__ import annotations

import dagster as dg

from pipelines import jobs, schedules, sensors
from pipelines.assets import landing, marts, reports, snapshots
from pipelines.checks.asset_checks import publication_checks
from pipelines.resources import Warehouse

defs = dg.Definitions(
    assets=[
        landing.TOPICS,
        landing.raw_landing,
        landing.typed_landing,
        marts.dbt_models,
        snapshots.published_snapshots,
        reports.fbo_reconciliation,
    ],
    asset_checks=[publication_checks],
    jobs=[jobs.build_job, jobs.reports_job, jobs.stream_job],
    schedules=[schedules.nightly_build],
    sensors=[
        sensors.keep_streaming,
        sensors.follow_conditions,
        sensors.tell_failed_runs,
        sensors.watch_lag,
        sensors.watch_quarantine,
        sensors.watch_checks,
    ],
    resources={"warehouse": Warehouse(), "dbt": marts.dbt_resource()},
    # One process a run: steps share a warm dbt, and the pool admits one of them at a time anyway.
    executor=dg.in_process_executor,
)
