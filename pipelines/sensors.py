"""What keeps the stream going."""

from __future__ import annotations

import time

import dagster as dg
from dagster import DagsterRunStatus, RunsFilter

from pipelines.jobs import stream_job
from pipelines.streaming import RUN_S

_SUCCESSOR_BEFORE_S = 40.0
"""A process needs this long to import and parse; its predecessor goes on meanwhile."""
_GOING = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job=stream_job,
    minimum_interval_seconds=5,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts a streaming run when none goes, or when the one that goes is about to end.",
)
def keep_streaming(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """One run goes, and at most one warms up behind it."""
    runs = context.instance.get_run_records(
        RunsFilter(job_name=stream_job.name, statuses=_GOING), limit=2
    )
    if not runs:
        return dg.RunRequest()
    started = runs[0].start_time
    if len(runs) == 1 and started and time.time() - started > RUN_S - _SUCCESSOR_BEFORE_S:
        return dg.RunRequest()
    return dg.SkipReason("A streaming run goes.")
