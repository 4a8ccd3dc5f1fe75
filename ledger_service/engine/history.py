"""Rows of what follows the journal, from batches as they were decided.

The same rows as the SQL of `projections.HISTORY` makes of the journal; verification compares them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from ledger_service.engine import copy_format, fast
from ledger_service.engine.batch import Batch
from ledger_service.engine.copy_format import DaySum, Posting
from ledger_service.engine.projections import BITMAP_EVENTS

_SET = ord("1")
_ACCOUNTS_AT_ONCE = 1024
"""Followed before the writer, whose processor this is, gets it again."""

_ADD_TO_DAYS = (
    "insert into ledger.day_delta as t "
    "(ledger, number, effective_date, recorded_date, debits, credits) "
    "select $1, n.number, n.day, $2, n.debits, n.credits "
    "from unnest($3::text::bigint[], $4::text::date[], $5::text::numeric[], $6::text::numeric[]) "
    "as n (number, day, debits, credits) "
    "on conflict (ledger, number, effective_date, recorded_date) do update "
    "set debits = t.debits + excluded.debits, credits = t.credits + excluded.credits"
)

_ADD_TO_BITMAPS = (
    "insert into ledger.transaction_bitmap as t (ledger, field, value, block, bits) "
    f"select $1, n.field, n.value, n.block, n.bits::bit({BITMAP_EVENTS}) "
    "from unnest($2::text[], $3::text[], $4::bigint[], $5::text[]) as n (field, value, block, bits) "
    "on conflict (ledger, field, value, block) do update set bits = t.bits | excluded.bits"
)


async def write(connection: Any, batches: Sequence[Batch]) -> None:
    """Write what follows from batches that come one after the other, recorded on one day.

    In the caller's transaction, which moves the history's position.
    """
    ledger, recorded_date = batches[0].ledger, batches[0].recorded_date
    day = dt.date.fromisoformat(recorded_date)
    await connection.execute(
        "insert into ledger.recorded_day values ($1, $2, $3) on conflict do nothing",
        ledger,
        day,
        batches[0].first_seq + 1,
    )
    rows, sums, dated = await _derived(ledger, recorded_date, await _together(batches))
    await _copy(connection, "posting_list", rows)
    if sums:
        numbers, days, debited, credited = map(list, zip(*sums, strict=True))
        await connection.execute(
            _ADD_TO_DAYS,
            ledger,
            day,
            fast.array(numbers),
            "{" + ",".join(days) + "}",
            fast.array(debited),
            fast.array(credited),
        )
    await _copy_records(connection, "value_dated_entry", dated)
    await _copy(connection, "transaction", [row for batch in batches for row in batch.transactions])
    if bitmaps := await _bitmaps(batches):
        fields, values, blocks = zip(*bitmaps, strict=True)
        bits = [f"{found:0{BITMAP_EVENTS}b}" for found in bitmaps.values()]
        await connection.execute(_ADD_TO_BITMAPS, ledger, fields, values, blocks, bits)
    value_dated = [row for batch in batches for row in batch.value_dated]
    await _copy_records(connection, "value_dated_transaction", value_dated)
    metadata = [row for batch in batches for row in batch.metadata]
    await _copy_records(connection, "transaction_metadata", metadata)


async def _together(batches: Sequence[Batch]) -> dict[int, list[Posting]]:
    """The entries of all batches, by number of the account."""
    if len(batches) == 1:
        return batches[0].postings
    found: dict[int, list[Posting]] = {}
    for batch in batches:
        for number, postings in batch.postings.items():
            if number in found:
                found[number] += postings
            else:
                found[number] = postings.copy()
        await asyncio.sleep(0)
    return found


Dated = tuple[str, int, dt.date, int, int, int]
"""An entry that counts for another day than the one on which it was recorded."""


async def _derived(
    ledger: str, recorded_date: str, postings: dict[int, list[Posting]]
) -> tuple[list[bytes], list[DaySum], list[Dated]]:
    """Posting lists, day sums and value-dated entries, in the order of accounts, as indexes like it."""
    rows: list[bytes] = []
    sums: list[DaySum] = []
    row, accounts = fast.PostingRow(ledger), sorted(postings)
    for start in range(0, len(accounts), _ACCOUNTS_AT_ONCE):
        numbers = accounts[start : start + _ACCOUNTS_AT_ONCE]
        fast.follow(row, [(number, postings[number]) for number in numbers], rows, sums)
        await asyncio.sleep(0)
    dated = [
        (ledger, number, dt.date.fromisoformat(day), seq, entry_no, amount)
        for number, day, _, _ in sums
        if day != recorded_date
        for seq, entry_no, amount, of_day in postings[number]
        if of_day == day
    ]
    return rows, sums, dated


async def _bitmaps(batches: Sequence[Batch]) -> dict[tuple[str, str, int], int]:
    """Bits of the transactions by field, value and block; the highest is that of the block's first."""
    found: defaultdict[tuple[str, str, int], int] = defaultdict(int)
    for batch in batches:
        for (kind, channel), seqs in batch.sorts.items():
            for block, bits in _by_block(seqs):
                for field, value in (
                    ("kind", kind),
                    ("channel", channel),
                    ("effective_at", "recorded_at"),
                ):
                    found[field, value, block] |= bits
        for block, bits in _by_block([seq for _, _, seq in batch.value_dated]):
            found["effective_at", "recorded_at", block] &= ~bits
        await asyncio.sleep(0)
    return {place: bits for place, bits in found.items() if bits}


def _by_block(seqs: list[int]) -> Iterator[tuple[int, int]]:
    """The blocks of ascending `seqs`, each with its bits."""
    start = 0
    while start < len(seqs):
        block = seqs[start] // BITMAP_EVENTS
        end = bisect_left(seqs, (block + 1) * BITMAP_EVENTS, start)
        bits = bytearray(b"0" * BITMAP_EVENTS)
        for seq in seqs[start:end]:
            bits[seq % BITMAP_EVENTS] = _SET
        yield block, int(bits, 2)
        start = end


async def _copy_records(connection: Any, table: str, records: list[tuple[Any, ...]]) -> None:
    if records:
        await connection.copy_records_to_table(table, schema_name="ledger", records=records)


async def _copy(connection: Any, table: str, rows: list[bytes]) -> None:
    if rows:
        await connection.copy_to_table(
            table, schema_name="ledger", source=copy_format.stream(rows), format="binary"
        )
