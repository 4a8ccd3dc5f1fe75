"""From raw to typed landing: DuckDB reads the JSON, dbt reads the result.

Each event either becomes rows or goes to quarantine with a reason; nothing in between. Both happen
in one commit of the manifest, so that running again after a crash gives the same files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import duckdb
import msgspec

from ledger_service.contract.events import event_type
from ledger_service.contract.schemas import JOURNAL_EVENTS, STREAM_EVENTS, EventType
from pipelines.ingestion import quarantine, shapes
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing
from pipelines.ingestion.quarantine import Poison
from pipelines.ingestion.tables import TABLES, Table

CHUNK_EVENTS = 250_000
"""Events that are converted at once: bounded memory, and files worth their opening."""


class Converter:
    """Converts landed events; holds one DuckDB in memory."""

    def __init__(self, landing: Landing, quarantine_folder: Path) -> None:
        self._landing = landing
        self._quarantine = quarantine_folder
        self._duckdb = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "2GB"})

    def close(self) -> None:
        """Free the memory."""
        self._duckdb.close()

    def convert(self) -> int:
        """Convert whatever has landed and is not typed yet; gives the number of events."""
        manifest = self._landing.read()
        events = 0
        for name, source in manifest.sources.items():
            for first, last in _chunks(source):
                source = self._convert_chunk(name, source, first, last)  # noqa: PLW2901
                events += last - first + 1
                manifest = self._landing.commit(manifest.with_source(name, source))
        return events

    def _convert_chunk(
        self, name: str, source: LandedSource, first: int, last: int
    ) -> LandedSource:
        poisons: list[Poison] = []
        typed = dict(source.typed)
        for start, end in self._readable_ranges(name, source, first, last, poisons):
            for table, file in self._write_tables(name, start, end):
                typed[table] = [*typed.get(table, []), file]
        if poisons:
            poisons.sort(key=lambda poison: poison.seq)
            source = quarantine.add(self._quarantine, name, source, poisons)
        return msgspec.structs.replace(source, typed=typed, typed_seq=last)

    def _readable_ranges(
        self, name: str, source: LandedSource, first: int, last: int, poisons: list[Poison]
    ) -> Iterator[tuple[int, int]]:
        """Ranges whose good events stand in `parsed_*`; what is wrong is added to `poisons`.

        Validation finds what is wrong by looking. Should the reader itself fail on an event all
        the same, halving the range finds that one, and the rest goes on without it.
        """
        try:
            found = self._parse(name, source, first, last)
        except duckdb.Error as failure:
            if first == last:
                kind = type(failure).__name__
                poisons.append(Poison(first, "unreadable", f"the reader fails on it: {kind}"))
                return
            middle = (first + last) // 2
            yield from self._readable_ranges(name, source, first, middle, poisons)
            yield from self._readable_ranges(name, source, middle + 1, last, poisons)
            return
        poisons += found
        yield first, last

    def _parse(self, name: str, source: LandedSource, first: int, last: int) -> list[Poison]:
        """Fill a table `parsed_N` per event type N with the good events; gives the bad ones."""
        files = [
            str(self._landing.root / file.path)
            for file in source.raw
            if file.last_seq >= first and file.first_seq <= last
        ]
        is_stream = name in STREAM_EVENTS
        events = STREAM_EVENTS.get(name, JOURNAL_EVENTS)
        self._duckdb.execute(
            "create or replace temp table raw as "
            "select seq, type, try(decode(bytes)) as doc from read_parquet($files) "
            "where seq between $first and $last order by seq",
            {"files": files, "first": first, "last": last},
        )
        self._duckdb.execute("create or replace temp table wrong (seq bigint, words varchar)")
        known = ", ".join(f"'{_header(event)}'" for event in events)
        self._duckdb.execute(
            "insert into wrong select seq, case when doc is null or not json_valid(doc) "
            "then 'not_json: the bytes' else 'unknown_type: type' end "
            f"from raw where doc is null or not json_valid(doc) or type not in ({known})"
        )
        for number, event in enumerate(events):
            self._parse_type(number, event, name, "stream" if is_stream else "ledger")
        rows = self._duckdb.execute("select seq, words from wrong order by seq").fetchall()
        return [Poison(seq, *words.split(": ", 1)) for seq, words in rows]

    def _parse_type(self, number: int, event: EventType, name: str, source_field: str) -> None:
        paths = ", ".join(f"'{field.json_path}'" for field in shapes.single_paths(event))
        self._duckdb.execute(
            f"create or replace temp table looked_at as "
            f"select seq, doc, kinds, {shapes.type_violation(event)} as words from ("
            f"  select seq, doc, json_type(doc, [{paths}]) as kinds from raw"
            f"  where type = '{_header(event)}' and seq not in (select seq from wrong)) "
            "order by seq"
        )
        self._duckdb.execute(
            "create or replace temp table read_in as "
            f"select *, {shapes.value_violation(event, source_field)} as words from ("
            "  select seq, kinds, from_json(doc, $shape) as e from looked_at where words is null)"
            " order by seq",
            {"shape": shapes.column_shape(event), "source": name},
        )
        self._duckdb.execute(
            "insert into wrong select seq, words from looked_at where words is not null "
            "union all select seq, words from read_in where words is not null"
        )
        self._duckdb.execute(
            f"create or replace temp table parsed_{number} as "
            "select seq, e from read_in where words is null order by seq"
        )

    def _write_tables(self, name: str, first: int, last: int) -> Iterator[tuple[str, DataFile]]:
        events = STREAM_EVENTS.get(name, JOURNAL_EVENTS)
        numbers = {event: number for number, event in enumerate(events)}
        for table in TABLES:
            selects = [
                _select(table, event, numbers[event]) for event in table.readers if event in numbers
            ]
            if not selects:
                continue
            order = "seq, entry_no" if table.per_entry else "seq"
            query = f"select * from ({' union all '.join(selects)}) order by {order}"
            self._duckdb.execute(f"create or replace temp table rows as {query}")
            counted = self._duckdb.execute("select count(*) from rows").fetchone()
            if counted and counted[0]:
                path = f"typed/{table.name}/{name}/{first:012d}-{last:012d}.parquet"
                write_parquet(self._duckdb, "select * from rows", self._landing.root / path)
                yield (
                    table.name,
                    DataFile(path=path, first_seq=first, last_seq=last, rows=counted[0]),
                )


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write a query's rows to `path` at once: a draft, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    target = str(draft).replace("'", "''")
    connection.execute(f"copy ({query}) to '{target}' (format parquet, compression zstd)")
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    draft.replace(path)


def _chunks(source: LandedSource) -> Iterator[tuple[int, int]]:
    first = source.typed_seq + 1
    while first <= source.seq:
        last = min(first + CHUNK_EVENTS - 1, source.seq)
        yield first, last
        first = last + 1


def _header(event: EventType) -> str:
    return f"tallystick.{event_type(event)}.v1"


def _select(table: Table, event: EventType, number: int) -> str:
    reader = table.readers[event]
    columns = ", ".join(
        f"cast({reader.get(name, 'null')} as {column_type}) as {name}"
        for name, column_type in table.columns
    )
    origin = f"parsed_{number}"
    if table.per_entry:
        origin = (
            "(select seq, e.ledger as ledger, unnest(e.entries) as entry, "
            f"unnest(range(len(e.entries))) as entry_no from parsed_{number})"
        )
    return f"select {columns} from {origin}"
