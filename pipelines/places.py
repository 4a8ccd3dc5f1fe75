"""Where the pipelines keep their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ledger_service.contract import environment


@dataclasses.dataclass(frozen=True)
class Places:
    """Absolute directories; they may not exist yet."""

    landing: Path
    quarantine: Path
    warehouse: Path
    snapshots: Path
    reports: Path

    @classmethod
    def from_settings(cls) -> Places:
        """What the environment names, else folders in the home."""
        return cls(
            landing=environment.directory("TALLYSTICK_LANDING", "landing"),
            quarantine=environment.home() / "quarantine",
            warehouse=environment.directory("TALLYSTICK_WAREHOUSE", "warehouse"),
            snapshots=environment.directory("TALLYSTICK_SNAPSHOTS", "snapshots"),
            reports=environment.directory("TALLYSTICK_REPORTS", "reports"),
        )

    @property
    def warehouse_file(self) -> Path:
        """The one DuckDB file; only the holder of the warehouse's lock may open it."""
        return self.warehouse / "tallystick.duckdb"
