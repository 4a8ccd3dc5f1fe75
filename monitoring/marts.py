"""The published marts, read with DuckDB in memory over the Parquet parts that a manifest names."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from ledger_service.contract.snapshots import Manifest, SnapshotName, part_paths, read_manifest

Row = dict[str, Any]


class NotPublished(LookupError):
    """There is no snapshot yet, or it does not hold this mart."""


class Published:
    """One snapshot, opened: a view for each of its marts. Safe for threads; cheap to keep."""

    def __init__(self, snapshots: Path, manifest: Manifest) -> None:
        self.manifest = manifest
        self._connection = duckdb.connect(
            ":memory:", config={"threads": 2, "memory_limit": "512MB"}
        )
        self._connection.execute("set timezone = 'UTC'")
        for mart, parts in manifest.marts.items():
            if parts:
                paths = [str(path) for path in part_paths(snapshots, manifest, mart)]
                files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
                self._connection.execute(
                    f'create view "{mart}" as select * from read_parquet([{files}])'
                )

    def rows(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> list[Row]:
        """Rows as dicts. Errors: `NotPublished` where `sql` names a mart that is not there."""
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, values)
        except duckdb.CatalogException as error:
            raise NotPublished(
                f"snapshot {self.manifest.name} {self.manifest.version}: {error}"
            ) from None
        names = [column[0] for column in cursor.description or []]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def row(self, sql: str, values: Sequence[Any] | dict[str, Any] = ()) -> Row | None:
        """The first row, or None."""
        rows = self.rows(sql, values)
        return rows[0] if rows else None


class Marts:
    """The newest snapshot of each name, opened once a version."""

    def __init__(self, snapshots: Path) -> None:
        self.folder = snapshots
        self._open: dict[str, Published] = {}
        self._lock = threading.Lock()

    def current(self, name: SnapshotName) -> Published:
        """The newest published snapshot. Errors: `NotPublished`."""
        manifest = read_manifest(self.folder, name)
        if manifest is None:
            raise NotPublished(f"nothing is published in snapshot {name} yet")
        with self._lock:
            held = self._open.get(name)
            if held is None or held.manifest != manifest:
                # Readers of the one before keep it as long as they need it.
                held = self._open[name] = Published(self.folder, manifest)
            return held
