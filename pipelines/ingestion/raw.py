"""The raw landing: records as they are, in large batches, to Parquet named by `seq` range.

A file is put under its name whole; then the manifest names it. A crash in between leaves a file
that no manifest names: the same events land again as the same file, or it is removed. A gap in
`seq` refuses to land: whatever comes behind it would look complete and not be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
from collections.abc import Iterator, Sequence

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
    """What one step lands of one source."""

    topic: str
    expected: int
    """`seq` of the next event."""
    may_skip: bool
    """Whether older versions of a subject may have been removed before it."""
    seqs: list[int] = dataclasses.field(default_factory=list)
    types: list[bytes] = dataclasses.field(default_factory=list)
    times: list[bytes] = dataclasses.field(default_factory=list)
    contents: list[bytes] = dataclasses.field(default_factory=list)
    foreign: list[quarantine.Poison] = dataclasses.field(default_factory=list)
    next_offset: int = 0
    """0 before the first record."""
    gap: str | None = None

    def take(self, records: Sequence[Message]) -> None:
        """Skip repeats, keep what continues the sequence, stop at a gap for good."""
        if self.gap:
            return
        for record in records:
            headers = record.headers() or ()
            seq, kind, time = topics.stated(headers)  # type: ignore[arg-type] - a list, once it is read
            if seq is None:
                reason = "the record has no ts_seq header: the relay did not write it"
                at = record.offset() or 0
                self.foreign.append(quarantine.Poison(0, "no_seq", reason, offset=at))
            elif seq >= self.expected:
                if seq > self.expected and not self.may_skip:
                    self.gap = (
                        f"seq {self.expected} is missing in {self.topic}: the next there is {seq}"
                    )
                    self.next_offset = record.offset() or 0
                    return
                self.seqs.append(seq)
                self.types.append(kind)
                self.times.append(time)
                self.contents.append(record.value() or b"")
                self.expected = seq + 1
        self.next_offset = (records[-1].offset() or 0) + 1


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
    batches: dict[str, _Batch] = {}
    with _no_collection():
        for page in reader.read(limit, seconds):
            for topic, records in page.items():
                name = source_of(topic)
                if name is None:
                    continue
                if name not in batches:
                    seq = manifest.sources[name].seq
                    batches[name] = _Batch(topic, seq + 1, name in topics.COMPACTED_STREAMS)
                batches[name].take(records)
    for name, batch in batches.items():
        source = msgspec.structs.replace(manifest.sources[name], next_offset=batch.next_offset)
        if batch.seqs:
            file = _write(landing, name, source, batch)
            source = msgspec.structs.replace(source, seq=file.last_seq, raw=[*source.raw, file])
            step.landed[name] = file.rows
        if batch.foreign:
            source = quarantine.add(landing, name, source, batch.foreign)
        if batch.gap:
            step.refused[name] = batch.gap
            reader.leave(batch.topic)
        manifest = manifest.with_source(name, source)
    return step, manifest


@contextlib.contextmanager
def _no_collection() -> Iterator[None]:
    """Records and their headers are in no cycles: to look for some takes longer than to read them."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


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


def _write(landing: Landing, name: str, source: LandedSource, batch: _Batch) -> DataFile:
    first, last = batch.seqs[0], batch.seqs[-1]
    path = source.path(f"raw/{name}", first, last)
    columns = [batch.seqs, _texts(batch.types), _texts(batch.times), batch.contents]
    table = pa.table(columns, schema=SCHEMA)
    landing.add(path, lambda file: pq.write_table(table, file, compression="zstd"))
    return DataFile(path=path, first_seq=first, last_seq=last, rows=len(batch.seqs))


def _texts(headers: list[bytes]) -> pa.Array:
    """Headers as text, all in one go; what is no UTF-8, which the relay never writes, in its place."""
    try:
        return pa.array(headers, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([header.decode("utf-8", "replace") for header in headers], pa.string())
