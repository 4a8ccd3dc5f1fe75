"""Accounting identities inside the marts, in SQL, cheap enough for every publication."""

from __future__ import annotations

import contextlib

import duckdb

from pipelines.checks.declared import outcome
from pipelines.publication.snapshot import Outcome

_SUMMED = """
    create temporary table summed_entries as
    select ledger, account, currency, exponent,
        sum(case when side = 'debit' then amount else 0 end) as debits,
        sum(case when side = 'credit' then amount else 0 end) as credits,
        sum(signed_amount) as total
    from marts.entries
    group by ledger, account, currency, exponent
"""
"""Of all entries, read once: three identities are of sums over every one, and most of the cost."""
_WITH_PLACES = {"entries": "summed_entries"} | {
    mart: f"marts.{mart}"
    for mart in
    ("accounts", "hold_legs", "statement_lines", "reconciliation_days", "reconciliation_breaks")
}  # fmt: skip
"""Marts that look up the places of a currency, and where these are read; balances follow from them."""

# Each query gives the rows that break the identity: what, expected, found.
_IDENTITIES = {
    "debits_equal_credits": """
        select ledger || ' ' || currency, sum(debits), sum(credits)
        from summed_entries
        group by ledger, currency
        having sum(debits) <> sum(credits)
    """,
    "transactions_balance": """
        select ledger || '/' || seq || ' ' || currency,
            sum(case when side = 'debit' then amount else 0 end),
            sum(case when side = 'credit' then amount else 0 end)
        from marts.entries
        where seq > $since
        group by ledger, seq, currency
        having sum(case when side = 'debit' then amount else -amount end) <> 0
    """,
    "balances_equal_entries": """
        with summed as (
            select ledger, account, sum(total) as total
            from summed_entries group by ledger, account
        )
        select ledger || ' ' || account, coalesce(total, 0), coalesce(balance, 0)
        from marts.account_balances_current full join summed using (ledger, account)
        where coalesce(total, 0) <> coalesce(balance, 0)
    """,
    "trial_balance_balances": """
        with last_day as (
            select ledger, currency, closing_debits, closing_credits
            from marts.trial_balance_daily
            qualify row_number() over (
                partition by ledger, gl_code, account_class, custodial, currency
                order by balance_date desc
            ) = 1
        )
        select ledger || ' ' || currency, sum(closing_debits), sum(closing_credits)
        from last_day
        group by ledger, currency
        having sum(closing_debits) <> sum(closing_credits)
    """,
    "pending_equals_open_holds": """
        with summed as (
            select ledger, currency, sum(pending) as total
            from marts.holds where state = 'open' group by ledger, currency
        ),
        of_accounts as (
            select ledger, currency, sum(pending_debits) as debits, sum(pending_credits) as credits
            from marts.account_balances_current group by ledger, currency
        )
        select ledger || ' ' || currency, coalesce(total, 0),
            coalesce(debits, 0) || '/' || coalesce(credits, 0)
        from of_accounts full join summed using (ledger, currency)
        where coalesce(total, 0) <> coalesce(debits, 0) or coalesce(total, 0) <> coalesce(credits, 0)
    """,
    "places_known": " union ".join(
        f"select ledger || ' ' || currency || ' in {mart}', 'places', 'none' "
        f"from {table} where exponent is null"
        for mart, table in _WITH_PLACES.items()
    ),
}


def check_identities(connection: duckdb.DuckDBPyConnection, since: int = 0) -> list[Outcome]:
    """One result per identity; a query that fails is a failed check.

    Transactions up to `since`, in every ledger, were found to balance before.
    """
    # Where it fails, so does every identity that is of it: there is no older one in its place.
    connection.execute("drop table if exists temp.summed_entries")
    with contextlib.suppress(duckdb.Error):
        connection.execute(_SUMMED)
    return [
        outcome(name, _problems(connection, query, since)) for name, query in _IDENTITIES.items()
    ]


def _problems(connection: duckdb.DuckDBPyConnection, query: str, since: int) -> str:
    values = {"since": since} if "$since" in query else {}
    try:
        broken = connection.execute(f"{query} limit 3", values).fetchall()
    except duckdb.Error as failure:
        return f"error: {failure}"
    return "; ".join(f"{what}: {one} and {other}" for what, one, other in broken)
