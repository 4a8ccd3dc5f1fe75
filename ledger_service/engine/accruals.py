"""What interest rests on: an account's balances by effective day, and what has accrued before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Any

from ledger_service.contract.events import RuleDeclared, TransactionPosted, decode_journal
from ledger_service.domain.book import Book
from ledger_service.domain.interest import Accruals, Accrued, accrued_of, begin
from ledger_service.domain.period import following
from ledger_service.engine.event_sql import entries
from ledger_service.engine.projections import HISTORY

# The last event that accrued or capitalized, of each rule and account asked for.
_LAST = """
  select w.rule, w.number, j.bytes
    from unnest($2::text[], $3::bigint[]) as w (rule, number)
         cross join lateral (
           select seq from ledger.accrual a
            where a.ledger = $1 and a.rule = w.rule and a.number = w.number
            order by seq desc limit 1) as last
         join ledger.journal j on j.ledger = $1 and j.seq = last.seq
"""

# What moved each account on each day from its first one on: day sums as far as the history has
# come, and what it does not hold yet from the journal. One statement, so both are of one moment.
_MOVEMENTS = f"""
  with wanted as materialized (
    select number, min(first) as first
      from unnest($3::bigint[], $4::date[]) as w (number, first) group by number),
  history as materialized (
    select coalesce(max(seq), 0) as seq from ledger.projection where ledger = $1 and name = $2),
  moved as (
    select d.number, d.effective_date, d.debits - d.credits as amount
      from wanted w join ledger.day_delta d
        on d.ledger = $1 and d.number = w.number and d.effective_date >= w.first
    union all
    select w.number, e.effective_date, e.amount
      from ({entries("(select seq from history)")}) as e
           join wanted w on w.number = e.number and e.effective_date >= w.first)
  select number, effective_date, sum(amount) as amount from moved group by 1, 2
"""


async def load(connection: Any, book: Book, wanted: Iterable[tuple[str, str]]) -> Accruals:
    """For rules and accounts, what an accrual rests on. Nothing is being committed meanwhile.

    Nothing for an account that is not there, or a rule that is not of interest.
    """
    numbers = {
        (rule, name): book.accounts[name].number for rule, name in wanted if name in book.accounts
    }
    before = await _accrued(connection, book.ledger, numbers)
    firsts = {
        pair: following(before[pair].through) if pair in before else _first_day(book, pair[0])
        for pair in numbers
    }
    moved: dict[int, dict[str, int]] = {}
    for row in await connection.fetch(
        _MOVEMENTS,
        book.ledger,
        HISTORY.name,
        list(numbers.values()),
        [dt.date.fromisoformat(firsts[pair]) for pair in numbers],
    ):
        days = moved.setdefault(row["number"], {})
        days[row["effective_date"].isoformat()] = int(row["amount"])
    found: Accruals = {}
    for (rule, name), number in numbers.items():
        account, first = book.accounts[name], firsts[rule, name]
        found.setdefault(name, {})[rule] = begin(
            first, account.debits - account.credits, moved.get(number, {}), before.get((rule, name))
        )
    return found


async def _accrued(
    connection: Any, ledger: str, numbers: dict[tuple[str, str], int]
) -> dict[tuple[str, str], Accrued]:
    rules = [rule for rule, _ in numbers]
    rows = await connection.fetch(_LAST, ledger, rules, list(numbers.values()))
    found: dict[tuple[str, str], Accrued] = {}
    for row in rows:
        event = decode_journal(row["bytes"])
        if isinstance(event, TransactionPosted) and event.applied is not None:
            found[event.applied.rule, event.applied.account] = accrued_of(event.applied)
    return found


def _first_day(book: Book, rule: str) -> str:
    return min(one.since for one in book.rules[rule] if isinstance(one, RuleDeclared))
