"""What is kept of a load: how far it is, its manifest, its quarantine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from ledger_service.contract.identifiers import looks_personal
from ledger_service.contract.snapshots import write_atomically


class Refused(msgspec.Struct, frozen=True):
    """A row that the ledger itself refused."""

    row: int
    code: str
    detail: str


class Progress(msgspec.Struct):
    """How far a load is: every row up to `row` is decided, by the ledger or by the quarantine."""

    mapping_sha256: str
    row: int = 0
    last_key: str | None = None
    """Idempotency key of the last transaction posted, by which the ledger is asked if it is so."""
    refused: list[Refused] = []


class LoadRecord:
    """The files of one load in the home."""

    def __init__(self, home: Path, name: str) -> None:
        self.manifest_path = home / "loads" / f"{name}.json"
        self.quarantine_path = home / "quarantine" / f"{name}.ndjson"
        self._progress_path = home / "loads" / f"{name}.progress.json"

    def progress(self) -> Progress | None:
        """Where the last run stopped."""
        try:
            return msgspec.json.decode(self._progress_path.read_bytes(), type=Progress)
        except FileNotFoundError:
            return None

    def save_progress(self, progress: Progress) -> None:
        """Remember durably how far the load is."""
        write_atomically(self._progress_path, msgspec.json.encode(progress))

    def save_quarantine(self, rows: list[dict[str, Any]]) -> None:
        """Replace the quarantine of this load."""
        lines = [json.dumps(_safe(row)) + "\n" for row in rows]
        write_atomically(self.quarantine_path, "".join(lines).encode())

    def save_manifest(self, manifest: dict[str, Any]) -> None:
        """Replace the manifest of this load."""
        write_atomically(self.manifest_path, (json.dumps(manifest, indent=2) + "\n").encode())


def _safe(row: dict[str, Any]) -> dict[str, Any]:
    """A quarantined row, with any text masked that could be a personal number."""
    fields = row.get("fields", {})
    # Amounts of computed sources have long fractions: digits after a point are no account number.
    masked = {
        name: "[masked]" if looks_personal(value.partition(".")[0]) else value
        for name, value in fields.items()
    }
    return {**row, "fields": masked}
