"""A book for tests: opened, with an obvious clock, and short ways to write commands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec

from ledger_service.api.posting_bodies import (
    CaptureBody,
    HoldBody,
    ReverseBody,
    TransactionBody,
    VoidBody,
)
from ledger_service.contract.events import Context, Entry, TransactionPosted, TrialLine
from ledger_service.contract.rules import Part, Tier
from ledger_service.domain.book import Book, Decision
from ledger_service.domain.closing import Books
from ledger_service.domain.commands import (
    CaptureHold,
    ChangeAccount,
    Command,
    Keyed,
    OpenAccount,
    OpenLedger,
    PlaceHold,
    PostTransaction,
    ReverseTransaction,
    VoidHold,
    capture_hold,
    place_hold,
    post_transaction,
    reverse_transaction,
    void_hold,
)
from ledger_service.domain.interest import Accruing
from ledger_service.domain.period_commands import ClosePeriod, ReopenPeriod, SoftClosePeriod
from ledger_service.domain.rule_commands import (
    AccrueInterest,
    CapitalizeInterest,
    ChargeFee,
    DeclareRule,
    accrue_interest,
    capitalize_interest,
    charge_fee,
)
from ledger_service.engine import fast
from ledger_service.engine.charts import known_charts
from tests.asking import Ask, body_of

NOW = dt.datetime(2026, 7, 1, 16, 0, tzinfo=dt.UTC)
OPENING = OpenLedger(
    "simulated",
    ["USD", "EUR"],
    "America/New_York",
    "17:00",
    "us_federal_reserve",
    "us_fintech_fbo/1",
    "key_test",
)
BOOKS = Books(
    [
        TrialLine(
            gl_code="1010",
            account_class="asset",
            custodial=True,
            currency="USD",
            debits="5",
            credits="0",
        )
    ],
    tree_root="00" * 32,
    checks=["debits_equal_credits"],
)
"""What a closing states of a book, here where there is no database to ask."""


def arrived(commands: Sequence[Command]) -> Sequence[Command]:
    """As they come to the writer over the line, where the lane reads them."""
    return fast.commands_of([msgspec.Raw(msgspec.msgpack.encode(one)) for one in commands])


def carry_out(book: Book, command: Command, now: dt.datetime = NOW) -> Decision:
    """Decide, and apply where there is something to apply that is no dry run."""
    if isinstance(command, ClosePeriod):
        book.closings[command.through] = BOOKS
    if isinstance(command, AccrueInterest | CapitalizeInterest):
        begin_accruing(book, command.rule, command.account)
    decision = book.decide(command, now)
    if isinstance(decision, list) and not getattr(command, "dry_run", False):
        for event in decision:
            key = (command.digest, command.request_hash) if isinstance(command, Keyed) else None
            book.apply(event, key)
            if isinstance(event, TransactionPosted):
                book.load_original(event, [])
    return decision


def command_of(ask: Ask, ledger: str = "simulated") -> Command:
    """What is asked, as a command, made by way of the API's own bodies."""
    actor = "key_test"
    match ask.do:
        case "status":
            status: Any = ask.status
            return ChangeAccount(ask.account, status, ask.key, actor, dry_run=ask.dry_run)
        case "soft_close":
            return SoftClosePeriod(ask.day, actor, dry_run=ask.dry_run)
        case "close":
            return ClosePeriod(ask.day, actor, dry_run=ask.dry_run)
        case "reopen":
            reason = body_of(ask)["reason"]
            return ReopenPeriod(ask.day, reason, ask.approval, actor, dry_run=ask.dry_run)
    body: Any = msgspec.convert(body_of(ask), _BODIES[ask.do])
    of = [ask.of] if ask.of else []
    return body.command(ledger, *of, actor, "req_test")


_BODIES = {
    "post": TransactionBody,
    "hold": HoldBody,
    "capture": CaptureBody,
    "void": VoidBody,
    "reverse": ReverseBody,
}


def open_book(*accounts: str, floor: str | None = None) -> Book:
    """A book with USD accounts; `floor` is for the customers among them."""
    book = Book("simulated", known_charts())
    carry_out(book, OPENING)
    for account in accounts:
        limit = floor if account.startswith("customer:") else None
        assert isinstance(
            carry_out(book, OpenAccount(account, "USD", "key_test", None, limit)), list
        )
    return book


def entries(*lines: tuple[str, int], currency: str = "USD") -> list[Entry]:
    """Entries from accounts and amounts: positive is a debit, negative a credit."""
    return [
        Entry(account, "debit" if amount > 0 else "credit", str(abs(amount)), currency)
        for account, amount in lines
    ]


def posting(key: str, *lines: tuple[str, int], **options: Any) -> PostTransaction:
    """A transfer in the ledger `simulated`."""
    options = {"kind": "transfer", "actor": "key_test", "context": Context(), **options}
    wanted = options.pop("entries", None) or entries(*lines)
    return post_transaction("simulated", key, entries=wanted, **options)


def reversing(key: str, seq: int, amount: int | None = None) -> ReverseTransaction:
    """A reversal in the ledger `simulated`."""
    return reverse_transaction(
        "simulated",
        key,
        reverses=seq,
        approval="apr_test",
        actor="key_test",
        amount=None if amount is None else str(amount),
        reason="customer_dispute",
        reversal="rev_test",
    )


def holding(key: str, *lines: tuple[str, int], **options: Any) -> PlaceHold:
    """A hold in the ledger `simulated`."""
    options = {"kind": "card_purchase", "actor": "key_test", **options}
    return place_hold("simulated", key, entries=entries(*lines), **options)


def capturing(key: str, hold: int, amount: int | None = None, **options: Any) -> CaptureHold:
    """A capture in the ledger `simulated`."""
    text = None if amount is None else str(amount)
    return capture_hold("simulated", key, hold=hold, actor="key_test", amount=text, **options)


def voiding(key: str, hold: int) -> VoidHold:
    """A void in the ledger `simulated`."""
    return void_hold("simulated", key, hold=hold, reason="cancelled", actor="key_test")


def begin_accruing(book: Book, rule: str, account: str) -> None:
    """Let the book follow an account's days by a rule, as the engine would load them.

    The first time before anything was posted on it: from then on the book itself keeps them.
    """
    if account in book.accounts and rule in book.rules:
        first = book.rules[rule][0].since
        by_rule = book.accruals.setdefault(account, {})
        by_rule.setdefault(rule, Accruing(first))


def parts(*shares: tuple[str, int]) -> list[Part]:
    """Parts of a rule from accounts and weights."""
    return [Part(account, weight) for account, weight in shares]


def fee_rule(code: str, *tiers: Tier, **terms: Any) -> DeclareRule:
    """A fee in USD, in force since June, from the account to our income."""
    terms = {"debit": parts(("{account}", 1)), "credit": parts(("income:fees", 1)), **terms}
    return DeclareRule(code, "2026-06-01", "fee", "USD", list(tiers), actor="key_test", **terms)


def interest_rule(code: str, rate: str, **terms: Any) -> DeclareRule:
    """Interest in USD, a year's, in force since June: our expense, payable until capitalized."""
    terms = {
        "since": "2026-06-01",
        "tiers": [Tier(rate=rate)],
        "day_count": "ACT/365F",
        "debit": parts(("expense:interest", 1)),
        "credit": parts(("payable:interest", 1)),
        **terms,
    }
    return DeclareRule(code, kind="interest", currency="USD", actor="key_test", **terms)


def charging(key: str, rule: str, account: str, amount: int | None, **options: Any) -> ChargeFee:
    """A fee in the ledger `simulated`."""
    text = None if amount is None else str(amount)
    options = {"actor": "key_test", **options}
    return charge_fee("simulated", key, rule=rule, account=account, amount=text, **options)


def accruing(key: str, rule: str, account: str, through: str, **options: Any) -> AccrueInterest:
    """An accrual in the ledger `simulated`."""
    options = {"actor": "key_test", **options}
    return accrue_interest("simulated", key, rule=rule, account=account, through=through, **options)


def capitalizing(key: str, rule: str, account: str, **options: Any) -> CapitalizeInterest:
    """A capitalization in the ledger `simulated`."""
    options = {"actor": "key_test", **options}
    return capitalize_interest("simulated", key, rule=rule, account=account, **options)
