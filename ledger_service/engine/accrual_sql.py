"""What accruals rest on, as SQL and as its rows, for the writer and for verification.

`at`: the `seq` at which the journal stands; `followed`: the one at which the history does. All are
expressions, and each list of rules goes with one of their accounts' numbers.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Any

from ledger_service.contract.events import TransactionPosted, decode_journal
from ledger_service.contract.rules import Applied
from ledger_service.domain.interest import Days, days_of
from ledger_service.engine.event_sql import entries

Pair = tuple[str, int]
"""A rule, and an account's number."""
Rows = Iterable[Mapping[str, Any]]


def last(rules: str, numbers: str, *, at: str, ledger: str = "$1") -> str:
    """A select of the last two events that accrued or capitalized, of each rule and account.

    One of the two accrued: where nothing has accrued since, nothing is capitalized.
    """
    return f"""
      select w.rule, w.number, l.seq, j.bytes
        from unnest({rules}::text[], {numbers}::bigint[]) as w (rule, number)
             cross join lateral (
               select seq from ledger.accrual a
                where a.ledger = {ledger} and a.rule = w.rule and a.number = w.number
                  and a.seq <= {at}
                order by seq desc limit 2) as l
             join ledger.journal j on j.ledger = {ledger} and j.seq = l.seq
       order by l.seq
    """


def late(
    rules: str,
    numbers: str,
    lasts: str,
    firsts: str,
    *,
    at: str,
    followed: str,
    ledger: str = "$1",
) -> str:
    """A select of what moved each account on days before one of `firsts`, by entries that came since
    the last accrual, whose `seq` is in `lasts`.

    They count for another day than the one on which they were recorded, so each is listed singly; day
    sums say on which days there are any.
    """
    return f"""
      with wanted as materialized (
        select * from unnest({rules}::text[], {numbers}::bigint[], {lasts}::bigint[], {firsts}::date[])
          as w (rule, number, last, first)),
      known as (
        select w.rule, w.number, v.effective_date, v.amount
          from wanted w
               cross join lateral (
                 select recorded_date from ledger.recorded_day
                  where ledger = {ledger} and first_seq <= w.last
                  order by recorded_date desc limit 1) as day
               cross join lateral (
                 select distinct effective_date from ledger.day_delta d
                  where d.ledger = {ledger} and d.number = w.number
                    and d.effective_date < w.first and d.recorded_date >= day.recorded_date) as touched
               join ledger.value_dated_entry v
                 on v.ledger = {ledger} and v.number = w.number
                and v.effective_date = touched.effective_date and v.seq between w.last and {at}
        union all
        select w.rule, w.number, e.effective_date, e.amount
          from ({entries(followed, at, ledger)}) as e
               join wanted w on w.number = e.number and w.last <= e.seq
                            and e.effective_date < w.first)
      select rule, number, effective_date, sum(amount) as amount from known group by 1, 2, 3
    """


def days(rules: str, numbers: str, sinces: str, *, at: str, ledger: str = "$1") -> str:
    """A select of the events that accrued days from one of `sinces` on, and of few others.

    A day is accrued when it is over, so on none before it.
    """
    return f"""
      select w.rule, w.number, a.seq, j.bytes
        from unnest({rules}::text[], {numbers}::bigint[], {sinces}::date[]) as w (rule, number, since)
             join ledger.accrual a
               on a.ledger = {ledger} and a.rule = w.rule and a.number = w.number and a.seq <= {at}
              and a.seq >= coalesce((select min(first_seq) from ledger.recorded_day d
                                      where d.ledger = {ledger} and d.recorded_date > w.since), 0)
             join ledger.journal j on j.ledger = {ledger} and j.seq = a.seq
       order by a.seq
    """


def columns(pairs: Iterable[Pair]) -> tuple[list[str], list[int]]:
    """Lists of rules and numbers."""
    pairs = list(pairs)
    return [rule for rule, _ in pairs], [number for _, number in pairs]


def dates(days: Iterable[str]) -> list[dt.date]:
    """A list of days."""
    return [dt.date.fromisoformat(day) for day in days]


def applied_in(content: bytes) -> Applied:
    """What an event that accrued or capitalized says. Errors: ValueError for any other."""
    event = decode_journal(content)
    if not isinstance(event, TransactionPosted) or event.applied is None:
        raise ValueError(f"event {event.seq} accrues nothing")
    return event.applied


def days_in(rows: Rows) -> dict[Pair, list[Days]]:
    """By rule and number, what events accrued."""
    found: dict[Pair, list[Days]] = {}
    for row in rows:
        applied = applied_in(row["bytes"])
        if applied.first_day is not None:
            days = found.setdefault((row["rule"], row["number"]), [])
            days.append(days_of(row["seq"], applied))
    return found


def moved_in(rows: Rows) -> dict[int, dict[str, int]]:
    """By number and day, what moved accounts."""
    found: dict[int, dict[str, int]] = {}
    for row in rows:
        found.setdefault(row["number"], {})[row["effective_date"].isoformat()] = int(row["amount"])
    return found
