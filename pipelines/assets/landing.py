"""The landing as assets: raw, and the eight typed tables that dbt reads."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from ledger_service.contract import topics
from pipelines.ingestion import quarantine
from pipelines.ingestion.tables import TABLES
from pipelines.resources import NIGHTLY, OWNER, POOL, RETRY, Warehouse

GROUP = "landing"
RAW = dg.AssetKey(["landing", "raw"])
TOPICS = dg.AssetSpec(
    dg.AssetKey(["kafka", "topics"]),
    description="Journals and streams in Kafka, published by the relay.",
    group_name="kafka",
    kinds={"kafka"},
    owners=[OWNER],
)


@dg.asset(
    key=RAW,
    deps=[TOPICS],
    pool=POOL,
    group_name=GROUP,
    kinds={"python", "parquet"},
    owners=[OWNER],
    freshness_policy=NIGHTLY,
    retry_policy=RETRY,
    description="Every record as it came, in Parquet named by seq range; the files are the position.",
)
def raw_landing(warehouse: Warehouse) -> dg.MaterializeResult:
    """Land until nothing is new."""
    with warehouse.flow() as flow:
        flow.recover()
        landed = 0
        while step := flow.land(seconds=2.0).events:
            landed += step
        manifest = flow.landing.read()
    positions = {f"seq of {name}": seq for name, seq in manifest.landed.items()}
    behind = {
        f"events that {name} is behind": max(flow.api.posted_seq(name) - seq, 0)
        for name, seq in manifest.landed.items()
        if name not in topics.STREAMS
    }
    return dg.MaterializeResult(metadata={"dagster/row_count": landed, **positions, **behind})


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            dg.AssetKey(["landing", table.name]),
            deps=[RAW],
            group_name=GROUP,
            kinds={"duckdb", "parquet"},
            owners=[OWNER],
            freshness_policy=NIGHTLY,
            description=f"Typed landing: {table.name}, parsed and validated.",
        )
        for table in TABLES
    ],
    pool=POOL,
    retry_policy=RETRY,
)
def typed_landing(warehouse: Warehouse) -> Iterator[dg.MaterializeResult]:
    """Convert what has landed; what breaks the contract goes to quarantine."""
    with warehouse.flow() as flow:
        flow.convert()
        manifest = flow.landing.read()
        waiting = {
            f"quarantined: {code} of {source}": count
            for (source, code), count in sorted(quarantine.counts(flow.landing).items())
        }
    for table in TABLES:
        files = manifest.typed_files(table.name)
        yield dg.MaterializeResult(
            asset_key=dg.AssetKey(["landing", table.name]),
            metadata={
                "dagster/row_count": sum(file.rows for file in files),
                "files": len(files),
                "quarantined": manifest.quarantined,
                **waiting,
            },
        )
