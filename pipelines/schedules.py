"""What runs by the clock."""

from __future__ import annotations

import dagster as dg

from pipelines.assets.reports import TIME_ZONE
from pipelines.jobs import build_job, reports_job

nightly_build = dg.ScheduleDefinition(
    name="nightly_build",
    job=build_job,
    cron_schedule="30 2 * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Everything once a night, with all tests and suites.",
)
morning_reports = dg.build_schedule_from_partitioned_job(
    reports_job,
    name="morning_reports",
    description="Each morning, the reconciliation of the day that has ended.",
    hour_of_day=6,
    minute_of_hour=30,
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
