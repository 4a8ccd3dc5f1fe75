"""Rows of what follows the journal, from batches as they were decided.

The same rows as the SQL of `projections.HISTORY` makes of the journal; verification compares them.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from ledger_service.contract.events import TransactionPosted
from ledger_service.engine import copy_format
from ledger_service.engine.batch import Batch, Posting

_ROWS_AT_ONCE = 1024
"""Made before the writer, whose processor this is, gets it again ..."""
_EVENTS_AT_ONCE = 4096
"""... as are the rows of so many events."""

_ADD_TO_DAYS = (
    "insert into ledger.day_delta as t "
    "(ledger, number, effective_date, recorded_date, debits, credits) "
    "select $1, n.number, n.day, $2, n.debits, n.credits "
    "from unnest($3::text::bigint[], $4::text[]::date[], $5::text::numeric[], $6::text::numeric[]) "
    "as n (number, day, debits, credits) "
    "on conflict (ledger, number, effective_date, recorded_date) do update "
    "set debits = t.debits + excluded.debits, credits = t.credits + excluded.credits"
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
    postings = await _together(batches)
    await _copy(connection, "posting_list", await _posting_rows(ledger, postings))
    if sums := await _day_sums(postings):
        numbers, days, debited, credited = zip(*sums, strict=True)
        await connection.execute(
            _ADD_TO_DAYS,
            ledger,
            day,
            copy_format.array(numbers),
            days,
            copy_format.array(debited),
            copy_format.array(credited),
        )
    await _copy_records(
        connection, "value_dated_entry", _value_dated(ledger, recorded_date, postings)
    )
    posted = [event for batch in batches for event in batch.posted]
    for start in range(0, len(posted), _EVENTS_AT_ONCE):
        page = posted[start : start + _EVENTS_AT_ONCE]
        await _copy_records(connection, "transaction", _transactions(ledger, page))
        await _copy_records(connection, "transaction_metadata", _metadata(ledger, page))


Postings = dict[int, list[Posting]]
"""By number of the account."""


async def _together(batches: Sequence[Batch]) -> Postings:
    """The entries of all batches."""
    if len(batches) == 1:
        return batches[0].postings
    found: Postings = {}
    for batch in batches:
        for number, postings in batch.postings.items():
            if number in found:
                found[number] += postings
            else:
                found[number] = postings.copy()
        await asyncio.sleep(0)
    return found


async def _posting_rows(ledger: str, found: Postings) -> list[bytes]:
    """One row per account moved: its entries."""
    row, rows = copy_format.PostingRow(ledger), []
    for number, postings in found.items():
        seqs, entry_nos, amounts, days = zip(*postings, strict=True)
        rows.append(row.encode(number, seqs, entry_nos, amounts, [*map(_day_number, days)]))
        if len(rows) % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return rows


async def _day_sums(found: Postings) -> list[tuple[int, str, int, int]]:
    """By account and effective date: account, date, debits, credits."""
    sums: list[tuple[int, str, int, int]] = []
    for place, (number, postings) in enumerate(found.items(), 1):
        by_day: dict[str, tuple[int, int]] = {}
        for _, _, amount, day in postings:
            debits, credits_ = by_day.get(day, (0, 0))
            by_day[day] = (debits + amount, credits_) if amount > 0 else (debits, credits_ - amount)
        sums += [(number, day, *moved) for day, moved in by_day.items()]
        if place % _ROWS_AT_ONCE == 0:
            await asyncio.sleep(0)
    return sums


def _value_dated(ledger: str, recorded_date: str, found: Postings) -> list[tuple[Any, ...]]:
    """Entries that count for another day than the one on which they were recorded."""
    return [
        (ledger, number, dt.date.fromisoformat(day), seq, entry_no, amount)
        for number, postings in found.items()
        for seq, entry_no, amount, day in postings
        if day != recorded_date
    ]


def _transactions(ledger: str, events: Iterable[TransactionPosted]) -> list[tuple[Any, ...]]:
    """What transactions are looked for by."""
    return [
        (
            ledger,
            event.seq,
            _moment(event.effective_at),
            event.kind,
            event.context.channel,
            event.context.counterparty,
            event.context.rail_reference,
        )
        for event in events
    ]


def _metadata(ledger: str, events: Iterable[TransactionPosted]) -> list[tuple[str, str, str, int]]:
    return [
        (ledger, key, value, event.seq)
        for event in events
        if event.metadata
        for key, value in event.metadata.items()
    ]


_moment = functools.lru_cache(maxsize=4096)(dt.datetime.fromisoformat)


@functools.lru_cache(maxsize=4096)
def _day_number(text: str) -> int:
    return copy_format.day_number(dt.date.fromisoformat(text))


async def _copy_records(connection: Any, table: str, records: list[tuple[Any, ...]]) -> None:
    if records:
        await connection.copy_records_to_table(table, schema_name="ledger", records=records)


async def _copy(connection: Any, table: str, rows: list[bytes]) -> None:
    if rows:
        await connection.copy_to_table(
            table, schema_name="ledger", source=copy_format.stream(rows), format="binary"
        )
