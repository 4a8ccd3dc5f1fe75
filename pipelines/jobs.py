"""The two speeds: `build` goes through everything once, `stream` goes round for minutes."""

import time

import dagster as dg
from dagster import RunsFilter

from ledger_service.contract.snapshots import NAMES
from pipelines.assets.reports import fbo_reconciliation
from pipelines.assets.snapshots import describe
from pipelines.resources import POOL, Warehouse
from pipelines.streaming import Round, stream

_BUILD_FIRST = {"dagster/priority": "10"}
_LOOK_S = 3.0
_NO_WAREHOUSE = frozenset({"stream", "reports"})
"""Jobs that begin without the warehouse: while these are queued, nothing waits for it."""
_RECORD_EVERY_S = 30.0

build_job = dg.define_asset_job(
    "build",
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets(fbo_reconciliation),
    description="Land, convert, dbt build with all tests, all checks, publish.",
    tags=_BUILD_FIRST,
)
reports_job = dg.define_asset_job(
    "reports",
    selection=dg.AssetSelection.assets(fbo_reconciliation),
    description="The daily FBO reconciliations of the days asked for.",
)


@dg.op(out=dg.Out(dg.Nothing))
def warm_up(warehouse: Warehouse) -> None:
    """Import dbt and read the project while an earlier run still holds the warehouse."""
    warehouse.unlocked.dbt.parse()


@dg.op(ins={"warm": dg.In(dg.Nothing)}, out=dg.Out(dg.Nothing), pool=POOL)
def go_round(context: dg.OpExecutionContext, warehouse: Warehouse) -> None:
    """Land, build, check and publish every few seconds, until another run wants the warehouse."""
    waiting = _Waiting(context.instance)
    record_from = dict.fromkeys(NAMES, 0.0)

    def report(one: Round) -> None:
        publication = one.publication
        if publication.blocked_by:
            context.log.error("Not published: %s failed.", ", ".join(publication.blocked_by))
        for name in publication.manifests:
            # The page needs a point every half minute, not every few seconds for ever.
            if time.monotonic() >= record_from[name]:
                record_from[name] = time.monotonic() + _RECORD_EVERY_S
                metadata = {
                    **describe(publication, name),
                    "events": one.events,
                    "seconds": one.seconds,
                }
                key = dg.AssetKey(["snapshots", name])
                context.log_event(dg.AssetMaterialization(key, metadata=metadata))

    with warehouse.flow() as flow:
        stream(flow, give_way=waiting, report=report)


class _Waiting:
    """Whether another run wants the warehouse; asks Dagster's storage every few seconds.

    A run that has started waits in the pool; one that would only wait there is not even started.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._next_look = 0.0
        self._seen = False

    def __call__(self) -> bool:
        if time.monotonic() >= self._next_look:
            info = self._instance.event_log_storage.get_concurrency_info(POOL)
            self._seen = info.pending_step_count > 0 or self._is_any_queued()
            self._next_look = time.monotonic() + _LOOK_S
        return self._seen

    def _is_any_queued(self) -> bool:
        queued = self._instance.get_runs(RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]), limit=5)
        return any(run.job_name not in _NO_WAREHOUSE for run in queued)


@dg.job(
    name="stream", description="One streaming run of at most ten minutes; a sensor starts the next."
)
def stream_job() -> None:
    """Warm up without the warehouse, then go round with it."""
    go_round(warm_up())
