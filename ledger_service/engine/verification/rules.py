"""Posting rules: their declarations, and interest worked out again from the entries before it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from ledger_service.contract.events import JournalEvent, TransactionPosted, decode_journal
from ledger_service.contract.rules import Applied
from ledger_service.domain import interest
from ledger_service.domain.declaring import DeclarationEvent
from ledger_service.domain.interest import DayBalances, accrued_of
from ledger_service.engine.event_sql import account_of
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


def load(scope: Scope, found: Sequence[JournalEvent | None]) -> None:
    """Bring into the fold what the page's events rest on, as far as it was verified."""
    fold = scope.fold
    applied = [one for event in found if (one := _applied(event)) is not None]
    if not fold.rules:
        for row in scope.connection.execute(_DECLARED, scope.parameters):
            event = decode_journal(row["bytes"])
            if isinstance(event, DeclarationEvent):
                fold.declare(event)
    pairs = {(one.rule, one.account) for one in applied if one.period_start is not None}
    missing = sorted(pairs - fold.accrued.keys())
    if not missing:
        return
    rules, accounts = zip(*missing, strict=True)
    parameters = {**scope.parameters, "rules": list(rules), "accounts": list(accounts)}
    for row in scope.connection.execute(_LAST, parameters):
        last = _applied(decode_journal(row["bytes"]))
        if last is not None:
            fold.accrued[row["rule"], row["account"]] = accrued_of(last)


def _applied(event: JournalEvent | None) -> Applied | None:
    return event.applied if isinstance(event, TransactionPosted) else None


# What moved an account before each accrual: by day of those that it accrues, and before them. What
# posting lists do not hold yet is in the journal.
_BALANCES = f"""
  with claim as materialized (
    select * from unnest(%(seqs)s::bigint[], %(numbers)s::bigint[], %(firsts)s::date[],
                         %(lasts)s::date[]) as w (seq, number, first, last)),
  listed as (
    select p.number, u.*
      from (select distinct number from claim) c
           join ledger.posting_list p on p.ledger = %(ledger)s and p.number = c.number
           cross join lateral unnest(p.seqs, p.amounts, p.effective_dates)
             as u (seq, amount, effective_date)
    union all
    select a.number, j.seq, (case e.entry ->> 'side' when 'debit' then 1 else -1 end
             * (e.entry ->> 'amount')::numeric)::bigint, (j.event ->> 'effective_date')::date
      from (select seq, convert_from(bytes, 'UTF8')::jsonb as event from ledger.journal
             where ledger = %(ledger)s and seq > %(followed)s
               and seq < (select max(seq) from claim) and event_type = 'transaction.posted') j
           cross join jsonb_array_elements(j.event -> 'entries') as e (entry)
           cross join {account_of("e.entry ->> 'account'", "%(ledger)s")}
     where a.number in (select number from claim))
  select w.seq, nullif(greatest(u.effective_date, w.first - 1), w.first - 1) as day,
         sum(u.amount) as amount
    from claim w join listed u using (number)
   where u.seq < w.seq and u.effective_date <= w.last
   group by 1, 2
"""


def check_interest(scope: Scope) -> None:
    """The exact interest that events state is that of the balances before them.

    Posting lists are looked at, not the journal: what differs is first made anew.
    """
    claims, scope.fold.claims = scope.fold.claims, {}
    if not claims:
        return
    accounts = [scope.fold.accounts[one.account] for one in claims.values()]
    balances = {seq: DayBalances(0, {}) for seq in claims}
    for row in scope.connection.execute(
        _BALANCES,
        {
            **scope.parameters,
            "seqs": list(claims),
            "numbers": [account.number for account in accounts],
            "firsts": [dt.date.fromisoformat(one.first_day or "") for one in claims.values()],
            "lasts": [dt.date.fromisoformat(one.last_day or "") for one in claims.values()],
        },
    ):
        _take(balances[row["seq"]], row)
    for (seq, one), account in zip(claims.items(), accounts, strict=True):
        versions = [version for version in scope.fold.rules[one.rule] if version.seq < seq]
        exact = interest.of_days(
            versions,
            balances[seq],
            debit_normal=account.normal_side == "debit",
            period_start=one.period_start or "",
            first=one.first_day or "",
            last=one.last_day or "",
        )
        if interest.ratio(exact) != one.interest:
            message = f"interest of {one.interest}, the entries before it give {exact}"
            scope.add("ledger.posting_list", "interest_differs", message, seq=seq, row=str(seq))


def _take(balances: DayBalances, row: Row) -> None:
    if row["day"] is None:
        balances.opening = int(row["amount"])
    else:
        balances.movements[row["day"].isoformat()] = int(row["amount"])
