"""What is published: how far, and the marts themselves, read from the snapshots."""

from __future__ import annotations

from typing import Any

import duckdb

from ledger_service.contract import topics
from ledger_service.contract.snapshots import (
    NAMES,
    SnapshotName,
    part_paths,
    read_manifest,
    read_progress,
)
from ledger_service.stack import probes, servers, services
from ledger_service.stack.demo.visitor import Api, eventually
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home


def marts(home: Home, name: SnapshotName) -> duckdb.DuckDBPyConnection:
    """The newest snapshot as views in a DuckDB in memory. Errors: `nothing_published`."""
    snapshots = home / "snapshots"
    manifest = read_manifest(snapshots, name)
    if manifest is None:
        raise StackError("nothing_published", f"No snapshot {name!r} is published yet.")
    connection = duckdb.connect()
    for mart, parts in manifest.marts.items():
        if parts:
            files = ", ".join(f"'{path}'" for path in part_paths(snapshots, manifest, mart))
            connection.execute(f'create view "{mart}" as select * from read_parquet([{files}])')
    return connection


def rows(
    connection: duckdb.DuckDBPyConnection, sql: str, values: list[Any] | None = None
) -> list[dict[str, Any]]:
    """Rows of a query, as dicts."""
    cursor = connection.execute(sql, values or [])
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def content(home: Home) -> dict[str, list[str]]:
    """Content hashes of every part of every published mart: equal where the marts are equal."""
    found: dict[str, list[str]] = {}
    for name in NAMES:
        manifest = read_manifest(home / "snapshots", name)
        if manifest is not None:
            found |= {
                mart: sorted(p.content_hash for p in parts)
                for mart, parts in manifest.marts.items()
            }
    found.pop("build", None)  # when the marts were built; the marts themselves are what is compared
    return found


def heads(api: Api) -> dict[str, int]:
    """`seq` of every ledger, as the ledger says."""
    return {ledger["ledger"]: int(ledger["seq"]) for ledger in api.get("/v1/ledgers")["ledgers"]}


def stream_heads(home: Home) -> dict[str, int]:
    """`seq` of every stream beside the journals, as the relay sees them."""
    figures: dict[str, Any] = (
        probes.figures(servers.readiness_url(home, services.TABLE["relay"])) or {}
    )
    sources: dict[str, dict[str, int]] = figures.get("sources", {})
    return {
        topic.split(".")[1]: source["seq"] + source["lag"]
        for topic, source in sources.items()
        if topics.ledger_of(topic) is None
    }


def wait_until_published(home: Home, api: Api, seconds: float) -> dict[str, int]:
    """Wait until what every ledger and stream holds now is in both snapshots; gives the ledgers'
    heads.

    Errors: `not_in_time`; `publication_blocked` names the checks that failed.
    """
    ledgers = heads(api)
    wanted = {**ledgers, **stream_heads(home)}

    def there() -> bool:
        manifests = [read_manifest(home / "snapshots", name) for name in NAMES]
        return all(
            manifest is not None and manifest.as_of.get(source, 0) >= seq
            for manifest in manifests
            for source, seq in wanted.items()
        )

    try:
        eventually("Publication of what was posted", seconds, there)
    except StackError:
        # A check that fails once may only have met a service that was away: it is named at the end.
        progress = read_progress(home / "snapshots")
        if progress is None or not progress.blocked_by:
            raise
        raise StackError(
            "publication_blocked",
            f"Publication stands still, these checks failed: {', '.join(progress.blocked_by)}. "
            "See `tally logs dagster-code` and the console's data page.",
        ) from None
    return ledgers
