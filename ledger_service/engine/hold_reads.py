"""What the API reads of holds: a projection in the commit of each hold, as balances are.

A ledger's holds come by state and account, newest first, in pages that lose and repeat none. Open
holds have indexes. Those that ended have none but their `seq`, so that no hold pays for one when it
ends: a page looks at a bounded number of them, and where few fit it is short, and says where the
next one goes on.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ledger_service.engine.reads import LAST_SEQ

State = Literal["open", "captured", "voided", "expired"]
EXAMINED_MAX = 20_000
"""Holds that a page may look at."""

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


class Page(msgspec.Struct, frozen=True):
    """Holds, as `hold` gives one."""

    holds: list[dict[str, Any]]
    following: int | None
    """The next page has what comes before this `seq`; None: there is no more."""


async def find(
    connection: Any,
    ledger: str,
    *,
    state: State | None = None,
    number: int | None = None,
    before: int = LAST_SEQ,
    limit: int,
) -> Page:
    """A page of holds with `seq` below `before`; `number`: only those that touch this account."""
    sql, arguments = question(ledger, state, number, before, limit + 1)
    found = await connection.fetch(sql, *arguments)
    rows = [row for row in found if row["seq"] is not None]
    if len(rows) > limit:
        return Page([_hold(row) for row in rows[:limit]], rows[limit - 1]["seq"])
    return Page([_hold(row) for row in rows], found[0]["looked_to"])


# $1 ledger, $2 seq before which, $3 holds that may be looked at, $4 holds wanted. `looked_to` is where
# looking was given up, null where all was seen.
_PAGE = """
  with looked as materialized (
    select seq, state, version, amounts, numbers from ledger.hold
     where ledger = $1 and seq < $2 {looked} order by seq desc limit $3),
  edge as (select min(seq) as looked_to from looked having count(*) = $3),
  page as (select * from looked where true {wanted} order by seq desc limit $4)
  select p.seq, p.state, p.version, p.amounts, j.bytes, e.looked_to,
         array(select c.seq from ledger.capture c
                where c.ledger = $1 and c.hold = p.seq order by c.seq) as captures
    from (values (1)) as one (row) left join edge e on true left join page p on true
         left join ledger.journal j on j.ledger = $1 and j.seq = p.seq
   order by p.seq desc
"""


def question(
    ledger: str, state: State | None, number: int | None, before: int, limit: int
) -> tuple[str, list[Any]]:
    """The statement of a page and its parameters."""
    arguments: list[Any] = [ledger, before, limit, limit]
    wanted = ""
    if state is not None:
        wanted += f" and state = '{state}'"
    if number is not None:
        arguments.append(number)
        wanted += " and numbers @> array[$5::bigint]"
    if state == "open":
        return _PAGE.format(looked=wanted, wanted=""), arguments
    if wanted:
        arguments[2] = EXAMINED_MAX
    return _PAGE.format(looked="", wanted=wanted), arguments


def _hold(row: Any) -> dict[str, Any]:
    left = sum(amount for amount in row["amounts"] if amount > 0)
    return {
        **msgspec.json.decode(row["bytes"]),
        "state": row["state"],
        "left": str(left),
        "captured_by": list(row["captures"]),
        "changed_by": row["version"],
    }
