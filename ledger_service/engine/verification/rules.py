"""Posting rules: their declarations, and interest worked out again from the entries before it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence

from ledger_service.contract.events import JournalEvent, TransactionPosted, decode_journal
from ledger_service.contract.rules import Applied
from ledger_service.domain import interest
from ledger_service.domain.declaring import DeclarationEvent
from ledger_service.domain.interest import accrued_of
from ledger_service.domain.period import following, is_day
from ledger_service.engine.event_sql import entries, listed
from ledger_service.engine.verification.report import Scope


def declarations(scope: Scope) -> None:
    """The rows by which a writer learns what is declared are those of the events."""
    rows = scope.connection.execute(
        "select seq, event_type, name from ledger.declaration "
        "where ledger = %(ledger)s and seq > %(after)s",
        scope.parameters,
    )
    stored = {(row["seq"], row["event_type"], row["name"]) for row in rows}
    for seq, kind, name in sorted(stored ^ scope.fold.declarations):
        message = f"{kind} of {name} is not in both places"
        scope.add("ledger.declaration", "differs_from_journal", message, seq=seq, row=str(seq))


def accruals(scope: Scope) -> None:
    """The links to what accrued interest are those that the events name."""
    rows = scope.connection.execute(
        "select rule, number, seq from ledger.accrual where ledger = %(ledger)s and seq > %(after)s",
        scope.parameters,
    )
    stored = {(row["rule"], row["number"], row["seq"]) for row in rows}
    for rule, number, seq in sorted(stored ^ scope.fold.accruals):
        message = f"the link to interest by {rule} is not in both places"
        scope.add(
            "ledger.accrual", "differs_from_journal", message, seq=seq, row=f"{rule} {number} {seq}"
        )


_DECLARED = """
  select j.bytes from ledger.declaration d join ledger.journal j using (ledger, seq)
   where d.ledger = %(ledger)s and d.seq <= %(after)s order by d.seq
"""
_LAST = """
  select w.rule, w.account, j.bytes
    from unnest(%(rules)s::text[], %(accounts)s::text[]) as w (rule, account)
         join ledger.account a on a.ledger = %(ledger)s and a.account = w.account
         cross join lateral (
           select seq from ledger.accrual l
            where l.ledger = %(ledger)s and l.rule = w.rule and l.number = a.number
              and l.seq <= %(after)s
            order by seq desc limit 1) as last
         join ledger.journal j on j.ledger = %(ledger)s and j.seq = last.seq
"""


def load(scope: Scope, found: Sequence[JournalEvent | None], at: int) -> None:
    """Bring into the fold, which stands at `at`, what the events that come next rest on.

    Each account and rule once: from then on the fold keeps what moves it.
    """
    fold = scope.fold
    if scope.after and not fold.rules:
        for row in scope.connection.execute(_DECLARED, scope.parameters):
            event = decode_journal(row["bytes"])
            if isinstance(event, DeclarationEvent):
                fold.declare(event)
    firsts: dict[tuple[str, str], str] = {}
    for event in found:
        one = _applied(event)
        if one is None or one.period_start is None or not is_day(one.last_day or ""):
            continue
        if one.rule not in fold.accruing.get(one.account, {}):
            firsts.setdefault((one.rule, one.account), one.first_day or one.last_day or "")
    if firsts:
        _bring_in(scope, firsts, at)


def _applied(event: JournalEvent | None) -> Applied | None:
    return event.applied if isinstance(event, TransactionPosted) else None


# What moved accounts on days from their first one on, as it was when the journal stood at `at`: day
# sums of the days recorded before, single entries of that day, and from the journal what the history
# does not hold yet.
MOVEMENTS = f"""
  with wanted as materialized (
    select number, min(first) as first
      from unnest(%(numbers)s::bigint[], %(firsts)s::date[]) as w (number, first) group by number),
  day as materialized (
    select recorded_date, first_seq from ledger.recorded_day
     where ledger = %(ledger)s and first_seq <= %(at)s and %(at)s <= %(followed)s
     order by first_seq desc limit 1),
  moved as (
    select number, effective_date, debits - credits as amount
      from ledger.day_delta
     where ledger = %(ledger)s and number = any(%(numbers)s)
       and recorded_date < coalesce((select recorded_date from day), 'infinity')
    union all
    select number, effective_date, amount
      from ({
    listed(
        "(select number from wanted)",
        "(select first_seq from day)",
        "%(at)s::bigint",
        "%(ledger)s",
    )
}) as single
    union all
    select number, effective_date, amount
      from ({entries("%(followed)s", "%(at)s", "%(ledger)s")}) as behind)
  select number, effective_date, sum(amount) as amount
    from moved join wanted using (number) where effective_date >= first group by 1, 2
"""


def _bring_in(scope: Scope, firsts: dict[tuple[str, str], str], at: int) -> None:
    fold = scope.fold
    before = _accrued(scope, firsts)
    fold.accrued |= before
    firsts |= {pair: following(one.through) for pair, one in before.items()}
    accounts = {pair: fold.accounts[pair[1]] for pair in firsts if pair[1] in fold.accounts}
    moved: dict[int, dict[str, int]] = {}
    for row in scope.connection.execute(
        MOVEMENTS,
        {
            **scope.parameters,
            "at": at,
            "numbers": [account.number for account in accounts.values()],
            "firsts": [dt.date.fromisoformat(firsts[pair]) for pair in accounts],
        },
    ):
        days = moved.setdefault(row["number"], {})
        days[row["effective_date"].isoformat()] = int(row["amount"])
    for (rule, name), first in firsts.items():
        # Where the page opens the account nothing has moved it yet.
        account = fold.accounts.get(name)
        balance = account.debits - account.credits if account else 0
        days = moved.get(account.number, {}) if account else {}
        fold.accruing.setdefault(name, {})[rule] = interest.begin(
            first, balance, days, before.get((rule, name))
        )


def _accrued(
    scope: Scope, pairs: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], interest.Accrued]:
    """What had accrued by what was verified before; nothing in a full run."""
    rules, accounts = zip(*pairs, strict=True)
    parameters = {**scope.parameters, "rules": list(rules), "accounts": list(accounts)}
    found: dict[tuple[str, str], interest.Accrued] = {}
    for row in scope.connection.execute(_LAST, parameters):
        last = _applied(decode_journal(row["bytes"]))
        if last is not None:
            found[row["rule"], row["account"]] = accrued_of(last)
    return found


def check_interest(scope: Scope) -> None:
    """The exact interest that events state is that of the balances before them.

    Day sums were looked at, not the journal alone: what differs is first made anew.
    """
    disputed, scope.fold.disputed = scope.fold.disputed, {}
    for seq, (stated, given) in disputed.items():
        message = f"interest of {stated}, the entries before it give {given}"
        scope.add("ledger.day_delta", "interest_differs", message, seq=seq, row=str(seq))
