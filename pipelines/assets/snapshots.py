"""The published snapshots as assets, downstream of every mart and every blocking check."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg

from ledger_service.contract.snapshots import Manifest
from pipelines.assets.marts import dbt_models
from pipelines.checks import expectations
from pipelines.flow import merge
from pipelines.resources import OWNER, POOL, Warehouse

GROUP = "publication"
GENERAL = dg.AssetKey(["snapshots", "general"])
RESTRICTED = dg.AssetKey(["snapshots", "restricted"])
_MARTS = [key for key in sorted(dbt_models.keys) if key.path[0] == "marts"]
_DESCRIPTIONS = {
    GENERAL: "Marts for analysts, reports and pages: immutable parts, one pointer.",
    RESTRICTED: "Marts that only compliance may see.",
}


def describe(manifest: Manifest) -> dict[str, Any]:
    """Metadata of a published snapshot: version, positions, rows where nothing is restricted."""
    positions = {f"seq of {name}": seq for name, seq in manifest.as_of.items()}
    rows = sum(part.rows for parts in manifest.marts.values() for part in parts)
    counted = {"dagster/row_count": rows} if manifest.name == "general" else {}
    return {"version": manifest.version, **counted, **positions}


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            key,
            deps=_MARTS,
            group_name=GROUP,
            kinds={"parquet"},
            owners=[OWNER],
            description=description,
        )
        for key, description in _DESCRIPTIONS.items()
    ],
    pool=POOL,
)
def published_snapshots(warehouse: Warehouse) -> Iterator[dg.MaterializeResult]:
    """Publish, after the checks of this run and once more those that cost little."""
    with warehouse.flow() as flow:
        evaluated = expectations.read_results(flow.places.warehouse / "frames")
        publication = flow.publish(merge(evaluated, flow.light_checks()))
    if publication.blocked_by:
        raise dg.Failure(
            description=f"Not published: {', '.join(publication.blocked_by)} failed. The last "
            "snapshot stays; progress.json says so."
        )
    for name, manifest in publication.manifests.items():
        key = dg.AssetKey(["snapshots", name])
        yield dg.MaterializeResult(asset_key=key, metadata=describe(manifest))
