"""What runs by the clock."""

from __future__ import annotations

import dagster as dg

from pipelines.jobs import build_job
from pipelines.resources import TIME_ZONE

nightly_build = dg.ScheduleDefinition(
    name="nightly_build",
    job=build_job,
    cron_schedule="30 2 * * *",
    execution_timezone=TIME_ZONE,
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Everything once a night, with all tests and suites.",
)
