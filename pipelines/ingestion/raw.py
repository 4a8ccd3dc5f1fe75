"""The raw landing: records as they are, in large batches, to Parquet named by `seq` range.

A file is put under its name whole; then the manifest names it. A crash in between leaves a file
that no manifest names: the same events land again as the same file, or it is removed. A gap in
`seq` refuses to land: whatever comes behind it would look complete and not be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Message

from ledger_service.contract import failpoints, topics
from pipelines.ingestion import quarantine
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing, LandingManifest
from pipelines.ingestion.topic_reader import TopicReader, source_of

BATCH_RECORDS = 200_000
SCHEMA = pa.schema(
    [("seq", pa.int64()), ("type", pa.string()), ("time", pa.string()), ("bytes", pa.binary())]
)


@dataclasses.dataclass
class Step:
    """What one landing step did."""

    landed: dict[str, int] = dataclasses.field(default_factory=dict)
    """Number of new events by source."""
    refused: dict[str, str] = dataclasses.field(default_factory=dict)
    """Sources that stand still, and why."""

    @property
    def events(self) -> int:
        """Number of new events."""
        return sum(self.landed.values())


@dataclasses.dataclass
class _Batch:
    seqs: list[int] = dataclasses.field(default_factory=list)
    types: list[str] = dataclasses.field(default_factory=list)
    times: list[str] = dataclasses.field(default_factory=list)
    contents: list[bytes] = dataclasses.field(default_factory=list)
    foreign: list[quarantine.Poison] = dataclasses.field(default_factory=list)
    next_offset: int = 0
    gap: str | None = None


def land(
    landing: Landing,
    reader: TopicReader,
    *,
    seconds: float = 0.2,
    limit: int = BATCH_RECORDS,
) -> Step:
    """Land what is new in every topic.

    Errors: `KafkaException` where the brokers can't be read, `LandingTakenError` where another
    process lands; then nothing has landed in part.
    """
    found = reader.discover()
    before = landing.read()
    manifest = _with_topics(before, found)
    reader.follow([source for source in manifest.sources.values() if source.topic in found])
    try:
        step, manifest = _land_what_is_new(landing, manifest, reader, seconds=seconds, limit=limit)
        if manifest != before:
            failpoints.reach("raw.before_commit")
            landing.commit(manifest)
            failpoints.reach("raw.after_commit")
    except BaseException:
        # The reader is past records that did not land: it must begin again from the manifest.
        reader.leave_all()
        raise
    return step


def _land_what_is_new(
    landing: Landing,
    manifest: LandingManifest,
    reader: TopicReader,
    *,
    seconds: float,
    limit: int,
) -> tuple[Step, LandingManifest]:
    step = Step(refused=_lost(manifest, reader))
    for topic, records in reader.read(limit, seconds).items():
        name = source_of(topic)
        if name is None:
            continue
        source = manifest.sources[name]
        batch = _sort_out(name, source, records)
        source = msgspec.structs.replace(
            source, next_offset=batch.next_offset or source.next_offset
        )
        if batch.seqs:
            file = _write(landing, name, source, batch)
            source = msgspec.structs.replace(source, seq=file.last_seq, raw=[*source.raw, file])
            step.landed[name] = file.rows
        if batch.foreign:
            source = quarantine.add(landing, name, source, batch.foreign)
        if batch.gap:
            step.refused[name] = batch.gap
            reader.leave(topic)
        manifest = manifest.with_source(name, source)
    return step, manifest


def _lost(manifest: LandingManifest, reader: TopicReader) -> dict[str, str]:
    return {
        name: f"topic {source.topic} is gone: publish it anew from the journal"
        for name, source in manifest.sources.items()
        if not reader.follows(source.topic)
    }


def _with_topics(manifest: LandingManifest, found: dict[str, str]) -> LandingManifest:
    """The manifest with every topic of the cluster; a topic with a new id is sought by `seq`."""
    for topic, topic_id in sorted(found.items()):
        name = source_of(topic)
        if name is None:
            continue
        source = manifest.sources.get(name)
        if source is None:
            manifest = manifest.with_source(name, LandedSource(topic=topic, topic_id=topic_id))
        elif source.topic_id != topic_id:
            again = msgspec.structs.replace(source, topic_id=topic_id, next_offset=0)
            manifest = manifest.with_source(name, again)
    return manifest


def _sort_out(name: str, source: LandedSource, records: Sequence[Message]) -> _Batch:
    """Skip repeats, keep what continues the sequence, stop at a gap."""
    batch = _Batch()
    expected = source.seq + 1
    may_skip = name in topics.COMPACTED_STREAMS
    for record in records:
        headers = dict(record.headers() or ())
        seq = topics.seq_of(headers)
        content = record.value() or b""
        offset = record.offset() or 0
        if seq is None:
            reason = "the record has no ts_seq header: the relay did not write it"
            batch.foreign.append(quarantine.Poison(0, "no_seq", reason, offset=offset))
        elif seq >= expected:
            if seq > expected and not may_skip:
                batch.gap = f"seq {expected} is missing in {source.topic}: the next there is {seq}"
                break
            batch.seqs.append(seq)
            batch.types.append(_text(headers.get("ce_type")))
            batch.times.append(_text(headers.get("ce_time")))
            batch.contents.append(content)
            expected = seq + 1
        batch.next_offset = offset + 1
    return batch


def _text(header: object) -> str:
    return header.decode("utf-8", "replace") if isinstance(header, bytes) else ""


def _write(landing: Landing, name: str, source: LandedSource, batch: _Batch) -> DataFile:
    first, last = batch.seqs[0], batch.seqs[-1]
    path = source.path(f"raw/{name}", first, last)
    table = pa.table([batch.seqs, batch.types, batch.times, batch.contents], schema=SCHEMA)
    landing.add(path, lambda file: pq.write_table(table, file, compression="zstd"))
    return DataFile(path=path, first_seq=first, last_seq=last, rows=len(batch.seqs))
