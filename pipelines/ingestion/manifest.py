"""The landing's manifest: which files exist, and so how far each source has landed.

Readers never list a folder: a file that the manifest does not name is not there, whether a crash
left it behind or a compaction replaced it. The manifest is replaced by one atomic rename, and only
the holder of the warehouse's lock writes it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from ledger_service.contract.snapshots import write_atomically

MANIFEST = "manifest.json"


class DataFile(msgspec.Struct, frozen=True):
    """One immutable file and the events it covers."""

    path: str
    """Relative to the landing (or to the quarantine's folder)."""
    first_seq: int
    last_seq: int
    rows: int


class LandedSource(msgspec.Struct, frozen=True):
    """How far a ledger or stream has landed; `seq` is the position, the offset only a hint."""

    topic: str
    topic_id: str
    """Offsets mean nothing in a topic with another id: there the reader seeks by `seq`."""
    next_offset: int = 0
    seq: int = 0
    """Everything up to here is in the raw landing."""
    typed_seq: int = 0
    """Everything up to here is in the typed landing or in quarantine."""
    raw: list[DataFile] = []
    typed: dict[str, list[DataFile]] = {}
    quarantine: list[DataFile] = []


class LandingManifest(msgspec.Struct, frozen=True):
    """All sources by name."""

    version: int = 0
    sources: dict[str, LandedSource] = {}

    def with_source(self, name: str, source: LandedSource) -> LandingManifest:
        """A copy with one source replaced or added."""
        return msgspec.structs.replace(self, sources={**self.sources, name: source})

    @property
    def landed(self) -> dict[str, int]:
        """`seq` per source up to which events have landed."""
        return {name: source.seq for name, source in self.sources.items()}

    @property
    def quarantined(self) -> int:
        """Number of events that wait in quarantine."""
        return sum(file.rows for source in self.sources.values() for file in source.quarantine)

    def typed_files(self, table: str) -> list[DataFile]:
        """The files of one typed table, over all sources."""
        return [f for source in self.sources.values() for f in source.typed.get(table, [])]


class Landing:
    """The landing on a local disk."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self) -> LandingManifest:
        """The current manifest; an empty one before the first landing."""
        try:
            content = (self.root / MANIFEST).read_bytes()
        except FileNotFoundError:
            return LandingManifest()
        return msgspec.json.decode(content, type=LandingManifest)

    def commit(self, manifest: LandingManifest) -> LandingManifest:
        """Make `manifest` the current one, under the next version; gives it back."""
        numbered = msgspec.structs.replace(manifest, version=manifest.version + 1)
        write_atomically(self.root / MANIFEST, msgspec.json.encode(numbered))
        return numbered

    def sweep(self) -> int:
        """Remove files that the manifest does not name; gives their number.

        Only for the lock's holder, and only after readers in this process use the new manifest.
        """
        named = {self.root / file.path for file in _all_files(self.read().sources.values())}
        left = [
            p for kind in ("raw", "typed") for p in (self.root / kind).rglob("*") if p.is_file()
        ]
        stray = [path for path in left if path not in named]
        for path in stray:
            path.unlink()
        return len(stray)


def _all_files(sources: Iterable[LandedSource]) -> Iterable[DataFile]:
    for source in sources:
        yield from source.raw
        for files in source.typed.values():
            yield from files
