"""What interest rests on: an account's balances by effective day, and what has accrued before."""

from __future__ import annotations

from typing import Any

from ledger_service.contract.events import RuleDeclared
from ledger_service.domain.book import Book
from ledger_service.domain.interest import Accruals, Accruing
from ledger_service.domain.memory import Lacks
from ledger_service.domain.period import LAST_DAY
from ledger_service.engine import accrual_sql
from ledger_service.engine.accrual_sql import Pair, applied_in, columns, dates, days_in, moved_in
from ledger_service.engine.event_sql import entries
from ledger_service.engine.projections import HISTORY

_LAST = accrual_sql.last("$2", "$3", at="$4::bigint")
_FOLLOWED = (
    "(select coalesce(max(seq), 0) from ledger.projection "
    f"where ledger = $1 and name = '{HISTORY.name}')"
)
_LATE = accrual_sql.late("$2", "$3", "$4", "$5", at="$6::bigint", followed=_FOLLOWED)
_DAYS = accrual_sql.days("$2", "$3", "$4", at="$5::bigint")

# What moved each account on each day from one on: day sums as far as the history has come, and what
# it does not hold yet from the journal. One statement, so both are of one moment.
_MOVEMENTS = f"""
  with wanted as materialized (
    select number, min(since) as since
      from unnest($2::bigint[], $3::date[]) as w (number, since) group by number),
  history as materialized (select {_FOLLOWED} as seq),
  moved as (
    select d.number, d.effective_date, d.debits - d.credits as amount
      from wanted w join ledger.day_delta d
        on d.ledger = $1 and d.number = w.number and d.effective_date >= w.since
    union all
    select w.number, e.effective_date, e.amount
      from ({entries("(select seq from history)")}) as e
           join wanted w on w.number = e.number and e.effective_date >= w.since)
  select number, effective_date, sum(amount) as amount from moved group by 1, 2
"""


async def load(connection: Any, book: Book, lacks: Lacks) -> Accruals:
    """For rules and accounts, what an accrual rests on. Nothing is being committed meanwhile.

    Nothing for an account that is not there, or a rule that is not of interest.
    """
    names = {
        (rule, book.accounts[name].number): name
        for rule, name in lacks.accruals
        if name in book.accounts
    }
    found = {pair: Accruing(_first_day(book, pair[0]), since=LAST_DAY) for pair in names}
    await _load_accrued(connection, book, found)
    sinces = {pair: min([one.first, lacks.earliest, *one.late]) for pair, one in found.items()}
    moved = moved_in(
        await connection.fetch(_MOVEMENTS, book.ledger, columns(sinces)[1], dates(sinces.values()))
    )
    earlier = {pair: day for pair, day in sinces.items() if day < found[pair].first}
    days = days_in(
        await connection.fetch(
            _DAYS, book.ledger, *columns(earlier), dates(earlier.values()), book.seq
        )
        if earlier
        else ()
    )
    accruals: Accruals = {}
    for (rule, number), name in names.items():
        pair, account = (rule, number), book.accounts[name]
        balance = account.debits - account.credits
        found[pair].reach_back(sinces[pair], balance, moved.get(number, {}), days.get(pair, ()))
        accruals.setdefault(name, {})[rule] = found[pair]
    return accruals


async def _load_accrued(connection: Any, book: Book, found: dict[Pair, Accruing]) -> None:
    """What has accrued, and what came since on days before."""
    for row in await connection.fetch(_LAST, book.ledger, *columns(found), book.seq):
        found[row["rule"], row["number"]].take(row["seq"], applied_in(row["bytes"]))
    accrued = {pair: one for pair, one in found.items() if one.accrued is not None}
    if not accrued:
        return
    for row in await connection.fetch(
        _LATE,
        book.ledger,
        *columns(accrued),
        [one.days[-1].seq for one in accrued.values()],
        dates(one.first for one in accrued.values()),
        book.seq,
    ):
        late = found[row["rule"], row["number"]].late
        late[row["effective_date"].isoformat()] = int(row["amount"])


def _first_day(book: Book, rule: str) -> str:
    return min(one.since for one in book.rules[rule] if isinstance(one, RuleDeclared))
