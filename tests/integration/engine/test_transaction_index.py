"""Each declared filter is answered from an index, in the order of its pages, however many rows there are."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterable, Iterator
from typing import Any

import asyncpg
import msgspec
import pytest

from ledger_service.engine import as_of, entry_list, standing, transaction_index
from ledger_service.engine.reads import LAST_SEQ
from ledger_service.engine.transaction_index import (
    EXAMINED,
    Filters,
    find,
    question,
    read_place,
    write_place,
)
from tests.servers import LedgerDatabase

ROWS = int(os.environ.get("ROWS", "60000"))
"""The short form; `make test-history` asks the same at a million."""
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
_EACH = dt.timedelta(seconds=20)
MIDDLE = START + dt.timedelta(seconds=20 * ROWS / 2)
LIMIT = 100

_FILL = """
insert into ledger.transaction
select 'simulated', seq, '2026-01-01'::timestamptz + seq * interval '20 seconds'
       - case when seq % 10 = 0 then seq % 40 * interval '1 day' else interval '0' end,
       case when seq % 1000 = 0 then 'payroll' else 'transfer' end,
       case when seq % 2 = 0 then 'ach' else 'internal' end,
       case when seq % 3 = 0 then 'cp' || seq % 5000 end,
       case when seq % 3 = 0 then 'R ' || seq end
  from generate_series(1, $1::bigint) as seq
"""
_FILL_METADATA = """
insert into ledger.transaction_metadata
select 'simulated', m.key, m.value, seq from generate_series(1, $1::bigint) as seq,
       lateral (values ('source', 'csv'), ('source_row', seq::text)) as m (key, value)
 where seq % 2 = 0
"""
_FILL_JOURNAL = """
insert into ledger.journal
select 'simulated', seq, 'transaction.posted', '2026-01-01'::timestamptz + seq * interval '20 seconds',
       'x'::bytea, 'x'::bytea from generate_series(1, $1::bigint) as seq
"""
_FILL_VALUE_DATED_TRANSACTIONS = """
insert into ledger.value_dated_transaction
select t.ledger, t.effective_at, t.seq from ledger.transaction t join ledger.journal j using (ledger, seq)
 where t.effective_at <> j.recorded_at
"""
_FILL_BITMAPS = """
insert into ledger.transaction_bitmap
select t.ledger, f.field, f.value, t.seq / 512, bit_or(set_bit('0'::bit(512), (t.seq % 512)::int, 1))
  from ledger.transaction t join ledger.journal j using (ledger, seq),
       lateral (values ('kind', t.kind), ('channel', t.channel), ('effective_at',
         case when t.effective_at = j.recorded_at then 'recorded_at' end)) as f (field, value)
 where f.value is not null group by 1, 2, 3, 4
"""
_INDEX = ("transaction", "transaction_metadata", "transaction_bitmap", "value_dated_transaction")

_HOUR = dt.timedelta(hours=1)
QUESTIONS = {
    "everything": Filters(),
    "a common kind": Filters(kind="transfer"),
    "a rare kind": Filters(kind="payroll"),
    "a kind that is not there": Filters(kind="fee"),
    "a channel": Filters(channel="ach"),
    "a counterparty": Filters(counterparty="cp42"),
    "one that is not there": Filters(counterparty="cp_none"),
    "a reference": Filters(rail_reference="R 300"),
    "a kind and a reference": Filters(kind="transfer", rail_reference="R 300"),
    "a kind and a counterparty": Filters(kind="transfer", counterparty="cp42"),
    "a rare kind of a channel": Filters(kind="payroll", channel="ach"),
    "a kind of a channel where it never is": Filters(kind="payroll", channel="internal"),
    "common metadata": Filters(metadata=(("source", "csv"),)),
    "rare metadata": Filters(metadata=(("source_row", "300"),)),
    "both": Filters(metadata=(("source", "csv"), ("source_row", "300"))),
    "metadata that is not there": Filters(metadata=(("invoice", "1"),)),
    "metadata of a kind": Filters(kind="transfer", metadata=(("source", "csv"),)),
    "an hour": Filters(effective_from=MIDDLE, effective_to=MIDDLE + _HOUR),
    "an hour of a kind": Filters(
        kind="transfer", effective_from=MIDDLE, effective_to=MIDDLE + _HOUR
    ),
    "all up to a moment": Filters(effective_to=MIDDLE),
    "all of a rare kind up to a moment": Filters(kind="payroll", effective_to=MIDDLE),
    "all of a kind and a channel from a moment on": Filters(
        kind="transfer", channel="ach", effective_from=MIDDLE
    ),
    "all of a counterparty up to a moment": Filters(counterparty="cp42", effective_to=MIDDLE),
    "an hour of common metadata": Filters(
        metadata=(("source", "csv"),), effective_from=MIDDLE, effective_to=MIDDLE + _HOUR
    ),
    "recorded before they count": Filters(effective_from=MIDDLE, until_seq=ROWS // 4),
    "recorded after they counted": Filters(effective_to=MIDDLE, after_seq=3 * ROWS // 4),
    "recorded between": Filters(after_seq=ROWS // 4, until_seq=ROWS // 2),
    "recorded between, of a channel": Filters(channel="ach", until_seq=ROWS // 2),
}
EXAMINED_MAX = 40 * LIMIT
"""Rows that a page of 100 may look at."""
BITS_MAX = LIMIT * 64
"""Bits of the bitmaps, and parts of them, that it may look at."""


async def _filled(database: LedgerDatabase, rows: int = ROWS) -> asyncpg.Connection:
    connection = await asyncpg.connect(database.owner_url)
    for fill in (
        _FILL,
        _FILL_METADATA,
        _FILL_JOURNAL,
        _FILL_VALUE_DATED_TRANSACTIONS,
        _FILL_BITMAPS,
    ):
        await connection.execute(fill.replace("$1", str(rows)))
    await connection.execute(f"vacuum analyze {', '.join(f'ledger.{name}' for name in _INDEX)}")
    return connection


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read the index of transactions, where they ran."""
    if plan.get("Relation Name") in _INDEX and plan["Actual Loops"]:
        yield plan
    for part in plan.get("Plans", []):
        yield from scans(part)


def _looked_at(nodes: Iterable[dict[str, Any]]) -> float:
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes
    )


async def test_no_question_reads_the_whole_table(ledger_database: LedgerDatabase) -> None:
    connection = await _filled(ledger_database)
    for name, filters in QUESTIONS.items():
        middle = (MIDDLE if filters.by_effective_time else None, ROWS // 2)
        for before in (None, middle):
            # by `seq`, where what counts when it is recorded lies: as it is filled, 20 seconds apart
            recorded = [
                LAST_SEQ if moment is None else max((moment - START) // _EACH - 1, 0)
                for moment in (filters.effective_from or START, filters.effective_to)
            ]
            if before is not None:
                recorded[1] = min(recorded[1], before[1] - 1)
            sql, arguments = question("simulated", filters, before, LIMIT, tuple(recorded))
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"set plan_cache_mode = {mode}")
                explained = await connection.fetchval(
                    f"explain (analyze, format json) {sql}", *arguments
                )
                plan = json.loads(explained)[0]["Plan"]
                read = list(scans(plan))
                kinds = {scan["Node Type"] for scan in read}
                assert not kinds & {"Seq Scan"}, (name, before, mode, kinds)
                # each candidate, its row of the table, and the way to the last candidate
                most = EXAMINED_MAX + 3 * EXAMINED * ("candidates" in sql)
                assert _looked_at(read) <= most, (name, before, mode, _looked_at(read))
                bits = _looked_at(unnested(plan))
                assert bits <= BITS_MAX, (name, before, mode, bits)
    await connection.close()


FEW = 2_000
_SLOWLY = """
select seq from ledger.transaction t
 where ($1::text is null or kind = $1) and ($2::text is null or channel = $2)
   and ($3::text is null or counterparty = $3) and ($4::text is null or rail_reference = $4)
   and ($5::timestamptz is null or effective_at >= $5)
   and ($6::timestamptz is null or effective_at < $6) and seq > $7 and seq <= $8
   and (select count(*) from ledger.transaction_metadata m
         join unnest($9::text[], $10::text[]) as w (key, value) using (key, value)
         where m.ledger = t.ledger and m.seq = t.seq) = cardinality($9)
 order by case when $5 is null and $6 is null then null else effective_at end desc, seq desc
"""


@pytest.mark.parametrize(("examined", "limit"), [(3, 2), (100, 23), (10_000, 23)])
async def test_pages_are_those_of_a_slow_filter(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch, examined: int, limit: int
) -> None:
    """Of transactions of which forty at a time are recorded at one moment."""
    monkeypatch.setattr(transaction_index, "EXAMINED", examined)
    connection = await _filled(ledger_database, 0)
    for fill in (_FILL, _FILL_METADATA, _FILL_JOURNAL):
        at_a_time = fill.replace("seq * interval", "seq / 40 * 40 * interval")
        at_a_time = at_a_time.replace("1 day", "1 minute").replace("seq % 1000", "seq % 50")
        await connection.execute(at_a_time.replace("$1", str(FEW)))
    for fill in (_FILL_VALUE_DATED_TRANSACTIONS, _FILL_BITMAPS):
        await connection.execute(fill)
    await connection.execute(
        "insert into ledger.head (ledger, epoch, seq, root) values ('simulated', 1, $1, '')", FEW
    )
    await connection.execute(
        "insert into ledger.projection values ('simulated', 'history', $1)", FEW
    )
    for name, asked in QUESTIONS.items():
        # around what is recorded at one moment, with its edges
        for edge in (0, 1, 799, 801):
            filters = msgspec.structs.replace(
                asked,
                effective_from=asked.effective_from
                and START + (FEW // 2 // 40 * 40 - edge) * _EACH,
                effective_to=asked.effective_to and START + (FEW // 2 // 40 * 40 + edge) * _EACH,
                after_seq=asked.after_seq and FEW // 4,
                until_seq=min(asked.until_seq, FEW // 2 + 13),
            )
            expected = await connection.fetch(
                _SLOWLY, filters.kind, filters.channel, filters.counterparty, filters.rail_reference,
                filters.effective_from, filters.effective_to, filters.after_seq, filters.until_seq,
                *([pair[n] for pair in filters.metadata] for n in (0, 1)),
            )  # fmt: skip
            found: list[int] = []
            before, pages = None, 0
            while pages == 0 or before is not None:
                page = await find(
                    connection, "simulated", filters, before=before, limit=limit, head=FEW
                )
                found += [row["seq"] for row in page.rows]
                assert len(found) <= len(expected), (name, edge)
                following = page.following and write_place(page.following)
                before, pages = following and read_place(following, filters), pages + 1
            assert found == [row["seq"] for row in expected], (name, edge)
    await connection.close()


# --- entries of one account -----------------------------------------------------------------------

# The account 7 has an entry of every transaction, a thousand in each list; a tenth is value-dated.
FILL_LISTS = """
insert into ledger.posting_list
select 'simulated', 7, max(seq), array_agg(seq), array_agg(0::smallint),
       array_agg(case when seq % 1000 = 0 then -seq % 97 - 1 else seq % 97 + 1 end),
       array_agg('2026-01-01'::date + (seq * 360 / $1 - case when seq % 10 = 0 then seq % 40
                                                             else 0 end)::int)
  from generate_series(1, $1::bigint) as seq group by seq / 1000
"""
_FILL_OTHERS = """
insert into ledger.posting_list
select 'simulated', 8 + seq % 997, seq, array[seq], array[1::smallint], array[1], array['2026-01-01'::date]
  from generate_series(1, $1::bigint / 3) as seq
"""
_FILL_VALUE_DATED = """
insert into ledger.value_dated_entry
select 'simulated', 7, '2026-01-01'::date + (seq * 360 / $1 - seq % 40)::int, seq, 0, 1
  from generate_series(1, $1::bigint) as seq where seq % 10 = 0 and seq % 40 > 0
union all
select 'simulated', 8 + seq % 997, '2026-01-01'::date + (seq % 360)::int, seq, 1, 1
  from generate_series(1, $1::bigint) as seq
"""
FILL_DAYS = """
insert into ledger.recorded_day
select 'simulated', '2026-01-01'::date + (seq * 360 / $1)::int, min(seq)
  from generate_series(1, $1::bigint) as seq group by 2
"""
MAY = dt.date(2026, 5, 1)
ENTRY_QUESTIONS = {
    "everything": entry_list.Filters(),
    "a rare side": entry_list.Filters(side="credit"),
    "a side that is not there": entry_list.Filters(side="credit", most=1),
    "an amount that is not there": entry_list.Filters(least=98),
    "a day": entry_list.Filters(first_day=MAY, last_day=MAY),
    "a week of a rare side": entry_list.Filters(
        side="credit", first_day=MAY, last_day=MAY + dt.timedelta(days=6)
    ),
    "a month": entry_list.Filters(first_day=MAY, last_day=MAY + dt.timedelta(days=30)),
    "all from a day on": entry_list.Filters(first_day=MAY),
    "recorded between": entry_list.Filters(after_seq=ROWS // 4, until_seq=ROWS // 2),
}


def reads_of(plan: dict[str, Any], table: str) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read a table or its partitions, where they ran."""
    if plan.get("Relation Name", "").startswith(table) and plan["Actual Loops"]:
        yield plan
    for part in plan.get("Plans", []):
        yield from reads_of(part, table)


async def test_no_page_of_entries_looks_at_more_than_it_may(
    ledger_database: LedgerDatabase,
) -> None:
    connection = await asyncpg.connect(ledger_database.owner_url)
    for fill in (FILL_LISTS, _FILL_OTHERS, _FILL_VALUE_DATED, FILL_DAYS):
        await connection.execute(fill.replace("$1", str(ROWS)))
    await connection.execute("vacuum analyze ledger.posting_list, ledger.value_dated_entry")
    for name, filters in ENTRY_QUESTIONS.items():
        for before in (entry_list.LAST_SEQ, ROWS // 2):
            sql, arguments = entry_list.question("simulated", 7, filters, before, LIMIT)
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"set plan_cache_mode = {mode}")
                explained = await connection.fetchval(
                    f"explain (analyze, format json) {sql}", *arguments
                )
                plan = json.loads(explained)[0]["Plan"]
                for table in ("posting_list", "value_dated_entry"):
                    read = list(reads_of(plan, table))
                    kinds = {scan["Node Type"] for scan in read if scan["Actual Rows"]}
                    assert "Seq Scan" not in kinds, (name, before, mode, table)
                entries = sum(
                    node["Actual Rows"] * node["Actual Loops"]
                    + node.get("Rows Removed by Filter", 0) * node["Actual Loops"]
                    for node in unnested(plan)
                )
                assert entries <= 60_000, (name, before, mode, entries)
    await connection.close()


FILL_DAY_SUMS = """
insert into ledger.day_delta
select 'simulated', 7, day, day, $1 / 360, 0 from (select '2026-01-01'::date + n as day
  from generate_series(0, 359) as n) as days
"""


_FILL_BACKDATED = """
insert into ledger.value_dated_entry
select 'simulated', 9, '2025-01-01'::date + (seq % 100)::int, seq, 0, 1 + seq % 97
  from generate_series(1, $1::bigint) as seq
"""


async def test_a_page_of_days_that_were_backdated_again_and_again_looks_at_the_newest_of_each(
    ledger_database: LedgerDatabase,
) -> None:
    connection = await asyncpg.connect(ledger_database.owner_url)
    for fill in (_FILL_VALUE_DATED, _FILL_BACKDATED, FILL_DAYS):
        await connection.execute(fill.replace("$1", str(ROWS)))
    await connection.execute("vacuum analyze ledger.value_dated_entry")
    first = dt.date(2025, 1, 1)
    for days in (1, 30, 365):
        last = first + dt.timedelta(days=days - 1)
        for filters in (
            entry_list.Filters(first_day=first, last_day=last),
            entry_list.Filters(first_day=first, last_day=last, side="credit"),
        ):
            sql, arguments = entry_list.question("simulated", 9, filters, ROWS, LIMIT)
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"set plan_cache_mode = {mode}")
                explained = await connection.fetchval(
                    f"explain (analyze, format json) {sql}", *arguments
                )
                plan = json.loads(explained)[0]["Plan"]
                looked = sum(
                    (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
                    * node["Actual Loops"]
                    for node in reads_of(plan, "value_dated_entry")
                )
                # and once for each day, to find the next one
                assert looked <= min(20_000, days * ROWS / 100) + 3 * days, (filters, mode, looked)
    await connection.close()


_FILL_ACCOUNT = """
with opened as (
  insert into ledger.account values ('simulated', 'bank:fbo', 7, 'USD', 'asset', 'debit', true, '1010',
                                     null, null, null, 'open', 7))
insert into ledger.balance values ('simulated', 7, $1, 0, 0, 0, $1)
"""


async def test_a_question_of_the_whole_ledger_reads_single_entries_of_two_days_alone(
    ledger_database: LedgerDatabase,
) -> None:
    connection = await asyncpg.connect(ledger_database.owner_url)
    for fill in (FILL_LISTS, FILL_DAYS, FILL_DAY_SUMS, _FILL_ACCOUNT):
        await connection.execute(fill.replace("$1", str(ROWS)))
    await connection.execute(
        f"insert into ledger.projection values ('simulated', 'history', {ROWS})"
    )
    await connection.execute("vacuum analyze ledger.posting_list, ledger.day_delta")
    day = ROWS // 360
    for seq in (day // 3, ROWS // 2 + day // 3, ROWS // 2 + 2 * day // 3):
        at = await as_of.resolve(connection, "simulated", seq, effective_date=MAY)
        for sql, *arguments in (
            (as_of.ACCOUNTS_AS_OF, *as_of.arguments("simulated", at)),
            (standing.BALANCES_AT, "simulated", seq),
        ):
            explained = await connection.fetchval(
                f"explain (analyze, format json) {sql}", *arguments
            )
            entries = sum(
                (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
                for node in unnested(json.loads(explained)[0]["Plan"])
            )
            # of lists of a thousand that touch the day; of all there are
            assert 0 < entries <= 2 * (day + 2_000) < ROWS / 10, (seq, entries)
    await connection.close()


def unnested(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that look at single entries of lists."""
    if plan["Node Type"] == "Function Scan":
        yield plan
    for part in plan.get("Plans", []):
        yield from unnested(part)
