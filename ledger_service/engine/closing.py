"""What the closing of a period states: the trial balance up to its last day, and the checks that hold.

The sums are those of `day_delta`, as in every as-of question, so a closing costs accounts times days
and not entries. They are held to the balances by which the writer decides, the tree to its head, and
the sequence to itself since the closing before, which stated the same of what came before it.
Nothing is committed meanwhile.
"""

from __future__ import annotations

import datetime as dt
from typing import Any

from ledger_service.contract.events import TrialLine
from ledger_service.domain.book import Book
from ledger_service.domain.closing import Books
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.engine import as_of
from ledger_service.engine.projector import ProjectionBehind
from ledger_service.engine.stored_tree import load_tree

_DEBITS_EQUAL_CREDITS = """
  select d.effective_date || ', recorded ' || d.recorded_date || ', ' || a.currency
    from ledger.day_delta d join ledger.account a using (ledger, number)
   where d.ledger = $1 group by d.effective_date, d.recorded_date, a.currency
  having sum(d.debits) <> sum(d.credits) limit 1
"""
_DAY_SUMS_EQUAL_BALANCES = """
  with summed as (
    select number, sum(debits) as debits, sum(credits) as credits
      from ledger.day_delta where ledger = $1 group by number)
  select coalesce(a.account, number::text)
    from (select number, debits, credits from ledger.balance where ledger = $1) as b
         full join summed s using (number)
         left join (select account, number from ledger.account where ledger = $1) as a using (number)
   where (coalesce(b.debits, 0), coalesce(b.credits, 0))
         <> (coalesce(s.debits, 0), coalesce(s.credits, 0)) limit 1
"""
_EVENTS = "select count(*) from ledger.journal where ledger = $1 and seq > $2 and seq <= $3"


async def books_of(connection: Any, book: Book, through: str) -> Books | Refusal:
    """What the closing up to `through` states where the book stands, or why it can't be closed.

    Refusals: `projection_behind`, `closing_check_failed`. `connection`: outside a transaction.
    """
    day = dt.date.fromisoformat(through)
    try:
        at = await as_of.resolve(connection, book.ledger, book.seq, effective_date=day)
    except ProjectionBehind:
        return refusal("projection_behind", retry_after=1)
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        checks: list[str] = []
        for check, find in _CHECKS.items():
            place = await find(connection, book)
            if place is not None:
                return refusal("closing_check_failed", check=check, place=place)
            checks.append(check)
        rows = await as_of.trial_balance(connection, book.ledger, at)
        root = await _root(connection, book.ledger)
    lines = as_of.trial_lines(rows)
    if _covers_customers(lines):
        checks.append("custodial_money_covered")
    return Books(lines, root.hex(), checks)


def _covers_customers(lines: list[TrialLine]) -> bool:
    """Whether in each currency custodial assets are at least what is owed of them.

    To be short is a fact to be stated, not an error of the books: it refuses nothing.
    """
    over: dict[str, int] = {}
    for line in lines:
        if line.custodial:
            net = int(line.debits) - int(line.credits)
            over[line.currency] = over.get(line.currency, 0) + net
    return all(amount >= 0 for amount in over.values())


# --- checks: each gives the first place at which it fails -----------------------------------------


async def _unbalanced_day(connection: Any, book: Book) -> str | None:
    """Every transaction counts and was recorded on one day, so each pair of days balances."""
    return await connection.fetchval(_DEBITS_EQUAL_CREDITS, book.ledger)


async def _differing_balance(connection: Any, book: Book) -> str | None:
    return await connection.fetchval(_DAY_SUMS_EQUAL_BALANCES, book.ledger)


async def _gap(connection: Any, book: Book) -> str | None:
    since = book.periods.closed_seq
    found = await connection.fetchval(_EVENTS, book.ledger, since, book.seq)
    return None if found == book.seq - since else f"{found} events from {since + 1} to {book.seq}"


async def _wrong_root(connection: Any, book: Book) -> str | None:
    try:
        tree = await load_tree(connection, book.ledger, book.seq)
    except ValueError as error:
        return str(error)
    is_stated = tree.root() == await _root(connection, book.ledger)
    return None if is_stated else f"the root of {book.seq} events"


async def _root(connection: Any, ledger: str) -> bytes:
    return await connection.fetchval("select root from ledger.head where ledger = $1", ledger)


_CHECKS = {
    "sequence_gapless": _gap,
    "tree_root_equals_head": _wrong_root,
    "debits_equal_credits": _unbalanced_day,
    "day_sums_equal_balances": _differing_balance,
}
