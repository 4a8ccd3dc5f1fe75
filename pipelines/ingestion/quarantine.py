"""Events that break the contract: set aside with a reason and where to find them, never dropped.

The bytes stay in the raw landing (or, for a record without `seq`, in the topic at its offset), so a
corrected reader can take them up again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

from pipelines.ingestion.manifest import DataFile, LandedSource, Landing


class Poison(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event that can't be used."""

    seq: int
    code: str
    """no_seq, too_large, not_json, unknown_version, unknown_type, wrong_type, wrong_source,
    wrong_seq, bad_field or unreadable."""
    reason: str
    """In words, naming the field; never its value."""
    offset: int | None = None
    """In the topic, where there is no `seq` to go by."""


class Quarantined(msgspec.Struct, frozen=True):
    """A poison with its source, as people list it."""

    source: str
    topic: str
    event: Poison


def add(
    landing: Landing, name: str, source: LandedSource, poisons: Sequence[Poison]
) -> LandedSource:
    """Write one file for `poisons` and name it in the source's part of the manifest.

    Adding the same events again after a crash writes the same file.
    """
    folder = f"quarantine/{name}"
    first, last = poisons[0].seq, poisons[-1].seq
    path = source.path(folder, first, last, "jsonl")
    if poisons[0].offset is not None:
        offsets = (poisons[0].offset, poisons[-1].offset or 0)
        path = source.path(f"{folder}/offsets", *offsets, "jsonl")
    lines = msgspec.json.Encoder().encode_lines(poisons)
    landing.add(path, lambda file: file.write_bytes(lines))
    file = DataFile(path=path, first_seq=first, last_seq=last, rows=len(poisons))
    return msgspec.structs.replace(source, quarantine=[*source.quarantine, file])


def waiting(landing: Landing, source: LandedSource) -> Iterator[Poison]:
    """The events of a source that wait in quarantine.

    Errors: `FileNotFoundError` for a file that an older version kept outside the landing.
    """
    decoder = msgspec.json.Decoder(Poison)
    for file in source.quarantine:
        if not file.path.startswith("quarantine/"):
            raise FileNotFoundError(
                f"{file.path} lies where an older version kept it: run `tally pipeline reland` "
                "for its source, which finds those events again."
            )
        yield from decoder.decode_lines(landing.local(file).read_bytes())


def listing(landing: Landing) -> Iterator[Quarantined]:
    """Every event in quarantine."""
    for name, source in sorted(landing.read().sources.items()):
        for poison in waiting(landing, source):
            yield Quarantined(source=name, topic=source.topic, event=poison)


def counts(landing: Landing) -> dict[tuple[str, str], int]:
    """Number of events in quarantine by source and code."""
    return dict(Counter((one.source, one.event.code) for one in listing(landing)))
