"""Each declared filter is answered from an index, in the order of its pages, however many rows there are."""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator
from typing import Any

import asyncpg

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
