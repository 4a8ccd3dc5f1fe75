"""What a ledger declares of its own: currencies, and posting rules; checks, then the events."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from ledger_service.contract.events import (
    AccountOpened,
    CurrencyDeclared,
    JournalEvent,
    RuleDeclared,
    RuleWithdrawn,
)
from ledger_service.contract.money import MAX_EXPONENT, OWN_CURRENCY
from ledger_service.domain import rule
from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.limits import check_named
from ledger_service.domain.opening import Terms, open_account, shortfall_account, with_currency
from ledger_service.domain.period import is_day
from ledger_service.domain.rule_commands import (
    DeclareCurrency,
    DeclareRule,
    WithdrawRule,
)

if TYPE_CHECKING:
    from ledger_service.domain.book import Book

DeclarationEvent = CurrencyDeclared | RuleDeclared | RuleWithdrawn
_CURRENCY = re.compile(rf"{OWN_CURRENCY}\Z")


def decide(
    book: Book,
    terms: Terms,
    command: DeclareCurrency | DeclareRule | WithdrawRule,
    recorded_at: str,
) -> list[JournalEvent] | Refusal | int:
    """The events of a declaration; the `seq` of the one that said the same before."""
    if isinstance(command, DeclareCurrency):
        return _declare_currency(book, terms, command, recorded_at)
    if isinstance(command, DeclareRule):
        return _declare_rule(book, terms, command, recorded_at)
    return _withdraw_rule(book, command, recorded_at)


def name_of(event: DeclarationEvent) -> str:
    """What an event declares."""
    return event.currency if isinstance(event, CurrencyDeclared) else event.rule


def _declare_currency(
    book: Book, terms: Terms, command: DeclareCurrency, recorded_at: str
) -> list[JournalEvent] | Refusal | int:
    """The currency, and the receivable for what is imposed in it."""
    if not _CURRENCY.match(command.currency) or not 0 <= command.exponent <= MAX_EXPONENT:
        return refusal("bad_currency")
    known = terms.declared.get(command.currency)
    if known is not None:
        same = known.exponent == command.exponent
        return known.seq if same else refusal("currency_declared", exponent=known.exponent)
    declared = CurrencyDeclared(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        currency=command.currency,
        exponent=command.exponent,
    )
    opened = _open_receivable(book, with_currency(terms, declared), command, recorded_at)
    return opened if isinstance(opened, Refusal) else [declared, opened]


def _open_receivable(
    book: Book, terms: Terms, command: DeclareCurrency, recorded_at: str
) -> AccountOpened | Refusal:
    """The account of what is imposed in a new currency, where no other has its name."""
    name = shortfall_account(terms.opened, command.currency)
    if name in book.accounts:
        return refusal("account_exists", account=name)
    account = OpenAccount(name, command.currency, command.actor, request_id=command.request_id)
    return open_account(account, terms, book.seq + 2, recorded_at)


def _declare_rule(
    book: Book, terms: Terms, command: DeclareRule, recorded_at: str
) -> list[JournalEvent] | Refusal | int:
    if command.currency not in terms.currencies:
        return refusal("unknown_currency", currencies=sorted(terms.currencies))
    if not rule.is_code(command.rule):
        return refusal("bad_rule_code")
    versions = book.rules.get(command.rule, [])
    declared = RuleDeclared(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        rule=command.rule,
        version=len(versions) + 1,
        since=command.since,
        kind=command.kind,
        currency=command.currency,
        tiers=command.tiers,
        tiering=command.tiering,
        minimum=command.minimum,
        maximum=command.maximum,
        rounding=command.rounding,
        day_count=command.day_count,
        balances=command.balances,
        debit=command.debit,
        credit=command.credit,
        approval=command.approval,
    )
    words = rule.why_unsound(declared) or _why_no_version(versions, declared)
    if words:
        return refusal("bad_rule", problem=words)
    if versions and _says_the_same(versions[-1], declared):
        return versions[-1].seq
    named = [(name, declared.currency) for name in rule.accounts_of(declared)]
    return check_named(named, book.accounts) or [declared]


def _why_no_version(versions: list[rule.Version], declared: RuleDeclared) -> str | None:
    first = next((one for one in versions if isinstance(one, RuleDeclared)), declared)
    if (first.kind, first.currency) != (declared.kind, declared.currency):
        return "a rule keeps its kind and currency; choose another code"
    if declared.kind == "interest" and (first.debit, first.credit, first.balances) != (
        declared.debit,
        declared.credit,
        declared.balances,
    ):
        # what is not capitalized yet stands on these accounts
        return "interest keeps its accounts and balances; choose another code"
    return None


def _says_the_same(last: rule.Version, declared: RuleDeclared) -> bool:
    own = {
        "seq": last.seq,
        "recorded_at": last.recorded_at,
        "actor": last.actor,
        "request_id": last.request_id,
        "version": last.version,
        "approval": last.approval,
    }
    return msgspec.structs.replace(declared, **own) == last


def _withdraw_rule(
    book: Book, command: WithdrawRule, recorded_at: str
) -> list[JournalEvent] | Refusal | int:
    if not is_day(command.since):
        return refusal("bad_day")
    versions = book.rules.get(command.rule)
    if not versions:
        return refusal("unknown_rule")
    last = versions[-1]
    if isinstance(last, RuleWithdrawn) and last.since == command.since:
        return last.seq
    return [
        RuleWithdrawn(
            ledger=book.ledger,
            seq=book.seq + 1,
            recorded_at=recorded_at,
            actor=command.actor,
            request_id=command.request_id,
            rule=command.rule,
            version=len(versions) + 1,
            since=command.since,
            approval=command.approval,
        )
    ]
