"""How far a ledger was found sound: the position from which the next incremental run goes on."""

from __future__ import annotations

from ledger_service.engine.verification.journal import MONEY
from ledger_service.engine.verification.report import Scope

_POSITION = """
  insert into ledger.verified (ledger, seq, root, history_seq)
  values (%(ledger)s, %(seq)s, %(root)s, %(followed)s)
  on conflict (ledger) do update
     set seq = excluded.seq, root = excluded.root, history_seq = excluded.history_seq,
         verified_at = clock_timestamp()
"""
_BALANCES = """
  insert into ledger.verified_balance (
    ledger, number, debits, credits, pending_debits, pending_credits, version)
  select %(ledger)s, u.number, u.debits::numeric, u.credits::numeric, u.pending_debits::numeric,
         u.pending_credits::numeric, u.version
    from unnest(%(numbers)s::bigint[], %(debits)s::text[], %(credits)s::text[],
                %(pending_debits)s::text[], %(pending_credits)s::text[], %(versions)s::bigint[])
      as u (number, debits, credits, pending_debits, pending_credits, version)
  on conflict (ledger, number) do update
     set debits = excluded.debits, credits = excluded.credits,
         pending_debits = excluded.pending_debits, pending_credits = excluded.pending_credits,
         version = excluded.version
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
                **{name: [str(getattr(account, name)) for account in page] for name in MONEY},
                "versions": [account.version for account in page],
            },
        )
    scope.connection.execute(_POSITION, {**scope.parameters, "root": scope.head["root"]})
