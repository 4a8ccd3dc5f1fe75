"""What the API reads of holds: a projection in the commit of each hold, as balances are."""

from __future__ import annotations

from typing import Any

import msgspec

_SQL = (
    "select h.seq, h.state, h.version, h.amounts, j.bytes, array(select c.seq from ledger.capture c "
    "where c.ledger = h.ledger and c.hold = h.seq order by c.seq) as captures "
    "from ledger.hold h join ledger.journal j using (ledger, seq) where h.ledger = $1 "
)


async def hold(connection: Any, ledger: str, seq: int) -> dict[str, Any] | None:
    """A hold as it was placed, what is left of it and its captures; None where `seq` is none."""
    row = await connection.fetchrow(_SQL + "and h.seq = $2", ledger, seq)
    return _hold(row) if row else None


async def open_holds(
    connection: Any, ledger: str, account: str, *, after: int, limit: int
) -> list[dict[str, Any]] | None:
    """Open holds that touch an account, by `seq`, from the one after `after` on; None: no account."""
    number = await connection.fetchval(
        "select number from ledger.account where ledger = $1 and account = $2", ledger, account
    )
    if number is None:
        return None
    rows = await connection.fetch(
        _SQL + "and h.state = 'open' and h.numbers @> array[$2::bigint] and h.seq > $3 "
        "order by h.seq limit $4",
        ledger,
        number,
        after,
        limit,
    )
    return [_hold(row) for row in rows]


def _hold(row: Any) -> dict[str, Any]:
    left = sum(amount for amount in row["amounts"] if amount > 0)
    return {
        **msgspec.json.decode(row["bytes"]),
        "state": row["state"],
        "left": str(left),
        "captured_by": list(row["captures"]),
        "changed_by": row["version"],
    }
