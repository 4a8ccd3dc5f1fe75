"""The stream broken on purpose, in the relay's or the pipeline's own process: all must be found.

Never imported by the product. Each names the places at which a kill makes it do its harm.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec

from ledger_service.engine.relay import Publisher
from ledger_service.engine.sources import read_heads
from pipelines.ingestion import raw
from pipelines.ingestion.manifest import Landing
from pipelines.publication import parts, snapshot
from pipelines.warehouse import database


def begin_at_the_end(_: Any = None) -> None:
    """The relay takes for published what was under way when it died."""
    read_back = Publisher._position_in_kafka

    def position(self, connection):
        last = read_back(self, connection)
        return read_heads(connection)[self.source] if last else last

    Publisher._position_in_kafka = position


def remember_the_position(_: Any = None) -> None:
    """The relay goes on from what it has noted, which is written some time after the commit."""

    def position(self, connection):
        found = connection.execute(
            "select seq from stream.relay_position where topic = %s", [self.source.topic]
        ).fetchone()
        return found[0] if found else 0

    Publisher._position_in_kafka = position


def land_by_offset(_: Any = None) -> None:
    """Files and offset are two commits of the manifest, and nobody looks at `seq`."""
    land, take = raw._land_what_is_new, raw._Batch.take

    def files_then_offsets(landing, manifest, reader, **how):
        step, after = land(landing, manifest, reader, **how)
        without = {
            name: msgspec.structs.replace(source, next_offset=manifest.sources[name].next_offset)
            for name, source in after.sources.items()
        }
        committed = landing.commit(msgspec.structs.replace(after, sources=without))
        return step, msgspec.structs.replace(after, version=committed.version)

    def whatever_comes(batch, records):
        batch.expected = raw.topics.stated(records[0].headers() or ())[0] or 1
        take(batch, records)

    raw._land_what_is_new, raw._Batch.take = files_then_offsets, whatever_comes


def name_files_late(_: Any = None) -> None:
    """The manifest names files before they have their names."""
    add, commit = Landing.add, Landing.commit
    waiting: list[tuple[Any, ...]] = []

    def add_later(self, path, write):
        draft = self._store.draft(path)
        write(draft)
        waiting.append((self, path, draft.replace))

    def commit_first(self, manifest):
        committed = commit(self, manifest)
        while waiting:
            add(*waiting.pop())
        return committed

    Landing.add, Landing.commit = add_later, commit_first


def move_the_watermark_first(flow: Any) -> None:
    """A mart says that it holds what dbt is only about to bring."""
    run = flow.dbt.run

    def moved_and_run(**how):
        with database.opened(flow.places.warehouse_file) as connection:
            tables = connection.execute("select table_name from duckdb_tables()").fetchall()
            if ("entries",) in tables:
                connection.execute(
                    "update marts.entries set last_seq = (select max(seq) from landing.entries) "
                    "where seq = (select max(seq) from marts.entries)"
                )
        run(**how)

    flow.dbt.run = moved_and_run


def switch_before_parts(_: Any = None) -> None:
    """The pointer names parts that are yet to be written."""
    write, switch = parts._write, snapshot._switch
    waiting: list[tuple[Any, ...]] = []

    def switch_and_write(folder, manifest):
        switch(folder, manifest)
        while waiting:
            write(*waiting.pop())

    parts._write = lambda *arguments: waiting.append(arguments)
    snapshot._switch = switch_and_write


def write_parts_in_place(_: Any = None) -> None:
    """A part keeps its name when its rows change."""
    write = parts.write_parts

    def in_place(connection, mart, folder, known):
        kept = []
        for number, part in enumerate(write(connection, mart, folder, known)):
            path = f"parts/{mart.name}-{number}.parquet"
            (folder / path).write_bytes((folder / part.path).read_bytes())
            kept.append(msgspec.structs.replace(part, path=path))
        return kept

    snapshot.write_parts = in_place


@dataclasses.dataclass(frozen=True)
class Sabotage:
    """What is broken in which service, and the places where kills show it."""

    carry_out: Callable[[Any], None]
    service: str
    points: tuple[str, ...]


ALL: dict[str, Sabotage] = {
    one.carry_out.__name__: one
    for one in (
        Sabotage(begin_at_the_end, "relay", ("relay.before_send", "relay.before_commit")),
        Sabotage(remember_the_position, "relay", ("relay.after_commit",)),
        Sabotage(land_by_offset, "pipeline", ("raw.before_commit",)),
        Sabotage(name_files_late, "pipeline", ("typed.before_write", "raw.before_write")),
        Sabotage(move_the_watermark_first, "pipeline", ("dbt.after_run",)),
        Sabotage(switch_before_parts, "pipeline", ("part.before_write",)),
        Sabotage(write_parts_in_place, "pipeline", ("snapshot.before_pointer",)),
    )
}


def commit(name: str, flow: Any = None) -> None:
    """Carry out the sabotage of this name; none for an empty one."""
    if name:
        ALL[name].carry_out(flow)
