"""An account's entries by declared filters, newest first, in pages that lose and repeat none.

They are read from the account's posting lists, downwards by `seq`. No index knows side and amount,
so a page looks at a bounded number of entries: where few fit it is short, and says where the next one
goes on. With a range of effective days only what was recorded on those days is looked at, and the
value-dated entries of the range, which have an index by day: the newest of each day, a bounded number.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal

import msgspec

from ledger_service.contract.events import TransactionPosted
from ledger_service.engine import projector
from ledger_service.engine.reads import LAST_SEQ

EXAMINED_LISTS = 5_000
"""Posting lists that a page may look at ..."""
EXAMINED_BYTES = 160_000
"""... as long as the `seqs` before the last of them are stored in so many: those of 20,000 entries, or
of some more where PostgreSQL has compressed them. To count entries it would have to read them all."""
EXAMINED_VALUE_DATED = 20_000
"""Value-dated entries that a page may look at: as many of each day."""


class Filters(msgspec.Struct, frozen=True):
    """What entries must be, all of it; None asks for nothing."""

    side: Literal["debit", "credit"] | None = None
    least: int | None = None
    """Amount in minor units, with it."""
    most: int | None = None
    first_day: dt.date | None = None
    """Effective day, with it."""
    last_day: dt.date | None = None
    after_seq: int = 0
    until_seq: int = LAST_SEQ
    """Recorded range, as `seq`: past the first, up to and with the second."""


class Page(msgspec.Struct, frozen=True):
    """Rows of seq, entry_no, signed amount and the transaction's bytes."""

    rows: list[Any]
    following: int | None
    """The next page has what comes before this `seq`; None: there is no more."""


async def find(
    connection: Any,
    ledger: str,
    number: int,
    filters: Filters,
    *,
    before: int = LAST_SEQ,
    limit: int,
    head: int,
) -> Page:
    """A page of entries with `seq` below `before`; those of one transaction are never parted.

    Sees all up to `head`. Errors: `ProjectionBehind`.
    """
    await projector.caught_up(connection, ledger, head)
    sql, arguments = question(ledger, number, filters, before, limit)
    found = await connection.fetch(sql, *arguments)
    rows = [row for row in found if row["seq"] is not None]
    if len(rows) >= limit:
        return Page(rows, rows[-1]["seq"])
    return Page(rows, found[0]["looked_to"])


# $1 ledger, $2 account's number, $3 and $4 seq past which and up to which, $5 and $6 first and last
# effective day, $7 and $8 bounds of the signed amount's size, $9 sign of the amounts (0: either),
# $10 entries wanted, $11 and $12 lists and bytes that may be looked at.
# `span` is what of that was recorded on the days asked for; what counts on them and was recorded on
# others is value-dated. A row of lists holds the entries of one step: the row around an edge may hold
# some on either side. The first one looked at has some, or a page might not go on.
# `looked_to` is where looking was given up, null where all was seen.
_PAGE = """
  with recursive span as materialized (
    select greatest($3::bigint, (select min(first_seq) - 1 from ledger.recorded_day
                                  where ledger = $1 and recorded_date >= $5)) as past,
           least($4::bigint, (select min(first_seq) - 1 from ledger.recorded_day
                               where ledger = $1 and recorded_date > $6)) as until
     where exists (select from ledger.recorded_day
                    where ledger = $1 and recorded_date between $5 and $6)),
  list as materialized (
    select *, sum(pg_column_size(seqs)) over newest - pg_column_size(seqs) as before,
           row_number() over newest as place
      from (select last_seq, seqs, entry_nos, amounts, effective_dates from ledger.posting_list
             where ledger = $1 and number = $2 and last_seq > (select past from span)
               and last_seq <= coalesce((select min(last_seq) from ledger.posting_list
                     where ledger = $1 and number = $2 and last_seq >= (select until from span)),
                   (select until from span))
               and (last_seq <= (select until from span) or seqs[1] <= (select until from span))
             order by last_seq desc limit $11) as lists
    window newest as (order by last_seq desc)),
  looked as materialized (
    select min(seqs[1]) filter (where before < $12) as at,
           bool_or(before >= $12 or place = $11) as stopped from list),
  {value_dated}
  edge as materialized (
    select greatest((select case when stopped and at > past + 1 then at end from looked, span),
                    (select max(at) from looked_beside)) as looked_to),
  entry as (
    select u.seq, u.entry_no, u.amount
      from list cross join lateral unnest(seqs, entry_nos, amounts, effective_dates)
             as u (seq, entry_no, amount, effective_date)
     where before < $12 and u.seq > (select past from span) and u.seq <= (select until from span)
       and u.effective_date between $5 and $6
    union all
    select seq, entry_no, amount from beside),
  wanted as (
    select * from entry
     where seq >= coalesce((select looked_to from edge), 0)
       and abs(amount) between $7 and $8 and $9::int in (0, sign(amount))),
  page as (select seq from wanted order by seq desc, entry_no limit $10)
  select w.*, j.bytes, e.looked_to
    from edge e left join wanted w on w.seq >= (select min(seq) from page)
         left join ledger.journal j on j.ledger = $1 and j.seq = w.seq
   order by w.seq desc, w.entry_no
"""

# What counts on the days asked for and was recorded after or before them. $13 entries that may be
# looked at: of each day its share, the newest, and the rest of a transaction that would be parted.
_VALUE_DATED = """
  day (effective_date) as (
    select min(effective_date) from ledger.value_dated_entry
     where ledger = $1 and number = $2 and effective_date between $5 and $6
    union all
    select (select min(v.effective_date) from ledger.value_dated_entry v
             where v.ledger = $1 and v.number = $2
               and v.effective_date > day.effective_date and v.effective_date <= $6)
      from day where effective_date is not null),
  part as materialized (
    select effective_date, past, until
      from day cross join (
             select $3::bigint as past, least($4, (select past from span)) as until
             union all select greatest($3, until), $4 from span) as recorded
     where effective_date is not null and past < until),
  share as materialized (select greatest($13::bigint / greatest(count(*), 1), 1) as size from part),
  beside as materialized (
    select p.effective_date, p.past, v.*
      from part p cross join lateral (
        select v.seq, v.entry_no, v.amount from ledger.value_dated_entry v
         where v.ledger = $1 and v.number = $2 and v.effective_date = p.effective_date
           and v.seq > p.past and v.seq <= p.until
         order by v.seq desc fetch first (select size from share) rows with ties) as v),
  looked_beside as (
    select min(seq) as at from beside group by effective_date, past
    having count(*) >= (select size from share)),
"""
_NOTHING_BESIDE = """
  beside as (select null::bigint as seq, null::smallint as entry_no, null::bigint as amount where false),
  looked_beside as (select null::bigint as at where false),
"""


def question(
    ledger: str, number: int, filters: Filters, before: int, limit: int
) -> tuple[str, list[Any]]:
    """The statement of a page and its parameters."""
    has_days = filters.first_day is not None or filters.last_day is not None
    looks_on = filters.side is not None or filters.least is not None or filters.most is not None
    arguments: list[Any] = [
        ledger,
        number,
        filters.after_seq,
        min(filters.until_seq, before - 1),
        filters.first_day or dt.date.min,
        filters.last_day or dt.date.max,
        filters.least or 1,
        LAST_SEQ if filters.most is None else filters.most,
        {"debit": 1, "credit": -1, None: 0}[filters.side],
        limit,
        # Each list has an entry, so without a filter there is no need for more.
        EXAMINED_LISTS if looks_on or has_days else limit + 1,
        EXAMINED_BYTES,
    ]
    if not has_days:
        return _PAGE.format(value_dated=_NOTHING_BESIDE), arguments
    return _PAGE.format(value_dated=_VALUE_DATED), [*arguments, EXAMINED_VALUE_DATED]


def entry_of(row: Any) -> dict[str, Any]:
    """An entry as it is shown, from its place, its signed amount and its transaction's bytes."""
    event = msgspec.json.decode(row["bytes"], type=TransactionPosted)
    return {
        "seq": row["seq"],
        "entry_no": row["entry_no"],
        "side": "debit" if row["amount"] > 0 else "credit",
        "amount": str(abs(row["amount"])),
        "currency": event.entries[row["entry_no"]].currency,
        "kind": event.kind,
        "effective_at": event.effective_at,
        "effective_date": event.effective_date,
        "business_date": event.business_date,
        "recorded_at": event.recorded_at,
        "reverses": event.reverses,
    }
