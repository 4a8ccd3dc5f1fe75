"""Events that break the contract: set aside with a reason and where to find them, never dropped.

The bytes stay in the raw landing (or, for a record without `seq`, in the topic at its offset), so a
corrected reader can take them up again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from ledger_service.contract.snapshots import write_atomically
from pipelines.ingestion.manifest import DataFile, LandedSource, LandingManifest


class Poison(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event that can't be used."""

    seq: int
    code: str
    """no_seq, not_json, unknown_version, unknown_type, wrong_source, wrong_seq, bad_field or
    unreadable."""
    reason: str
    """In words, naming the field; never its value."""
    offset: int | None = None
    """In the topic, where there is no `seq` to go by."""


class Quarantined(msgspec.Struct, frozen=True):
    """A poison with its source, as people list it."""

    source: str
    topic: str
    event: Poison


def add(folder: Path, name: str, source: LandedSource, poisons: Sequence[Poison]) -> LandedSource:
    """Write one file for `poisons` and name it in the source's part of the manifest.

    Adding the same events again after a crash writes the same file.
    """
    first, last = poisons[0], poisons[-1]
    stem = f"{first.seq:012d}-{last.seq:012d}"
    if first.offset is not None:
        stem = f"offset-{first.offset:012d}-{last.offset:012d}"
    path = f"{name}/{stem}.jsonl"
    write_atomically(folder / path, msgspec.json.Encoder().encode_lines(poisons))
    file = DataFile(path=path, first_seq=first.seq, last_seq=last.seq, rows=len(poisons))
    return msgspec.structs.replace(source, quarantine=[*source.quarantine, file])


def listing(folder: Path, manifest: LandingManifest) -> Iterator[Quarantined]:
    """Every event in quarantine."""
    decoder = msgspec.json.Decoder(Poison)
    for name, source in sorted(manifest.sources.items()):
        for file in source.quarantine:
            for poison in decoder.decode_lines((folder / file.path).read_bytes()):
                yield Quarantined(source=name, topic=source.topic, event=poison)
