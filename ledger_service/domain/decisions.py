"""Deciding transactions, reversals, changes of accounts: checks in precedence, then the event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ledger_service.contract.events import (
    EVENT_MAX_BYTES,
    Context,
    Entry,
    JournalEvent,
    TransactionPosted,
    encode,
    timestamp,
)
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.domain import transaction
from ledger_service.domain.account import STATUSES, Account
from ledger_service.domain.commands import ChangeAccount, PostTransaction, ReverseTransaction
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.opening import Terms, shortfall_account
from ledger_service.domain.reversal import Original, reversing_entries

if TYPE_CHECKING:
    from ledger_service.domain.book import Book

_MANY_ENTRIES = 64
"""Transactions with more entries than this may come near the limit of an event's size."""


def post(
    book: Book, terms: Terms, command: PostTransaction, now: dt.datetime, recorded_at: str
) -> list[JournalEvent] | Refusal:
    """The event of a transaction, or why not."""
    if command.kind not in transaction.KINDS:
        return refusal("unknown_kind", kinds=sorted(transaction.KINDS))
    moment = now
    if command.effective_at is not None:
        moment = transaction.parse_moment(command.effective_at)
    entries = command.entries
    problem = (
        transaction.check_entries(entries, terms.opened.currencies)
        or transaction.check_context(command.context)
        or transaction.check_metadata(command.metadata, terms.chart.metadata)
        or transaction.check_personal(command.context, command.metadata)
        or _check_moment(moment, now)
        or check_accounts(entries, book.accounts, imposed=command.imposed)
    )
    if not problem and not command.imposed:
        problem = check_limits(entries, book.accounts)
    if problem or moment is None:
        return problem or refusal("bad_effective_at")
    if command.imposed:
        entries = [*entries, *shortfall_entries(book, terms, entries)]
    return _posted(
        book,
        terms,
        command,
        recorded_at,
        moment,
        # Most transactions count from now, whose text the book has.
        effective_at=book.now_text if moment is now else timestamp(moment),
        kind=command.kind,
        entries=entries,
        context=command.context,
        metadata=command.metadata,
        imposed=command.imposed,
    )


def reverse(
    book: Book, terms: Terms, command: ReverseTransaction, now: dt.datetime, recorded_at: str
) -> list[JournalEvent] | Refusal:
    """The event of a reversal, or why not. It counts from the moment it is decided."""
    source = book.originals.get(command.reverses)
    amount, problem = _amount_to_reverse(command, source)
    if problem or source is None:
        return problem or refusal("unknown_transaction")
    entries = reversing_entries(source, amount)
    problem = check_accounts(entries, book.accounts) or check_limits(entries, book.accounts)
    if problem:
        return problem
    original = source.event.context
    return _posted(
        book,
        terms,
        command,
        recorded_at,
        now,
        effective_at=book.now_text,
        kind=transaction.REVERSAL,
        entries=entries,
        context=Context(
            original.channel,
            original.counterparty,
            original.counterparty_bank,
            original.counterparty_country,
        ),
        metadata={"reason": command.reason},
        reverses=command.reverses,
        approval=command.approval,
    )


def _amount_to_reverse(
    command: ReverseTransaction, source: Original | None
) -> tuple[int | None, Refusal | None]:
    amount: int | None = None
    if command.amount is not None:
        if not command.amount.isdecimal() or not 0 < int(command.amount) <= MAX_POSTING_MINOR:
            return None, refusal("bad_amount")
        amount = int(command.amount)
    if not transaction.is_code(command.reason):
        return None, refusal("bad_reason")
    if source is None:
        return None, refusal("unknown_transaction")
    return amount, _check_left(source, amount)


def _check_left(source: Original, amount: int | None) -> Refusal | None:
    if source.event.reverses is not None:
        return refusal("is_a_reversal", reverses=source.event.reverses)
    if amount is not None and len(source.currencies) > 1:
        return refusal("partial_needs_one_currency")
    left = source.total_left()
    if not left or (amount is not None and amount > left):
        return refusal("reversal_exceeds", left=str(left))
    return None


def _check_moment(moment: dt.datetime | None, now: dt.datetime) -> Refusal | None:
    if moment is now:
        return None
    if moment is None:
        return refusal("bad_effective_at")
    return refusal("effective_in_future") if moment > now + transaction.MAX_AHEAD else None


def _posted(
    book: Book,
    terms: Terms,
    command: PostTransaction | ReverseTransaction,
    recorded_at: str,
    moment: dt.datetime,
    *,
    effective_at: str,
    kind: str,
    entries: list[Entry],
    context: Context,
    metadata: dict[str, str],
    imposed: bool = False,
    reverses: int | None = None,
    approval: str | None = None,
) -> list[JournalEvent] | Refusal:
    effective_date, business_date = book.dates(terms, moment, effective_at)
    event = TransactionPosted(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        kind=kind,
        effective_at=effective_at,
        effective_date=effective_date,
        business_date=business_date,
        entries=entries,
        context=context,
        metadata=metadata,
        idempotency_digest=command.digest.hex(),
        reverses=reverses,
        imposed=imposed,
        approval=approval,
    )
    if len(entries) > _MANY_ENTRIES and len(encode(event)) > EVENT_MAX_BYTES:
        return refusal("event_too_large")
    return [event]


def check_accounts(
    entries: Sequence[Entry], accounts: Mapping[str, Account], *, imposed: bool = False
) -> Refusal | None:
    """Whether the accounts exist in the entries' currencies and take entries.

    What the outside world imposes is booked whatever an account's status.
    """
    for entry in entries:
        account = accounts.get(entry.account)
        if account is None or account.currency != entry.currency or account.status != "open":
            return _why_not(entries, accounts, imposed=imposed)
    return None


def _why_not(
    entries: Sequence[Entry], accounts: Mapping[str, Account], *, imposed: bool
) -> Refusal | None:
    """The refusal that comes first where an account is not as an entry needs it, if one does."""
    for entry in entries:
        if entry.account not in accounts:
            return refusal("unknown_account", account=entry.account)
    for entry in entries:
        account = accounts[entry.account]
        if account.currency != entry.currency:
            return refusal("currency_differs", account=entry.account, currency=account.currency)
    if imposed:
        return None
    for entry in entries:
        if accounts[entry.account].status == "closed":
            return refusal("account_closed", account=entry.account)
    for entry in entries:
        account = accounts[entry.account]
        if account.status != "open" and not account.takes(entry.side):
            return refusal("account_frozen", account=entry.account, status=account.status)
    return None


def _changes(entries: Sequence[Entry], accounts: Mapping[str, Account]) -> dict[str, int]:
    """Net change of each limited account's balance on its normal side."""
    changes: dict[str, int] = {}
    for entry in entries:
        account = accounts[entry.account]
        if account.floor is None and account.ceiling is None:
            continue
        grows = (entry.side == "debit") == account.debit_normal
        signed = int(entry.amount) if grows else -int(entry.amount)
        changes[entry.account] = changes.get(entry.account, 0) + signed
    return changes


def check_limits(entries: Sequence[Entry], accounts: Mapping[str, Account]) -> Refusal | None:
    """Whether no balance moves below its floor or above its ceiling, the transaction as a whole.

    An account that is beyond a limit already (by an imposed transaction) may move back towards it.
    """
    changes = _changes(entries, accounts)
    if not changes:
        return None
    for name, change in changes.items():
        account = accounts[name]
        if account.floor is not None and change < 0 and account.balance + change < account.floor:
            available = max(account.balance - account.floor, 0)
            return refusal(
                "floor_passed", account=name, available=str(available), floor=str(account.floor)
            )
    for name, change in changes.items():
        account = accounts[name]
        if (
            account.ceiling is not None
            and change > 0
            and account.balance + change > account.ceiling
        ):
            return refusal("ceiling_passed", account=name, ceiling=str(account.ceiling))
    return None


def shortfall_entries(book: Book, terms: Terms, entries: Sequence[Entry]) -> list[Entry]:
    """What an imposed transaction takes from customers below their floor, moved to a receivable."""
    found: list[Entry] = []
    for name, change in _changes(entries, book.accounts).items():
        account = book.accounts[name]
        is_customers = account.custodial and not account.debit_normal
        if account.floor is None or change >= 0 or not is_customers:
            continue
        shortfall = min(account.floor - (account.balance + change), -change)
        if shortfall > 0:
            currency, amount = account.currency, str(shortfall)
            receivable = shortfall_account(terms.opened, currency)
            found.append(Entry(receivable, "debit", amount, currency))
            found.append(Entry(name, "credit", amount, currency))
    return found


def check_change(command: ChangeAccount, accounts: Mapping[str, Account]) -> Refusal | None:
    """Whether a status may follow the present one."""
    if command.status not in STATUSES:
        return refusal("bad_status")
    if not transaction.is_code(command.reason):
        return refusal("bad_reason")
    account = accounts.get(command.account)
    if account is None:
        return refusal("unknown_account", account=command.account)
    if account.status == "closed" and command.status != "closed":
        return refusal("account_closed", account=command.account)
    if command.status == "closed" and account.balance:
        return refusal("account_not_empty", account=command.account, balance=str(account.balance))
    return None
