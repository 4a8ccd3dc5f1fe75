"""SQL over the events of the journal."""

from __future__ import annotations


def account_of(name: str, ledger: str = "$1") -> str:
    """A lateral subquery that gives the `number` of the account which the expression `name` names.

    The newest events are past what PostgreSQL's statistics know: it takes them for one row, and would
    look through all accounts for each. `offset 0` keeps it to the accounts' index.
    """
    return (
        f"lateral (select number from ledger.account where ledger = {ledger} "
        f"and account = {name} offset 0) as a"
    )
