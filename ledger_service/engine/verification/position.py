"""How far a ledger was found sound: the position from which the next incremental run goes on."""

from __future__ import annotations

from ledger_service.engine.verification.report import Scope

_POSITION = """
  insert into ledger.verified (ledger, seq, root) values (%(ledger)s, %(seq)s, %(root)s)
  on conflict (ledger) do update
     set seq = excluded.seq, root = excluded.root, verified_at = clock_timestamp()
"""
_BALANCES = """
  insert into ledger.verified_balance (ledger, number, debits, credits, version)
  select %(ledger)s, u.number, u.debits::numeric, u.credits::numeric, u.version
    from unnest(%(numbers)s::bigint[], %(debits)s::text[], %(credits)s::text[],
                %(versions)s::bigint[]) as u (number, debits, credits, version)
  on conflict (ledger, number) do update
     set debits = excluded.debits, credits = excluded.credits, version = excluded.version
"""
_PAGE = 5000


def remember(scope: Scope) -> None:
    """Write that the ledger is sound up to its head, and the balances that moved on the way."""
    moved = [a for a in scope.fold.accounts.values() if a.version > scope.after]
    for start in range(0, len(moved), _PAGE):
        page = moved[start : start + _PAGE]
        scope.connection.execute(
            _BALANCES,
            {
                "ledger": scope.ledger,
                "numbers": [account.number for account in page],
                "debits": [str(account.debits) for account in page],
                "credits": [str(account.credits) for account in page],
                "versions": [account.version for account in page],
            },
        )
    scope.connection.execute(_POSITION, {**scope.parameters, "root": scope.head["root"]})
