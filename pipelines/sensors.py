"""What keeps the stream going, and what tells people when something stands still.

The watching sensors read `progress.json` and the published manifest, which every way of running
writes: builds, streaming runs and the command alike. A message that could not be sent fails the tick,
whose cursor then stays, so the next tick sends it again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping

import dagster as dg
import httpx
from dagster import DagsterRunStatus, RunsFilter

from ledger_service.contract import environment
from ledger_service.contract.snapshots import read_manifest, read_progress
from pipelines.checks.freshness import FRESH_WITHIN_S, seconds_behind
from pipelines.jobs import stream_job
from pipelines.ledger_api import LedgerApi
from pipelines.places import Places
from pipelines.streaming import RUN_S
from pipelines.webhook import Message, Webhook

_SUCCESSOR_BEFORE_S = 40.0
"""A process needs this long to import and parse; its predecessor goes on meanwhile."""
_GOING = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
_WATCHED_ELSEWHERE = frozenset({"freshness", "quarantine_empty"})

Troubles = dict[str, dict[str, int]]
"""What is wrong now, by name, with the numbers that are told."""


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


follow_conditions = dg.AutomationConditionSensorDefinition(
    "follow_conditions",
    target=dg.AssetSelection.all(),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=30,
    description="Balances follow what they are made of; reports follow the night's build.",
)


@dg.run_failure_sensor(
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Tells the webhook of each run that failed: which job, and where to look.",
)
def tell_failed_runs(context: dg.RunFailureSensorContext) -> None:
    """One message a run; the error's own text stays in Dagster."""
    if (webhook := Webhook.from_settings()) is not None:
        run = context.dagster_run
        message = Message("run.failed", run.job_name, link=_link(f"dagster/runs/{run.run_id}"))
        webhook.send(f"run-{run.run_id}", message)


def late_ledgers() -> Troubles:
    """Ledgers of which the published marts lack what is older than FRESH_WITHIN_S."""
    progress = read_progress(Places.from_settings().snapshots)
    if progress is None:
        return {}
    api = LedgerApi.from_settings()
    try:
        behind = seconds_behind(api, dict.fromkeys(progress.landed, 0) | progress.published)
    except httpx.HTTPError:
        return {"ledger API": {}}
    finally:
        api.close()
    return {
        ledger: {"seconds_behind": seconds}
        for ledger, seconds in behind.items()
        if seconds > FRESH_WITHIN_S
    }


def waiting_events() -> Troubles:
    """The quarantine, where anything is in it."""
    progress = read_progress(Places.from_settings().snapshots)
    waiting = progress.quarantined if progress else 0
    return {"quarantine": {"events": waiting}} if waiting else {}


def failed_checks() -> Troubles:
    """Checks that stop publication, and those of the last publication that warn."""
    snapshots = Places.from_settings().snapshots
    progress, manifest = read_progress(snapshots), read_manifest(snapshots, "general")
    blocking = progress.blocked_by if progress else []
    warning = [c.name for c in manifest.checks if not c.passed] if manifest else []
    return {name: {} for name in {*blocking, *warning} - _WATCHED_ELSEWHERE}


def tell(
    webhook: Webhook, kind: str, found: Mapping[str, dict[str, int]], cursor: str | None
) -> str:
    """Tell what came and what went since `cursor`; gives the next one.

    Errors: `WebhookFailedError`; who then asks again with the same cursor sends the same ids.
    """
    number, told = json.loads(cursor) if cursor else (0, [])
    changes = [(name, "raised") for name in sorted(found.keys() - set(told))]
    changes += [(name, "cleared") for name in sorted(set(told) - found.keys())]
    for name, change in changes:
        message = Message(f"{kind}.{change}", name, found.get(name, {}), _link("dagster/"))
        webhook.send(f"{kind}-{number}-{change}-{name}", message)
    return json.dumps([number + bool(changes), sorted(found)])


def _link(path: str) -> str:
    console = environment.read("TALLYSTICK_CONSOLE_URL").rstrip("/")
    return f"{console}/{path}" if console else ""


def _watch(kind: str, find: Callable[[], Troubles], description: str) -> dg.SensorDefinition:
    @dg.sensor(
        name=f"watch_{kind}",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
    )
    def watch(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        webhook = Webhook.from_settings()
        if webhook is None:
            return dg.SkipReason("Nobody is told: TALLYSTICK_WEBHOOK_URL is not set.")
        found = find()
        context.update_cursor(tell(webhook, kind, found, context.cursor))
        return dg.SkipReason(", ".join(sorted(found)) or "Nothing to tell.")

    return watch


watch_lag = _watch(
    "lag", late_ledgers, "Tells of ledgers whose facts are not in the marts after two minutes."
)
watch_quarantine = _watch(
    "quarantine", waiting_events, "Tells that events break the contract and wait."
)
watch_checks = _watch(
    "check", failed_checks, "Tells which checks fail, and which stop publication."
)
