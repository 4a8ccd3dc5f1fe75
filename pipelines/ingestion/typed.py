"""From raw to typed landing: DuckDB reads the JSON, dbt reads the result.

Each event either becomes rows or goes to quarantine with a reason; nothing in between. Both happen
in one commit of the manifest, so that running again after a crash gives the same files.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import msgspec

from ledger_service.contract import failpoints
from ledger_service.contract.events import EVENT_MAX_BYTES, event_type
from ledger_service.contract.schemas import JOURNAL_EVENTS, STREAM_EVENTS, EventType
from pipelines.ingestion import quarantine, shapes
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing
from pipelines.ingestion.quarantine import Poison
from pipelines.ingestion.tables import TABLES, Table

CHUNK_EVENTS = 250_000
"""Events that are converted at once: bounded memory, and files worth their opening."""


class Converter:
    """Converts landed events; holds one DuckDB in memory."""

    def __init__(self, landing: Landing) -> None:
        self._landing = landing
        self._duckdb = duckdb.connect(":memory:", config={"threads": 2, "memory_limit": "2GB"})

    def close(self) -> None:
        """Free the memory."""
        self._duckdb.close()

    def convert(self) -> int:
        """Convert whatever has landed and is not typed yet; gives the number of events."""
        manifest = self._landing.read()
        events = 0
        for name, source in manifest.sources.items():
            for first, last in chunks(source.typed_seq + 1, source.seq):
                source, poisons = self.convert_range(name, source, first, last)  # noqa: PLW2901
                if poisons:
                    source = quarantine.add(self._landing, name, source, poisons)  # noqa: PLW2901
                form = source.typed_form if source.typed_seq else present_form()
                source = msgspec.structs.replace(source, typed_seq=last, typed_form=form)  # noqa: PLW2901
                events += last - first + 1
                failpoints.reach("typed.before_commit")
                manifest = self._landing.commit(manifest.with_source(name, source))
                failpoints.reach("typed.after_commit")
        return events

    def convert_range(
        self,
        name: str,
        source: LandedSource,
        first: int,
        last: int,
        only: Sequence[int] | None = None,
    ) -> tuple[LandedSource, list[Poison]]:
        """Write the rows of a range of events, or of `only` some in it.

        Gives the source with the new files named, in the order of `seq`, and what breaks the
        contract, in order too. Nothing is committed.
        """
        poisons: list[Poison] = []
        typed = dict(source.typed)
        for start, end in self._readable_ranges(name, source, (first, last), only, poisons):
            for table, file in self._write_tables(name, source, start, end):
                typed[table] = sorted(
                    [*typed.get(table, []), file], key=lambda one: (one.first_seq, one.last_seq)
                )
        poisons.sort(key=lambda poison: poison.seq)
        return msgspec.structs.replace(source, typed=typed), poisons

    def _readable_ranges(
        self,
        name: str,
        source: LandedSource,
        within: tuple[int, int],
        only: Sequence[int] | None,
        poisons: list[Poison],
    ) -> Iterator[tuple[int, int]]:
        """Ranges whose good events stand in `parsed_*`; what is wrong is added to `poisons`.

        Validation finds what is wrong by looking. Should the reader itself fail on an event all
        the same, halving the range finds that one, and the rest goes on without it.
        """
        first, last = within
        try:
            found = self._parse(name, source, within, only)
        except duckdb.Error as failure:
            if first == last:
                kind = type(failure).__name__
                poisons.append(Poison(first, "unreadable", f"the reader fails on it: {kind}"))
                return
            middle = (first + last) // 2
            for half in ((first, middle), (middle + 1, last)):
                if only is None or any(half[0] <= seq <= half[1] for seq in only):
                    yield from self._readable_ranges(name, source, half, only, poisons)
            return
        poisons += found
        yield first, last

    def _parse(
        self,
        name: str,
        source: LandedSource,
        within: tuple[int, int],
        only: Sequence[int] | None,
    ) -> list[Poison]:
        """Fill a table `parsed_N` per event type N with the good events; gives the bad ones."""
        first, last = within
        files = [
            str(self._landing.local(file))
            for file in source.raw
            if file.last_seq >= first and file.first_seq <= last
        ]
        is_stream = name in STREAM_EVENTS
        events = STREAM_EVENTS.get(name, JOURNAL_EVENTS)
        self._duckdb.execute(
            "create or replace temp table raw as "
            f"select seq, type, octet_length(bytes) > {EVENT_MAX_BYTES} as too_large, "
            "try(decode(bytes)) as doc from read_parquet($files) where seq between $first and $last "
            "and ($only is null or seq in (select unnest($only))) order by seq",
            {"files": files, "first": first, "last": last, "only": only},
        )
        self._duckdb.execute("create or replace temp table wrong (seq bigint, words varchar)")
        known = ", ".join(f"'{_header(event)}'" for event in events)
        self._duckdb.execute(
            "insert into wrong select seq, words from (select seq, case "
            f"when too_large then 'too_large: it has more than {EVENT_MAX_BYTES} bytes' "
            "when doc is null or not json_valid(doc) then 'not_json: the bytes' "
            f"when type not in ({known}) then 'unknown_type: type' end as words from raw) "
            "where words is not null"
        )
        for number, event in enumerate(events):
            self._parse_type(number, event, name, "stream" if is_stream else "ledger")
        rows = self._duckdb.execute("select seq, words from wrong order by seq").fetchall()
        return [Poison(seq, *words.split(": ", 1)) for seq, words in rows]

    def _parse_type(self, number: int, event: EventType, name: str, source_field: str) -> None:
        paths = ", ".join(f"'{field.json_path}'" for field in shapes.single_paths(event))
        types, values = shapes.type_violation(event), shapes.value_violation(event, source_field)
        self._duckdb.execute(
            f"create or replace temp table parsed_{number} as "
            f"select seq, e, coalesce({types}, {values}) as words from ("
            f"  select seq, doc, json_type(doc, [{paths}]) as kinds, from_json(doc, $shape) as e"
            f"  from raw where type = '{_header(event)}' and seq not in (select seq from wrong))",
            {"shape": shapes.column_shape(event), "source": name},
        )
        found = self._duckdb.execute(
            f"insert into wrong select seq, words from parsed_{number} where words is not null"
        ).fetchone()
        if found and found[0]:
            # A filter would not do: DuckDB casts all of a vector, also what is left out of it.
            self._duckdb.execute(
                f"create or replace temp table parsed_{number} as "
                f"select * from parsed_{number} where words is null"
            )

    def _write_tables(
        self, name: str, source: LandedSource, first: int, last: int
    ) -> Iterator[tuple[str, DataFile]]:
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
                path = source.path(f"typed/{table.name}/{name}", first, last)
                write = functools.partial(write_parquet, self._duckdb, "select * from rows")
                self._landing.add(path, write)
                yield (
                    table.name,
                    DataFile(path=path, first_seq=first, last_seq=last, rows=counted[0]),
                )


@functools.cache
def present_form() -> str:
    """A name for what the typed tables are made of today: another one, other rows.

    Source of the name: a hash of all columns and of the SQL that reads them.
    """
    made_of = [
        (table.name, table.columns, sorted((event_type(e), r) for e, r in table.readers.items()))
        for table in TABLES
    ]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:12]


def write_parquet(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> None:
    """Write a query's rows to `file`."""
    target = str(file).replace("'", "''")
    connection.execute(f"copy ({query}) to '{target}' (format parquet, compression zstd)")


def chunks(first: int, last: int) -> Iterator[tuple[int, int]]:
    """The range in pieces of CHUNK_EVENTS."""
    for start in range(first, last + 1, CHUNK_EVENTS):
        yield start, min(start + CHUNK_EVENTS - 1, last)


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
