"""Balances: the trial balance, customers' money over time, and single accounts."""

from __future__ import annotations

import datetime as dt
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import Response

from monitoring.console.access import require
from monitoring.console.charts import Day, chart
from monitoring.console.published import chosen_ledger, general, ledgers
from monitoring.console.render import page
from monitoring.marts import Published, Row

router = APIRouter()

SEARCH_MAX = 40
ENTRIES_PAGE = 100


@router.get("/balances", dependencies=[require("balances.view")])
def balances(
    request: Request, ledger: str | None = None, q: str = "", currency: str = ""
) -> Response:
    """The trial balance by GL code, customers' money and our own apart; a search of accounts."""
    marts = general(request)
    ledger = chosen_ledger(marts, ledger)
    lines = marts.rows(
        """
        select gl_code, account_class, normal_side, custodial, currency, exponent,
               count(*) as accounts, min(split_part(account, ':', 1)) as kind,
               string_agg(distinct split_part(account, ':', 1), ', ') as kinds,
               sum(debits) as debits, sum(credits) as credits, sum(balance) as balance,
               max(last_effective_date) as last_day
          from account_balances_current where ledger = $1
         group by all order by currency, custodial desc, gl_code
        """,
        [ledger],
    )
    # ISO 4217's before the ledger's own, which have four signs or more.
    currencies = sorted({line["currency"] for line in lines}, key=lambda code: (len(code), code))
    currency = currency if currency in currencies else (currencies[0] if currencies else "")
    shown = [line for line in lines if line["currency"] == currency]
    return page(
        request,
        "balances.html",
        ledger=ledger,
        ledgers=ledgers(marts),
        currency=currency,
        currencies=currencies,
        groups=[
            ("Customers’ money", "custodial", [line for line in shown if line["custodial"]]),
            ("Our own", "own", [line for line in shown if not line["custodial"]]),
        ],
        totals={side: sum(int(line[side]) for line in shown) for side in ("debits", "credits")},
        exponent=shown[0]["exponent"] if shown else 2,
        chart=_customer_money(marts, ledger, currency),
        q=q,
        found=_search(marts, ledger, q) if q else None,
        as_of=marts.manifest.as_of[ledger],
    )


def _customer_money(marts: Published, ledger: str, currency: str) -> Any:
    """Closing sums of customer accounts (GL 2010, 2090, 2095) by day."""
    rows = marts.rows(
        """
        select balance_date, exponent, sum(closing_credits - closing_debits) as balance
          from trial_balance_daily
         where ledger = $1 and currency = $2 and custodial and account_class = 'liability'
           and gl_code in ('2010', '2090', '2095')
         group by all order by balance_date
        """,
        [ledger, currency],
    )
    days = [Day(row["balance_date"], int(row["balance"])) for row in rows]
    return chart(days, exponent=rows[0]["exponent"], currency=currency) if rows else None


def _search(marts: Published, ledger: str, q: str) -> list[Row]:
    pattern = "%" + q.strip().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    return marts.rows(
        """
        select * from account_balances_current
         where ledger = $1 and (account ilike $2 escape '\\' or owner ilike $2 escape '\\')
         order by length(account), account limit $3
        """,
        [ledger, pattern, SEARCH_MAX],
    )


@router.get("/accounts/{ledger}/{account}", dependencies=[require("balances.view")])
def account(request: Request, ledger: str, account: str, before_seq: int | None = None) -> Response:
    """One account: balance, daily chart, entries newest first."""
    marts = general(request)
    ledger = chosen_ledger(marts, ledger)
    found = marts.row(
        "select b.*, a.status, a.opened_at from account_balances_current b "
        "left join accounts a on a.ledger = b.ledger and a.account = b.account "
        "where b.ledger = $1 and b.account = $2",
        [ledger, account],
    ) or marts.row(
        "select *, 0 as debits, 0 as credits, 0 as balance, null as last_effective_date "
        "from accounts where ledger = $1 and account = $2",
        [ledger, account],
    )
    if found is None:
        raise HTTPException(404, f"Account {account[:128]!r} is not published in ledger {ledger}.")
    daily = marts.rows(
        "select balance_date, balance from account_balances_daily "
        "where ledger = $1 and account = $2 order by balance_date",
        [ledger, account],
    )
    entries = marts.rows(
        "select e.*, t.reversed_by_seq, t.counterparty from entries e "
        "left join transactions t on t.ledger = e.ledger and t.seq = e.seq "
        "where e.ledger = $1 and e.account = $2 and ($3::bigint is null or e.seq < $3::bigint) "
        "order by e.seq desc, e.entry_no limit $4",
        [ledger, account, before_seq, ENTRIES_PAGE + 1],
    )
    return page(
        request,
        "account.html",
        account=found,
        ledger=ledger,
        chart=chart(
            _every_day(daily), exponent=found["exponent"], currency=found["currency"], zero=True
        ),
        entries=entries[:ENTRIES_PAGE],
        older=entries[ENTRIES_PAGE - 1]["seq"] if len(entries) > ENTRIES_PAGE else None,
        as_of=marts.manifest.as_of[ledger],
    )


def _every_day(daily: list[Row]) -> list[Day]:
    """A value for each day: the mart has a row only for days with movement."""
    days: list[Day] = []
    for row, following in zip(daily, [*daily[1:], None], strict=True):
        end = following["balance_date"] if following else row["balance_date"] + dt.timedelta(days=1)
        length = min((end - row["balance_date"]).days, 3660)
        days += [
            Day(row["balance_date"] + dt.timedelta(days=n), int(row["balance"]))
            for n in range(length)
        ]
    return days
