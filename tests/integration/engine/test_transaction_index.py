"""Each declared filter is answered from an index, in the order of its pages, however many rows there are."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from typing import Any

import asyncpg

from ledger_service.engine import as_of, entry_list, standing
from ledger_service.engine.transaction_index import Filters, question
from tests.servers import LedgerDatabase

ROWS = int(os.environ.get("ROWS", "60000"))
"""The short form; `make test-history` asks the same at a million."""
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
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
    "recorded between": Filters(after_seq=ROWS // 4, until_seq=ROWS // 2),
    "recorded between, of a channel": Filters(channel="ach", until_seq=ROWS // 2),
}
EXAMINED_MAX = 40 * LIMIT
"""Rows that a page of 100 may look at."""


async def _filled(database: LedgerDatabase) -> asyncpg.Connection:
    connection = await asyncpg.connect(database.owner_url)
    await connection.execute(_FILL.replace("$1", str(ROWS)))
    await connection.execute(_FILL_METADATA.replace("$1", str(ROWS)))
    await connection.execute("vacuum analyze ledger.transaction, ledger.transaction_metadata")
    return connection


def scans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The nodes of a plan that read the index of transactions."""
    if plan.get("Relation Name") in ("transaction", "transaction_metadata"):
        yield plan
    for part in plan.get("Plans", []):
        yield from scans(part)


async def test_no_question_reads_the_whole_table(ledger_database: LedgerDatabase) -> None:
    connection = await _filled(ledger_database)
    for name, filters in QUESTIONS.items():
        middle = (MIDDLE if filters.by_effective_time else None, ROWS // 2)
        for before in (None, middle):
            sql, arguments = question("simulated", filters, before, LIMIT)
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"set plan_cache_mode = {mode}")
                explained = await connection.fetchval(
                    f"explain (analyze, format json) {sql}", *arguments
                )
                read = list(scans(json.loads(explained)[0]["Plan"]))
                kinds = {scan["Node Type"] for scan in read}
                assert kinds <= {"Index Scan", "Index Only Scan"}, (name, before, mode, kinds)
                examined = sum(
                    (scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0))
                    * scan["Actual Loops"]
                    for scan in read
                )
                assert examined <= EXAMINED_MAX, (name, before, mode, examined)
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
