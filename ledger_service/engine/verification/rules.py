"""Posting rules: their declarations, and interest worked out again from the entries before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ledger_service.contract.events import JournalEvent, TransactionPosted, decode_journal
from ledger_service.domain.declaring import DeclarationEvent
from ledger_service.domain.interest import Accruing, accrued_of
from ledger_service.domain.period import LAST_DAY, NEVER, is_day
from ledger_service.engine import accrual_sql
from ledger_service.engine.accrual_sql import Pair, applied_in, columns, dates, days_in, moved_in
from ledger_service.engine.event_sql import entries, listed
from ledger_service.engine.fold import Fold
from ledger_service.engine.verification.report import Row, Scope


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
_LAST = accrual_sql.last("%(rules)s", "%(numbers)s", at="%(after)s", ledger="%(ledger)s")
LATE = accrual_sql.late(
    "%(rules)s",
    "%(numbers)s",
    "%(lasts)s",
    "%(firsts)s",
    at="%(at)s::bigint",
    followed="%(followed)s",
    ledger="%(ledger)s",
)
_DAYS = accrual_sql.days("%(rules)s", "%(numbers)s", "%(sinces)s", at="%(at)s", ledger="%(ledger)s")


def load(scope: Scope, found: Sequence[JournalEvent | None], at: int) -> None:
    """Bring into the fold, which stands at `at`, what the events that come next rest on.

    Each account and rule once, from then on the fold keeps what moves it; and the days before it
    again, where one of the events, or one since the last accrual, touches them.
    """
    fold = scope.fold
    if scope.after and not fold.rules:
        for row in scope.connection.execute(_DECLARED, scope.parameters):
            event = decode_journal(row["bytes"])
            if isinstance(event, DeclarationEvent):
                fold.declare(event)
    firsts: dict[tuple[str, str], str] = {}
    for event in found:
        one = event.applied if isinstance(event, TransactionPosted) else None
        if one is not None and one.period_start is not None and is_day(one.last_day or ""):
            firsts.setdefault((one.rule, one.account), one.first_day or one.last_day or "")
    if firsts:
        _begin(scope, {pair: day for pair, day in firsts.items() if not _known(fold, pair)}, at)
        _bring_in(scope, firsts, _earliest(found), at)


def _known(fold: Fold, pair: tuple[str, str]) -> Accruing | None:
    return fold.accruing.get(pair[1], {}).get(pair[0])


def _earliest(found: Sequence[JournalEvent | None]) -> dict[str, str]:
    """Of each account, the earliest day for which one of the events counts."""
    days: dict[str, str] = {}
    for event in found:
        if isinstance(event, TransactionPosted):
            for entry in event.entries:
                days[entry.account] = min(
                    days.get(entry.account, event.effective_date), event.effective_date
                )
    return days


def _begin(scope: Scope, firsts: dict[tuple[str, str], str], at: int) -> None:
    """What had accrued by what was verified before (nothing in a full run), and what came since on
    days before."""
    fold = scope.fold
    begun: dict[Pair, Accruing] = {}
    for (rule, name), first in firsts.items():
        account = fold.accounts.get(name)
        # Where the page opens the account all is known: nothing has moved it yet.
        one = Accruing(first, since=LAST_DAY if account else NEVER)
        fold.accruing.setdefault(name, {})[rule] = one
        if account:
            begun[rule, account.number] = one
    for row in _rows(scope, _LAST, begun):
        applied = applied_in(row["bytes"])
        begun[row["rule"], row["number"]].take(row["seq"], applied)
        fold.accrued[applied.rule, applied.account] = accrued_of(applied)
        fold.states_true_ups |= applied.true_up is not None
    accrued = {pair: one for pair, one in begun.items() if one.accrued is not None}
    lasts = [one.days[-1].seq for one in accrued.values()]
    nexts = dates(one.first for one in accrued.values())
    for row in _rows(scope, LATE, accrued, at=at, lasts=lasts, firsts=nexts):
        late = accrued[row["rule"], row["number"]].late
        late[row["effective_date"].isoformat()] = int(row["amount"])


def _rows(scope: Scope, sql: str, pairs: Iterable[Pair], **more: Any) -> Iterable[Row]:
    rules, numbers = columns(pairs)
    if not rules:
        return ()
    return scope.connection.execute(
        sql, {**scope.parameters, "rules": rules, "numbers": numbers, **more}
    )


# What moved accounts on days from one on, as it was when the journal stood at `at`: day sums of the
# days recorded before, single entries of that day, and from the journal what the history does not
# hold yet.
MOVEMENTS = f"""
  with wanted as materialized (
    select number, min(since) as since
      from unnest(%(numbers)s::bigint[], %(sinces)s::date[]) as w (number, since) group by number),
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
    from moved join wanted using (number) where effective_date >= since group by 1, 2
"""


def _bring_in(
    scope: Scope, pairs: Iterable[tuple[str, str]], earliest: Mapping[str, str], at: int
) -> None:
    """Know each account's days from the first one on that an event may touch, and none before it."""
    fold = scope.fold
    back: dict[Pair, tuple[str, Accruing]] = {}
    sinces: list[str] = []
    for rule, name in pairs:
        accruing = fold.accruing[name][rule]
        since = min([accruing.first, earliest.get(name, LAST_DAY), *accruing.late])
        if since < accruing.since:
            back[rule, fold.accounts[name].number] = name, accruing
            sinces.append(since)
        else:
            accruing.forget(since)
    moved = moved_in(_rows(scope, MOVEMENTS, back, at=at, sinces=dates(sinces)))
    days = days_in(_rows(scope, _DAYS, back, at=at, sinces=dates(sinces)))
    for (pair, (name, accruing)), since in zip(back.items(), sinces, strict=True):
        account = fold.accounts[name]
        balance = account.debits - account.credits
        accruing.reach_back(since, balance, moved.get(account.number, {}), days.get(pair, ()))


def check_interest(scope: Scope) -> None:
    """The exact interest that events state is that of the balances before them.

    Day sums were looked at, not the journal alone: what differs is first made anew.
    """
    disputed, scope.fold.disputed = scope.fold.disputed, []
    for seq, name, stated, given in disputed:
        message = f"{name} of {stated}, the entries before it give {given}"
        scope.add("ledger.day_delta", "interest_differs", message, seq=seq, row=str(seq))
