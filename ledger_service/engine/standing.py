"""Every account's balances as known with a `seq`, whenever it counts; no wait for what follows.

They stand at the head, so what was posted since is taken off: the sums of the days recorded later,
single entries of the day of that `seq` alone, and what the history does not hold yet from the journal.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from ledger_service.engine.event_sql import entries, listed

# $1 ledger, $2 seq. Of the day of `seq` (the history's last one, where it has not come so far) either
# what came behind it is taken off, or the whole day, and what came up to it added again: the fewer.
# On the history's last day the former is the end of all posting lists, and is found as such: to ask
# each account for what it has there takes as many looks as there are accounts. What moved is added up
# instead of joined: a planner without statistics would compare each account with each.
BALANCES_AT = f"""
  with followed as materialized (
    select coalesce(max(seq), 0) as seq from ledger.projection where ledger = $1 and name = 'history'),
  day as materialized (
    select d.recorded_date, d.first_seq, coalesce(
             (select min(n.first_seq) - 1 from ledger.recorded_day n
               where n.ledger = $1 and n.first_seq > d.first_seq), f.seq) as last_seq
      from ledger.recorded_day d cross join followed f
     where d.ledger = $1 and d.first_seq <= $2 order by d.first_seq desc limit 1),
  edge as materialized (
    select recorded_date, recorded_date + 1 as whole_from, $2 + 1 as first, last_seq as last, 1 as sign,
           last_seq = (select seq from followed) as at_the_end
      from day where last_seq - $2 <= $2 - first_seq
    union all
    select recorded_date, recorded_date, first_seq, $2, -1, false
      from day where last_seq - $2 > $2 - first_seq),
  moved as (
    select number, debits, credits from ledger.day_delta
     where ledger = $1 and recorded_date >= (select whole_from from edge)
    union all
    select number, sign * greatest(amount, 0), sign * greatest(-amount, 0)
      from ({
    listed(
        "(select distinct number from ledger.day_delta where ledger = $1 "
        "and recorded_date = (select recorded_date from edge where not at_the_end))",
        "(select first from edge)",
        "(select last from edge)",
    )
}) as single cross join edge
    union all
    select p.number, greatest(u.amount, 0), greatest(-u.amount, 0)
      from ledger.posting_list p cross join lateral unnest(p.seqs, p.amounts) as u (seq, amount)
     where p.ledger = $1 and p.last_seq > $2 and u.seq > $2
       and (select at_the_end from edge)
    union all
    select number, greatest(amount, 0), greatest(-amount, 0)
      from ({entries("greatest($2, (select seq from followed))")}) as behind)
  select max(account) as account, max(currency) as currency, max(gl_code) as gl_code,
         max(account_class) as account_class, bool_or(custodial) as custodial,
         sum(debits) as debits, sum(credits) as credits
    from (select number, a.account, a.currency, a.gl_code, a.account_class, a.custodial,
                 b.debits, b.credits
            from ledger.account a join ledger.balance b using (ledger, number)
           where a.ledger = $1 and a.number <= $2
          union all
          select number, null, null, null, null, null, -debits, -credits from moved) as standing
   group by number having max(account) is not null
"""


def balances(connection: Any, ledger: str, seq: int) -> AsyncIterator[dict[str, Any]]:
    """Every account's debits and credits, by id. `connection`: for itself alone."""
    return by_account(connection, BALANCES_AT, ledger, seq)


async def trial_balance(connection: Any, ledger: str, seq: int) -> list[Any]:
    """Debits and credits by gl_code, class and kind of money, as rows."""
    return await by_code(connection, BALANCES_AT, ledger, seq)


async def by_account(
    connection: Any, accounts: str, *arguments: Any
) -> AsyncIterator[dict[str, Any]]:
    """What the select `accounts` gives of each, by id. `connection`: for itself alone."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        async for row in connection.cursor(
            accounts + " order by account", *arguments, prefetch=2000
        ):
            yield {
                "account": row["account"],
                "currency": row["currency"],
                "debits": str(int(row["debits"])),
                "credits": str(int(row["credits"])),
            }


async def by_code(connection: Any, accounts: str, *arguments: Any) -> list[Any]:
    """The same by gl_code, class and kind of money, as rows."""
    return await connection.fetch(
        "select gl_code, account_class, custodial, currency, sum(debits) as debits, "
        f"sum(credits) as credits from ({accounts}) as accounts "
        "group by 1, 2, 3, 4 order by 1, 2, 3, 4",
        *arguments,
    )
