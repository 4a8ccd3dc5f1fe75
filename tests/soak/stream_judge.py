"""Judges topics, landing, marts and snapshots by the journal, which they all must be equal to.

The journal's own events are added up here in the plainest way (`LedgerOracle`); nothing of what is
judged is asked for the answer.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import duckdb
import psycopg
import pyarrow.parquet as pq

from ledger_service.contract import topics
from ledger_service.contract.brokers import Brokers
from ledger_service.contract.events import JournalEvent, TransactionPosted, decode_journal
from ledger_service.contract.snapshots import NAMES, read_manifest
from ledger_service.engine.verify import verify
from pipelines.flow import Flow
from pipelines.ingestion import quarantine, rewriting
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing
from pipelines.ingestion.typed import Converter
from pipelines.places import Places
from pipelines.publication import reading, snapshot
from pipelines.publication.parts import content_of
from pipelines.warehouse import database
from tests.compared_marts import compared_marts
from tests.integration.pipelines.surroundings import LedgerOracle, typed_contents
from tests.soak.client import LEDGER

Stored = list[tuple[int, bytes]]
"""`seq` and bytes of events, in order."""
_ENTRIES = "seq, entry_no, account, side, amount"


@dataclasses.dataclass
class StreamJudge:
    """Compares what the pipelines made in `places` with the database. Each call gives violations."""

    owner_url: str
    places: Places
    unusable: frozenset[bytes]
    """Events in streams that belong in quarantine."""

    def at_rest(self) -> list[str]:
        """Landing and snapshots while no pipeline is at work; they may lag behind the journal."""
        landing = self._landing()
        found: list[str] = []
        for name, source in landing.read().sources.items():
            stored = self._stored(name)
            found += _compare_raw(landing, name, source, stored)
            found += self._compare_typed(landing, name, source, stored)
        return found + self._compare_snapshots()

    def in_the_end(self, brokers: Brokers) -> list[str]:
        """Topics, landing and snapshots, once all has arrived; nothing is left behind."""
        found = self.at_rest()
        findings = verify(self.owner_url, LEDGER, full=True, brokers=brokers).findings
        # of the stream's broken events, too, which are of no ledger
        found += [f"tally verify: {one}" for one in findings if one.ledger == LEDGER]
        found += self._compare_topics(brokers)
        found += self._compare_retyped()
        return found + self._find_drafts()

    def behind(self) -> str:
        """What has not arrived yet, in words; empty where all is typed and both snapshots have it."""
        sources = self._landing().read().sources
        ends = {
            f"typed {name}": (sources[name].typed_seq if name in sources else 0, self._head(name))
            for name in (LEDGER, "parties")
        }
        for name in NAMES:
            manifest = read_manifest(self.places.snapshots, name)
            ends[name] = (manifest.as_of.get(LEDGER, 0) if manifest else 0, self._head(LEDGER))
        late = [f"{what}: {seq} of {head}" for what, (seq, head) in ends.items() if seq != head]
        return ", ".join(late)

    def _head(self, name: str) -> int:
        of = "stream.head where stream" if name in topics.STREAMS else "ledger.head where ledger"
        with psycopg.connect(self.owner_url) as connection:
            row = connection.execute(f"select seq from {of} = %s", [name]).fetchone()
        return row[0] if row else 0

    def _find_drafts(self) -> list[str]:
        """Nothing is left of what the killed had in hand."""
        places = (Path(self.places.landing), self.places.snapshots)
        left = [path for place in places for path in place.rglob(".*") if path.suffix != ".lock"]
        return [f"left behind: {path.name}" for path in left]

    def _landing(self) -> Landing:
        return Landing.at(self.places.landing, self.places.cache, self.places.archive)

    def _stored(self, name: str) -> Stored:
        table = (
            "stream.event where stream" if name in topics.STREAMS else "ledger.journal where ledger"
        )
        with psycopg.connect(self.owner_url) as connection:
            return connection.execute(
                f"select seq, bytes from {table} = %s order by seq", [name], binary=True
            ).fetchall()

    def _events(self, through: int) -> list[JournalEvent]:
        return [decode_journal(content) for _, content in self._stored(LEDGER)[:through]]

    # --- landing ----------------------------------------------------------------------------------

    def _compare_typed(
        self, landing: Landing, name: str, source: LandedSource, stored: Stored
    ) -> list[str]:
        typed = [(seq, content) for seq, content in stored if seq <= source.typed_seq]
        bad = [seq for seq, content in typed if content in self.unusable]
        found = [one.event.seq for one in quarantine.listing(landing) if one.source == name]
        wrong = []
        if sorted(found) != bad:
            wrong.append(f"{name}: {len(found)} events in quarantine, {len(bad)} belong there")
        for table, files in source.typed.items():
            rows = sum(_rows(landing, file) for file in files)
            if rows != sum(file.rows for file in files):
                wrong.append(f"typed {table} of {name} holds {rows} rows, its manifest has others")
        if name == LEDGER:
            files = [str(landing.local(file)) for file in source.typed.get("entries", [])]
            with duckdb.connect(":memory:") as connection:
                have = _rows_of(connection, f"read_parquet({files!r})") if files else []
            wrong += _different("typed entries", have, _entries(map(decode_journal, _bytes(typed))))
        return wrong

    def _compare_retyped(self) -> list[str]:
        """The typed landing is what a typing of the raw one gives, made anew in a copy."""
        places = dataclasses.replace(
            self.places, landing=f"{self.places.landing}.copy", archive=self.places.archive
        )
        shutil.copytree(self.places.landing, places.landing)
        copy = Landing.at(places.landing, places.cache, places.archive)
        copy.hold()
        converter = Converter(copy)
        grown = typed_contents(copy)
        for name in copy.read().sources:
            rewriting.retype(copy, converter, name)
        anew = typed_contents(copy)
        converter.close()
        shutil.rmtree(places.landing)
        return [f"typed {table} differs from raw" for table in anew if anew[table] != grown[table]]

    # --- topics and marts -------------------------------------------------------------------------

    def _compare_topics(self, brokers: Brokers) -> list[str]:
        from tests.integration.relay.test_relay import read_topic

        found = []
        for name in (LEDGER, *topics.STREAMS):
            stored = self._stored(name)
            topic = topics.stream_topic if name in topics.STREAMS else topics.journal_topic
            if stored and read_topic(brokers, topic(name)) != stored:
                found.append(f"topic {topic(name)} is not the journal")
        return found

    def _compare_snapshots(self) -> list[str]:
        found: list[str] = []
        for name in NAMES:
            manifest = read_manifest(self.places.snapshots, name)
            if manifest is not None:
                try:
                    snapshot.verify(self.places.snapshots, manifest)
                except snapshot.SnapshotDamagedError as damage:
                    found.append(str(damage))
        if found or read_manifest(self.places.snapshots, "general") is None:
            return found
        with reading.opened(self.places.snapshots, "general") as reader:
            return self._compare_marts(reader)

    def _compare_marts(self, reader: reading.Reader) -> list[str]:
        seq = reader.manifest.as_of.get(LEDGER, 0)
        oracle = LedgerOracle()
        oracle.events[LEDGER] = self._events(seq)
        ours = f"where ledger = '{LEDGER}'"
        balances = [
            (line["account"], line["debits"], line["credits"])
            for line in oracle.balances(LEDGER, seq)
        ]
        closing = [
            (
                line["gl_code"],
                line["custodial"],
                line["currency"],
                int(line["debits"]),
                int(line["credits"]),
            )
            for line in oracle.trial_balance(LEDGER, seq)
            if line["debits"] != "0" or line["credits"] != "0"
        ]
        holds = [
            (hold["seq"], hold["left"]) for hold in oracle.holds(LEDGER) if hold["state"] == "open"
        ]
        compared = {
            f"select {_ENTRIES} from entries {ours}": _entries(oracle.events[LEDGER]),
            f"select account, debits, credits from account_balances_current {ours}": balances,
            f"select seq, pending from holds {ours} and state = 'open'": holds,
            "from (select gl_code, custodial, currency, closing_debits, closing_credits "
            f"from trial_balance_daily {ours} qualify row_number() over (partition by gl_code, "
            "account_class, custodial, currency order by balance_date desc) = 1) "
            "where closing_debits > 0 or closing_credits > 0": closing,
        }
        where = f"general {reader.manifest.version} at seq {seq}"
        return [
            problem
            for query, expected in compared.items()
            for problem in _different(f"{where}: {query}", reader.query(query).rows, expected)
        ]

    def compare_rebuilt(self, flow: Flow) -> list[str]:
        """The marts that grew are those of a full build from the same landing."""
        try:
            with flow.lock.held(60):
                flow.recover()
                flow.convert()
                flow.build()
                grown = self._hashes(flow)
                flow.build(full_refresh=True)
                anew = self._hashes(flow)
        finally:
            flow.close()
        return [
            f"{mart} grew otherwise than it is built" for mart in anew if anew[mart] != grown[mart]
        ]

    def _hashes(self, flow: Flow) -> dict[str, str]:
        names = compared_marts(flow.dbt.parse())
        names.remove("marts.build")  # says when it was made
        with database.opened(self.places.warehouse_file) as connection:
            return {name: content_of(connection, name)[1] for name in names}


def _compare_raw(landing: Landing, name: str, source: LandedSource, stored: Stored) -> list[str]:
    landed: Stored = []
    for file in source.raw:
        table = pq.read_table(landing.local(file), columns=["seq", "bytes"])
        rows = list(zip(table["seq"].to_pylist(), table["bytes"].to_pylist(), strict=True))
        if (len(rows), rows[0][0], rows[-1][0]) != (file.rows, file.first_seq, file.last_seq):
            return [f"{file.path} holds other rows than the manifest says"]
        landed += rows
    expected = [row for row in stored if row[0] <= source.seq]
    return _different(f"raw landing of {name} up to {source.seq}", landed, expected, ordered=True)


def _rows(landing: Landing, file: DataFile) -> int:
    return pq.read_metadata(landing.local(file)).num_rows


def _rows_of(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple]:
    return connection.execute(f"select {_ENTRIES} from {table}").fetchall()


def _bytes(stored: Stored) -> Iterable[bytes]:
    return (content for _, content in stored)


def _entries(events: Iterable[JournalEvent]) -> list[tuple[int, int, str, str, int]]:
    return [
        (event.seq, number, entry.account, entry.side, int(entry.amount))
        for event in events
        if isinstance(event, TransactionPosted)
        for number, entry in enumerate(event.entries)
    ]


def _different(
    what: str, found: Iterable[Sequence], expected: Iterable[Sequence], *, ordered: bool = False
) -> list[str]:
    """What is there and what ought to be, as a problem in words; none where both are equal."""
    have, want = [tuple(row) for row in found], [tuple(row) for row in expected]
    if not ordered:
        have, want = sorted(have), sorted(want)
    if have == want:
        return []
    place = next(
        (n for n, (one, other) in enumerate(zip(have, want, strict=False)) if one != other),
        min(len(have), len(want)),
    )
    there, ought = (str(rows[place : place + 1])[:120] for rows in (have, want))
    return [f"{what}: {len(have)} rows, not {len(want)}; at {place} there is {there}, not {ought}"]
