"""Deciding what a posting rule posts: fees charged, interest accrued and capitalized."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ledger_service.contract.events import (
    Entry,
    RuleDeclared,
    Side,
    timestamp,
)
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.contract.rules import Applied
from ledger_service.domain import interest, legs, rule, transaction
from ledger_service.domain.account import Account
from ledger_service.domain.decisions import Events, When, parse_amount, posted, when_it_counts
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.interest import Accrued, Accruing
from ledger_service.domain.limits import check_accounts, check_limits, check_named
from ledger_service.domain.opening import Terms
from ledger_service.domain.period import is_day
from ledger_service.domain.rule_commands import (
    AccrueInterest,
    CapitalizeInterest,
    ChargeFee,
    OfRule,
)

if TYPE_CHECKING:
    from ledger_service.domain.book import Book


def decide(
    book: Book, terms: Terms, command: OfRule, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The transaction that a rule asks for, or why not."""
    if isinstance(command, ChargeFee):
        return _charge(book, terms, command, now, recorded_at)
    if isinstance(command, AccrueInterest):
        return _accrue(book, terms, command, now, recorded_at)
    return _capitalize(book, terms, command, now, recorded_at)


def _charge(
    book: Book, terms: Terms, command: ChargeFee, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    amount, problem = parse_amount(command.amount)
    when = when_it_counts(book, terms, command.effective_at, now)
    problem = (
        problem
        or transaction.check_metadata(command.metadata, terms.chart.metadata)
        or transaction.check_personal(transaction.PLAIN, command.metadata)
    )
    if problem:
        return problem
    if isinstance(when, Refusal):
        return when
    declared = _terms_on(book, command, "fee", when.effective_date)
    if isinstance(declared, Refusal):
        return declared
    fee = rule.fee(declared, amount or 0)
    entries = rule.entries(declared, command.account, fee)
    applied = Applied(command.rule, declared.version, command.account, of_amount=command.amount)
    return _post(
        book, command, when, recorded_at,
        declared=declared, entries=entries, amount=fee, applied=applied,
    )  # fmt: skip


def _accrue(
    book: Book, terms: Terms, command: AccrueInterest, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    last = command.through
    when = _when_accrued(book, terms, command, now)
    if isinstance(when, Refusal):
        return when
    declared = _terms_on(book, command, "interest", last)
    if isinstance(declared, Refusal):
        return declared
    found = _accruing(book, command)
    if isinstance(found, Refusal):
        return found
    account, accruing = found
    before, first = accruing.accrued, max(accruing.first, command.since or "")
    if first > last:
        return refusal("already_accrued", next_day=accruing.first)
    exact = interest.of_days(
        book.rules[command.rule],
        accruing.balances,
        debit_normal=account.debit_normal,
        period_start=before.period_start if before else first,
        first=first,
        last=last,
    )
    true_up = interest.true_up(
        book.rules[command.rule], accruing, debit_normal=account.debit_normal
    )
    amount, after = interest.accrue(declared, before, exact + true_up, first=first, last=last)
    applied = _applied(
        command, declared, after,
        first_day=first, interest=interest.ratio(exact), true_up=interest.ratio(true_up),
    )  # fmt: skip
    entries = rule.entries(declared, command.account, amount)
    return _post(
        book, command, when, recorded_at,
        declared=declared, entries=entries, amount=amount, applied=applied,
    )  # fmt: skip


def _when_accrued(
    book: Book, terms: Terms, command: AccrueInterest, now: dt.datetime
) -> When | Refusal:
    """The end of the last day, if that is over.

    Interest of a closed day is, like what is imposed, booked now, and keeps its day as value date.
    """
    last, since = command.through, command.since
    if not is_day(last) or (since is not None and not (is_day(since) and since <= last)):
        return refusal("bad_day")
    today, _ = book.dates(terms, now, timestamp(now))
    if last >= today:
        return refusal("day_not_over", today=today)
    return when_it_counts(book, terms, terms.clock.end_of(last), now, imposed=True)


def _accruing(
    book: Book, command: AccrueInterest | CapitalizeInterest
) -> tuple[Account, Accruing] | Refusal:
    account = book.accounts.get(command.account)
    if account is None:
        return refusal("unknown_account", account=command.account)
    return account, book.accruals[command.account][command.rule]


def _capitalize(
    book: Book, terms: Terms, command: CapitalizeInterest, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    when = when_it_counts(book, terms, command.effective_at, now)
    if isinstance(when, Refusal):
        return when
    declared = _terms_on(book, command, "interest", None)
    if isinstance(declared, Refusal):
        return declared
    found = _accruing(book, command)
    if isinstance(found, Refusal):
        return found
    account, before = found[0], found[1].accrued
    if before is None:
        return refusal("nothing_due")
    entries = capitalizing_entries(
        declared, command.account, before.posted, debit_normal=account.debit_normal
    )
    applied = _applied(command, declared, interest.capitalize(before))
    return _post(
        book, command, when, recorded_at,
        declared=declared, entries=entries, amount=before.posted, applied=applied,
    )  # fmt: skip


def capitalizing_entries(
    declared: RuleDeclared, name: str, amount: int, *, debit_normal: bool
) -> list[Entry]:
    """What accrual put on one side moves to the account itself, on that side; what is negative, on
    the other."""
    is_debit = debit_normal == (declared.balances == "positive")
    side: Side = "debit" if is_debit == (amount >= 0) else "credit"
    [part] = declared.debit if is_debit else declared.credit
    moved = str(abs(amount))
    taken = Entry(part.account, legs.SWAPPED[side], moved, declared.currency)
    given = Entry(name, side, moved, declared.currency)
    return [given, taken] if side == "debit" else [taken, given]


def _applied(
    command: AccrueInterest | CapitalizeInterest,
    declared: RuleDeclared,
    after: Accrued,
    **facts: str,
) -> Applied:
    return Applied(
        command.rule,
        declared.version,
        command.account,
        last_day=after.through,
        period_start=after.period_start,
        accrued=str(after.posted),
        carried=interest.ratio(after.carried),
        **facts,
    )


# --- checks, in the order of errors.REFUSALS ---------------------------------------------------


def _terms_on(book: Book, command: OfRule, kind: str, day: str | None) -> RuleDeclared | Refusal:
    """The rule's terms on a day; None: the last ones that were declared."""
    versions: Sequence[rule.Version] = book.rules.get(command.rule, [])
    declared = [version for version in versions if isinstance(version, RuleDeclared)]
    if not declared:
        return refusal("unknown_rule")
    if declared[-1].kind != kind:
        return refusal("not_of_this_kind", kind=declared[-1].kind)
    found = declared[-1] if day is None else rule.in_force(versions, day)
    return found or refusal("rule_not_in_force", day=day)


def _post(
    book: Book,
    command: OfRule,
    when: When,
    recorded_at: str,
    *,
    declared: RuleDeclared,
    entries: list[Entry],
    amount: int,
    applied: Applied,
) -> Events | Refusal:
    """The transaction, if its accounts allow it and there is something to post or take back."""
    if amount == 0:
        return refusal("nothing_due")
    if abs(amount) > MAX_POSTING_MINOR:
        return refusal("amount_too_large", amount=str(amount))
    problem = (
        check_named([(command.account, declared.currency)], book.accounts)
        or check_accounts(entries, book.accounts)
        or check_limits(entries, book.accounts)
    )
    if problem:
        return problem
    return posted(
        book,
        command,
        when,
        recorded_at,
        kind=declared.kind,
        entries=entries,
        context=transaction.PLAIN,
        metadata=command.metadata if isinstance(command, ChargeFee) else {},
        applied=applied,
    )
