"""Where the pipelines keep their files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ledger_service.contract import environment


@dataclasses.dataclass(frozen=True)
class Places:
    """Absolute directories; they may not exist yet. Landing and archive may be object storage."""

    landing: str
    archive: str
    """Empty where there is none."""
    cache: Path
    """Of what was read from object storage."""
    warehouse: Path
    snapshots: Path
    reports: Path

    @classmethod
    def from_settings(cls) -> Places:
        """What the environment names, else folders in the home."""
        archive = environment.read("TALLYSTICK_LANDING_ARCHIVE")
        return cls(
            landing=environment.place("TALLYSTICK_LANDING", "landing"),
            archive=archive and environment.place("TALLYSTICK_LANDING_ARCHIVE", ""),
            cache=environment.home() / "cache",
            warehouse=environment.directory("TALLYSTICK_WAREHOUSE", "warehouse"),
            snapshots=environment.directory("TALLYSTICK_SNAPSHOTS", "snapshots"),
            reports=environment.directory("TALLYSTICK_REPORTS", "reports"),
        )

    @property
    def warehouse_file(self) -> Path:
        """The one DuckDB file; only the holder of the warehouse's lock may open it."""
        return self.warehouse / "tallystick.duckdb"
