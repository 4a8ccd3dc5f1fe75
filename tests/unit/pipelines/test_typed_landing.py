"""Every event becomes typed rows or goes to quarantine with a reason; nothing turns into NULL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ledger_service.contract.events import (
    AccountChanged,
    AlertDecided,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    TransactionPosted,
    decode_journal,
    encode,
    event_type,
)
from ledger_service.contract.rules import Applied
from pipelines.ingestion import quarantine, raw, shapes
from pipelines.ingestion.manifest import DataFile, LandedSource, Landing, LandingManifest
from pipelines.ingestion.store import Disk
from pipelines.ingestion.tables import TABLES
from pipelines.ingestion.typed import Converter
from pipelines.warehouse import database
from tests import ledger_events

LEDGER = "books"


def land(landing: Landing, records: list[tuple[int, str, bytes]], name: str = LEDGER) -> None:
    """Put records (seq, type, bytes) into the raw landing as one file."""
    seqs, types, contents = zip(*records, strict=True)
    headers = [f"tallystick.{one}.v1" for one in types]
    table = pa.table([seqs, headers, [""] * len(seqs), contents], schema=raw.SCHEMA)
    manifest = landing.read()
    source = manifest.sources.get(name, LandedSource(topic=name, topic_id="t"))
    path = source.path(f"raw/{name}", seqs[0], seqs[-1])
    landing.add(path, lambda file: pq.write_table(table, file))
    file = DataFile(path=path, first_seq=seqs[0], last_seq=seqs[-1], rows=len(seqs))
    source = msgspec.structs.replace(source, seq=seqs[-1], raw=[*source.raw, file])
    landing.commit(manifest.with_source(name, source))


def as_records(events) -> list[tuple[int, str, bytes]]:
    return [(event.seq, event_type(event), encode(event)) for event in events]


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(Disk(tmp_path / "landing"))


@pytest.fixture
def convert(landing: Landing):
    def run() -> LandingManifest:
        converter = Converter(landing)
        converter.convert()
        converter.close()
        return landing.read()

    return run


def rows(landing: Landing, table: str, columns: str = "*") -> list[tuple]:
    files = [str(landing.local(file)) for file in landing.read().typed_files(table)]
    return duckdb.sql(f"select {columns} from read_parquet({files}) order by all").fetchall()


def test_every_event_type_lands_typed(landing, convert):
    history = ledger_events.history(LEDGER, 20)
    history += ledger_events.declarations(LEDGER, len(history) + 1)
    [*_, fund] = [event for event in history if isinstance(event, TransactionPosted)]
    applied = Applied("save", 1, fund.entries[1].account, first_day="2026-06-01",
                      last_day="2026-06-30", interest="150/73", true_up="-250/73",
                      period_start="2026-06-01", accrued="-1", carried="-27/73")  # fmt: skip
    history.append(msgspec.structs.replace(
        fund, seq=len(history) + 1, kind="interest", applied=applied, idempotency_digest="ab" * 32
    ))  # fmt: skip
    history += ledger_events.holds_and_periods(LEDGER, len(history) + 1)
    assert {type(event) for event in history} == {*get_args(JournalEvent)} - {AccountChanged}
    land(landing, as_records(history))
    land(landing, as_records(ledger_events.parties(2)), "parties")
    lines = [("credit", 500, "ACH 1"), ("debit", 20, "ACH 2")]
    land(
        landing, as_records(ledger_events.statement(LEDGER, "2026-07-01", 480, lines)), "statements"
    )
    decided = AlertDecided(
        stream="alert_decisions", seq=1, recorded_at="2026-07-01T00:00:00.000000Z", alert="a",
        rule="fan_in", decision="closed", reason="known", actor="carol",
    )  # fmt: skip
    land(landing, as_records([decided]), "alert_decisions")
    manifest = convert()
    assert manifest.quarantined == 0
    assert {table.name for table in TABLES} == {
        table for source in manifest.sources.values() for table in source.typed
    }
    posted = [event for event in history if event_type(event) == "transaction.posted"]
    assert rows(landing, "entries", "ledger, seq, entry_no, account, side, amount, currency") == [
        (LEDGER, event.seq, number, entry.account, entry.side, int(entry.amount), entry.currency)
        for event in posted
        for number, entry in enumerate(event.entries)
    ]
    found = rows(
        landing, "transactions", "seq, channel, metadata, entry_count, effective_at::varchar"
    )
    assert found == [
        (e.seq, e.context.channel, e.metadata, 2, e.effective_at[:19].replace("T", " "))
        for e in posted
    ]
    assert rows(landing, "statements", "seq, opening_balance, closing_balance") == [(2, 0, 480)]
    assert [row[0] for row in rows(landing, "accounts", "status")] == ["open"] * 7
    first = len(history) - 7
    captures = rows(landing, "transactions", "seq, captures_seq, ends_hold")
    assert captures[-1] == (first + 1, first, True)
    assert not any(ends for _, _, ends in captures[:-1])
    assert rows(landing, "holds", "seq, hold_seq, cause, expires_at::varchar") == [
        (first, first, None, "2026-07-08 12:00:00"),
        (first + 2, first + 2, None, None),
        (first + 3, first + 2, "voided", None),
    ]
    assert len(rows(landing, "hold_entries")) == 6
    assert rows(landing, "currencies", "currency, exponent") == [("POINTS", 3)]
    assert rows(landing, "rules", "rule, version, since::varchar, day_count, rounding") == [
        ("save", 1, "2026-06-01", "ACT/365F", "half_even"),
        ("save", 2, "2026-07-01", None, None),
    ]
    [declared] = [row for row in rows(landing, "rules", "tiers, debit, credit") if row[0]]
    assert declared == (
        [
            {"at_least": 0, "rate": "0.04", "fixed": 0},
            {"at_least": 1_000_000, "rate": "0.05", "fixed": 0},
        ],
        [{"account": "expense:interest", "weight": 1}],
        [{"account": "payable:interest", "weight": 1}],
    )
    names = ("rule", "version", "account", "of_amount", "first_day::varchar", "interest",
             "true_up", "accrued", "carried")  # fmt: skip
    applied_to = [row for row in rows(landing, "transactions", ", ".join(f"applied_{n}" for n in names))
                  if row[0]]  # fmt: skip
    assert applied_to == [
        ("save", 1, fund.entries[1].account, None, "2026-06-01", "150/73", "-250/73", -1, "-27/73")
    ]
    assert [row[0] for row in rows(landing, "periods", "day::varchar, seq")] == [
        "2026-05-30", "2026-05-31", "2026-05-31", "2026-06-01",
    ]  # fmt: skip


def test_entries_as_we_write_them_are_not_looked_at_member_by_member():
    """Read and written again they are the same: the long way is for what is wrong, or rare."""
    history = ledger_events.history(LEDGER, 20)
    history += ledger_events.declarations(LEDGER, len(history) + 1)
    history += ledger_events.holds_and_periods(LEDGER, len(history) + 1)
    asked = {event.__class__ for event in history if hasattr(event, "entries")}
    assert asked == {TransactionPosted, HoldPlaced, HoldReleased}
    connection = duckdb.connect(":memory:")
    for event in history:
        if event.__class__ in asked:
            (same, _), *_ = shapes._lists_violation(event.__class__)
            found = connection.execute(
                f"select {same} from (select doc, from_json(doc, $shape) as e from (select $doc::json as doc))",
                {"doc": encode(event).decode(), "shape": shapes.column_shape(event.__class__)},
            ).fetchall()
            assert found == [(True,)], event


def test_no_money_is_ever_a_float(landing, convert):
    land(landing, as_records(ledger_events.history(LEDGER, 5)))
    lines = [("credit", 500, "ACH 1")]
    land(
        landing, as_records(ledger_events.statement(LEDGER, "2026-07-01", 500, lines)), "statements"
    )
    manifest = convert()
    for table in TABLES:
        for file in manifest.typed_files(table.name):
            schema = pq.read_schema(landing.local(file))
            assert schema.names == [name for name, _ in table.columns]
            assert not [
                f for f in schema if pa.types.is_floating(f.type) or pa.types.is_decimal(f.type)
            ]


def _change(**changes):
    def apply(event: dict) -> bytes:
        for path, value in changes.items():
            place = event
            *parents, last = path.split("__")
            for part in parents:
                place = place[int(part) if part.isdigit() else part]
            if value is ...:
                del place[last]
            else:
                place[last] = value
        return json.dumps(event).encode()

    return apply


_RULE = {"rule": "save", "version": 1, "account": "customer:1:wallet"}
POISONS = {
    "broken JSON": (lambda event: json.dumps(event).encode()[:-20], "not_json"),
    "not UTF-8": (lambda event: b"\xff\xfe", "not_json"),
    "unknown version": (_change(v=2), "unknown_version"),
    "missing field": (_change(kind=...), "bad_field"),
    "missing in an entry": (_change(entries__0__currency=...), "bad_field"),
    "amount is a number": (_change(entries__1__amount=12), "bad_field"),
    "amount has a point": (_change(entries__0__amount="12.50"), "bad_field"),
    "amount is negative": (_change(entries__0__amount="-5"), "bad_field"),
    "amount is too large": (_change(entries__0__amount="9223372036854775808"), "bad_field"),
    "seq is a fraction": (_change(seq=1.5), "bad_field"),
    "seq of another event": (_change(seq=4), "wrong_seq"),
    "wrong ledger": (_change(ledger="other"), "wrong_source"),
    "unknown side": (_change(entries__0__side="left"), "bad_field"),
    "unknown channel": (_change(context={"channel": "pigeon"}), "bad_field"),
    "owner is a number": (_change(actor=7), "bad_field"),
    "no such day": (_change(effective_date="2026-02-30"), "bad_field"),
    "no such time": (_change(effective_at="2026-07-01 10:00"), "bad_field"),
    "metadata is nested": (_change(metadata={"a": {"b": "c"}}), "bad_field"),
    "reverses beyond 64 bits": (_change(reverses=2**63 + 1), "bad_field"),
    "another type": (_change(type="account.opened"), "wrong_type"),
    "a fee of half a cent": (_change(applied={**_RULE, "of_amount": "1.50"}), "bad_field"),
    "interest that is no ratio": (_change(applied={**_RULE, "interest": "1.5"}), "bad_field"),
    "a true-up that is no ratio": (_change(applied={**_RULE, "true_up": "-5"}), "bad_field"),
    "a day that is none": (_change(applied={**_RULE, "first_day": "2026-02-30"}), "bad_field"),
    "no entries": (_change(entries=[]), "bad_field"),
    "larger than an event": (_change(metadata={"a": "b" * 61_440}), "too_large"),
}


def test_poison_goes_to_quarantine_and_the_rest_lands(landing, convert):
    history = ledger_events.history(LEDGER, 60)
    records = as_records(history)
    expected = {}
    for index, (spoil, code) in zip(range(8, 60, 2), POISONS.values(), strict=True):
        seq, kind, content = records[index]
        records[index] = (seq, kind, spoil(json.loads(content)))
        expected[seq] = code
    records[59] = (60, "transaction.invented", records[59][2])
    expected[60] = "unknown_type"
    assert len(expected) == len(POISONS) + 1
    land(landing, records)
    manifest = convert()
    listed = list(quarantine.listing(landing))
    assert {one.event.seq: one.event.code for one in listed} == expected
    assert manifest.quarantined == len(expected)
    good = [
        e.seq for e in history if event_type(e) == "transaction.posted" and e.seq not in expected
    ]
    assert [row[0] for row in rows(landing, "transactions", "seq")] == good
    assert manifest.sources[LEDGER].typed_seq == records[-1][0]


def test_every_poison_is_what_the_contract_itself_refuses_or_forbids(landing, convert):
    """A guard of the table above: the good form of the event does decode."""
    for _, _, content in as_records(ledger_events.history(LEDGER, 3)):
        decode_journal(content)


def test_an_event_that_makes_the_reader_fail_is_found_by_halving(landing, convert, monkeypatch):
    history = ledger_events.history(LEDGER, 50)
    land(landing, as_records(history))
    parse = Converter._parse

    def fragile(self, name, source, within, only):
        if within[0] <= 33 <= within[1]:
            raise duckdb.InvalidInputException("a bug of the reader's own")
        return parse(self, name, source, within, only)

    monkeypatch.setattr(Converter, "_parse", fragile)
    convert()
    (only,) = quarantine.listing(landing)
    assert (only.event.seq, only.event.code) == (33, "unreadable")
    assert [row[0] for row in rows(landing, "transactions", "seq")] == [
        event.seq for event in history[8:-1] if event.seq != 33
    ] + [history[-1].seq]


def test_converting_again_gives_the_same_files(landing, convert):
    land(landing, as_records(ledger_events.history(LEDGER, 30)))
    first = convert()
    contents = {f.path: landing.local(f).read_bytes() for f in first.typed_files("entries")}
    emptied = msgspec.structs.replace(first.sources[LEDGER], typed={}, typed_seq=0)
    landing.commit(first.with_source(LEDGER, emptied))
    again = convert()
    assert {f.path: landing.local(f).read_bytes() for f in again.typed_files("entries")} == contents


def test_what_lies_before_a_ledgers_limit_is_left_out_unread(landing, convert):
    for ledger in ("books", "others"):
        land(landing, as_records(ledger_events.history(ledger, 30)), ledger)
    convert()
    query = (
        "select ledger, seq from landing.entries where (ledger = 'books' and seq > 20) "
        "or (ledger = 'others' and seq > 35) or ledger not in ('books', 'others') order by all"
    )
    with duckdb.connect(":memory:") as connection:
        database.make_landing_views(connection, landing)
        every = connection.execute("select ledger, seq from landing.entries order by all")
        limits = {"books": 20, "others": 35}
        wanted = [(ledger, seq) for ledger, seq in every.fetchall() if seq > limits[ledger]]
        assert connection.execute(query).fetchall() == wanted
        ((_, plan),) = connection.execute(f"explain {query}").fetchall()
    # A condition that the reader knows about, and none that looks at each row afterwards.
    assert "Filters: seq > 20" in plan
    assert "Filters: seq > 35" in plan
    assert plan.lower().count("filter") == 2
