"""A reader that opens what is published, again and again, while everything is killed around it."""

from __future__ import annotations

import time
from pathlib import Path

from ledger_service.contract.snapshots import (
    NAMES,
    Manifest,
    NotPublishedError,
    SnapshotName,
    held,
    read_manifest,
)
from pipelines.publication import reading, snapshot
from tests.soak.beside import Beside

PAUSE_S = 0.1
AGAIN_S = 10.0
"""After so long the parts of a snapshot that is known to be whole are read once more."""


class SnapshotWatcher(Beside):
    """Finds every snapshot whole, never behind one that it saw, `general` not behind `restricted`."""

    def __init__(self, snapshots: Path) -> None:
        super().__init__(PAUSE_S)
        self.looks = 0
        self.versions = 0
        """Different snapshots that were read in full."""
        self._snapshots = snapshots
        self._seen: dict[str, Manifest] = {}
        self._read_at: dict[str, float] = {}

    def step(self) -> None:
        """Look at both."""
        restricted = read_manifest(self._snapshots, "restricted")
        general = read_manifest(self._snapshots, "general")
        self.looks += 1
        if restricted and (general is None or _behind(general.as_of, restricted.as_of)):
            self.wrong(f"general is behind restricted {restricted.version}")
        for name in NAMES:
            self._open(name)

    def _open(self, name: SnapshotName) -> None:
        before = self._seen.get(name)
        try:
            with held(self._snapshots, name) as manifest:
                if before is not None and (
                    manifest.version < before.version or _behind(manifest.as_of, before.as_of)
                ):
                    self.wrong(
                        f"{name} went back from {before.version}, {before.as_of} "
                        f"to {manifest.version}, {manifest.as_of}"
                    )
                self._read(name, manifest)
        except NotPublishedError:
            if before is not None:
                self.wrong(f"{name} {before.version} was published, and now nothing is")

    def _read(self, name: SnapshotName, manifest: Manifest) -> None:
        known = self._seen.get(name)
        is_new = known is None or known.version != manifest.version
        if not is_new and time.monotonic() < self._read_at[name] + AGAIN_S:
            return
        snapshot.verify(self._snapshots, manifest)
        if "build" in manifest.marts:
            with reading.opened(self._snapshots, name, manifest.version) as reader:
                rows = reader.query("select ledger_or_stream, as_of_seq from build").rows
                if dict(rows) != manifest.as_of:
                    self.wrong(f"{name} {manifest.version}: manifest and mart `build` differ")
        self.versions += is_new
        self._seen[name] = manifest
        self._read_at[name] = time.monotonic()


def _behind(one: dict[str, int], other: dict[str, int]) -> bool:
    """Whether `one` has less of anything than `other`."""
    return any(one.get(source, 0) < seq for source, seq in other.items())
