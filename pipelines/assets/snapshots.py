"""The published snapshots as assets, downstream of every mart and every blocking check."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ledger_service.contract.snapshots import SnapshotName
from pipelines.assets.marts import dbt_models
from pipelines.checks import expectations
from pipelines.flow import Publication, merge
from pipelines.resources import NIGHTLY, OWNER, POOL, Warehouse

GROUP = "publication"
GENERAL = dg.AssetKey(["snapshots", "general"])
RESTRICTED = dg.AssetKey(["snapshots", "restricted"])
_PLOTTED = frozenset({"freshness", "volume", "quarantine_empty"})
_MARTS = [key for key in sorted(dbt_models.keys) if key.path[0] == "marts"]
_DESCRIPTIONS = {
    GENERAL: "Marts for analysts, reports and pages: immutable parts, one pointer.",
    RESTRICTED: "Marts that only compliance may see.",
}


def describe(publication: Publication, name: SnapshotName) -> dict[str, Any]:
    """Metadata of a published snapshot: version and positions; of the general one its figures, too.

    Everybody who sees Dagster's pages sees this, so nothing is counted in the restricted one.
    """
    manifest = publication.manifests[name]
    positions = {f"seq of {source}": seq for source, seq in manifest.as_of.items()}
    shown = {"version": manifest.version, **positions}
    if name == "general":
        shown["dagster/row_count"] = sum(p.rows for parts in manifest.marts.values() for p in parts)
        for outcome in publication.outcomes:
            if outcome.check.name in _PLOTTED:
                shown |= outcome.figures
    return shown


def rows_of_marts(publication: Publication) -> Iterator[dg.AssetObservation]:
    """How many rows each mart of the general snapshot has; the manifest knows, nothing is counted."""
    for mart, parts in publication.manifests["general"].marts.items():
        rows = sum(part.rows for part in parts)
        yield dg.AssetObservation(
            dg.AssetKey(["marts", mart]), metadata={"dagster/row_count": rows}
        )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            key,
            deps=_MARTS,
            group_name=GROUP,
            kinds={"parquet"},
            owners=[OWNER],
            description=description,
            freshness_policy=NIGHTLY,
        )
        for key, description in _DESCRIPTIONS.items()
    ],
    pool=POOL,
)
def published_snapshots(
    context: dg.AssetExecutionContext, warehouse: Warehouse
) -> Iterator[dg.MaterializeResult]:
    """Publish, after the checks of this run and once more those that cost little."""
    with warehouse.flow() as flow:
        evaluated = expectations.read_results(flow.places.warehouse / "frames")
        publication = flow.publish(merge(evaluated, flow.light_checks()))
    if publication.blocked_by:
        raise dg.Failure(
            description=f"Not published: {', '.join(publication.blocked_by)} failed. The last "
            "snapshot stays; progress.json says so."
        )
    for observation in rows_of_marts(publication):
        context.log_event(observation)
    for name in publication.manifests:
        key = dg.AssetKey(["snapshots", name])
        yield dg.MaterializeResult(asset_key=key, metadata=describe(publication, name))
