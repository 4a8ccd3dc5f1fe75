"""Deciding what moves money or accounts: checks in precedence, then the event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ledger_service.contract.events import (
    EVENT_MAX_BYTES,
    Context,
    Entry,
    HoldPlaced,
    HoldReleased,
    JournalEvent,
    TransactionPosted,
    encode,
    timestamp,
)
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.domain import legs, transaction
from ledger_service.domain.account import STATUSES, Account
from ledger_service.domain.commands import (
    CaptureHold,
    ChangeAccount,
    ExpireHold,
    PlaceHold,
    PostTransaction,
    ReverseTransaction,
    VoidHold,
)
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.hold import Hold
from ledger_service.domain.opening import Terms, shortfall_account
from ledger_service.domain.reversal import Original, reversing_entries

if TYPE_CHECKING:
    from ledger_service.domain.book import Book

_MANY_ENTRIES = 64
"""Transactions with more entries than this may come near the limit of an event's size."""

Events = list[JournalEvent]


class _When(NamedTuple):
    """When an event counts, on each of the ledger's calendars."""

    effective_at: str
    effective_date: str
    business_date: str
    value_date: str | None = None


def post(
    book: Book, terms: Terms, command: PostTransaction, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The event of a transaction, or why not."""
    entries = command.entries
    when = _when(book, terms, command.effective_at, now, imposed=command.imposed,
                 is_correction=command.corrects is not None)  # fmt: skip
    problem = (
        _check_content(terms, command)
        or (when if isinstance(when, Refusal) else None)
        or check_accounts(entries, book.accounts, imposed=command.imposed)
        or _check_corrected(book, command)
    )
    if not problem and not command.imposed:
        problem = check_limits(posting_moves(entries), book.accounts)
    if problem or isinstance(when, Refusal):
        return problem or refusal("bad_effective_at")
    if command.imposed:
        entries = [*entries, *shortfall_entries(book, terms, entries)]
    event = TransactionPosted(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        kind=command.kind,
        effective_at=when.effective_at,
        effective_date=when.effective_date,
        business_date=when.business_date,
        value_date=when.value_date,
        entries=entries,
        context=command.context,
        metadata=command.metadata,
        idempotency_digest=command.digest.hex(),
        imposed=command.imposed,
        corrects=command.corrects,
        approval=command.approval,
    )
    return _sized(event, entries)


def reverse(
    book: Book, terms: Terms, command: ReverseTransaction, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The event of a reversal, or why not. It counts from the moment it is decided."""
    source = book.originals.get(command.reverses)
    amount, problem = _amount(command.amount)
    if not problem and not transaction.is_code(command.reason):
        problem = refusal("bad_reason")
    if problem or source is None:
        return problem or refusal("unknown_transaction")
    problem = _check_reversible(source, amount)
    if problem:
        return problem
    entries = reversing_entries(source, amount)
    when = _when(book, terms, None, now)
    problem = check_accounts(entries, book.accounts) or check_limits(
        posting_moves(entries), book.accounts
    )
    if problem or isinstance(when, Refusal):
        return problem or refusal("bad_effective_at")
    original = source.event.context
    event = TransactionPosted(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        kind=transaction.REVERSAL,
        effective_at=when.effective_at,
        effective_date=when.effective_date,
        business_date=when.business_date,
        entries=entries,
        context=Context(
            original.channel,
            original.counterparty,
            original.counterparty_bank,
            original.counterparty_country,
        ),
        metadata={"reason": command.reason},
        idempotency_digest=command.digest.hex(),
        reverses=command.reverses,
        approval=command.approval,
    )
    return _sized(event, entries)


def place_hold(
    book: Book, terms: Terms, command: PlaceHold, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The event of a hold, or why not."""
    expires_at, entries = None, command.entries
    problem = _check_content(terms, command)
    if not problem and command.expires_at is not None:
        expires_at = transaction.parse_moment(command.expires_at)
        if expires_at is None or expires_at <= now:
            problem = refusal("bad_expiry")
    problem = (
        problem
        or check_accounts(entries, book.accounts)
        or check_limits(pending_moves(entries), book.accounts)
    )
    if problem:
        return problem
    event = HoldPlaced(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        kind=command.kind,
        entries=entries,
        context=command.context,
        metadata=command.metadata,
        idempotency_digest=command.digest.hex(),
        expires_at=None if expires_at is None else timestamp(expires_at),
    )
    return _sized(event, entries)


def capture_hold(
    book: Book, terms: Terms, command: CaptureHold, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The transaction that takes from a hold, or why not.

    No limit is looked at: what a hold has set aside no floor or ceiling is passed by.
    """
    amount, problem = _amount(command.amount)
    when = _when(book, terms, command.effective_at, now)
    context = command.context
    problem = (
        problem
        or (None if context is None else transaction.check_context(context))
        or transaction.check_metadata(command.metadata, terms.chart.metadata)
        or transaction.check_personal(context or Context(), command.metadata)
        or (when if isinstance(when, Refusal) else None)
    )
    held = book.holds.get(command.hold)
    if problem or isinstance(when, Refusal) or held is None:
        return problem or refusal("unknown_hold")
    entries = legs.part(held.left, None)
    problem = check_accounts(entries, book.accounts) or _check_capturable(held, amount, now)
    if problem:
        return problem
    if amount is not None:
        entries = legs.part(held.left, amount)
    event = TransactionPosted(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        kind=held.event.kind,
        effective_at=when.effective_at,
        effective_date=when.effective_date,
        business_date=when.business_date,
        entries=entries,
        context=held.event.context if context is None else context,
        metadata={**held.event.metadata, **command.metadata},
        idempotency_digest=command.digest.hex(),
        captures=command.hold,
        ends_hold=command.ends_hold or amount in (None, legs.total(held.left)),
    )
    return _sized(event, entries)


def release_hold(
    book: Book, command: VoidHold | ExpireHold, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The event that makes what is left of a hold available again, or why not."""
    voids = isinstance(command, VoidHold)
    if voids and not transaction.is_code(command.reason):
        return refusal("bad_reason")
    held = book.holds.get(command.hold)
    if held is None:
        return refusal("unknown_hold")
    if held.state != "open":
        return refusal("hold_ended", state=held.state)
    if not voids and not held.is_expired(now):
        return refusal("hold_ended", state="not expired")
    event = HoldReleased(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        hold=command.hold,
        cause="voided" if voids else "expired",
        reason=command.reason if voids else None,
        entries=legs.part(held.left, None),
        idempotency_digest=command.digest.hex() if voids else None,
    )
    return [event]


# --- checks, in the order of errors.REFUSALS ---------------------------------------------------


def _check_content(terms: Terms, command: PostTransaction | PlaceHold) -> Refusal | None:
    """What can be told without looking at any account."""
    if command.kind not in transaction.KINDS:
        return refusal("unknown_kind", kinds=sorted(transaction.KINDS))
    return (
        transaction.check_entries(command.entries, terms.opened.currencies)
        or transaction.check_context(command.context)
        or transaction.check_metadata(command.metadata, terms.chart.metadata)
        or transaction.check_personal(command.context, command.metadata)
    )


def _amount(text: str | None) -> tuple[int | None, Refusal | None]:
    if text is None:
        return None, None
    if not text.isdecimal() or not 0 < int(text) <= MAX_POSTING_MINOR:
        return None, refusal("bad_amount")
    return int(text), None


def _when(
    book: Book,
    terms: Terms,
    effective_at: str | None,
    now: dt.datetime,
    *,
    imposed: bool = False,
    is_correction: bool = False,
) -> _When | Refusal:
    """When something counts, if that day still takes entries (P9).

    What the outside world imposes is booked all the same: it then counts from now on, which is
    never closed, and keeps the day for which it was imposed as its value date.
    """
    moment, text = now, book.now_text
    if effective_at is not None:
        parsed = transaction.parse_moment(effective_at)
        if parsed is None:
            return refusal("bad_effective_at")
        if parsed > now + transaction.MAX_AHEAD:
            return refusal("effective_in_future")
        moment, text = parsed, timestamp(parsed)
    day, business = book.dates(terms, moment, text)
    code = book.periods.why_not(day, is_correction=is_correction)
    if code is None:
        return _When(text, day, business)
    if not imposed:
        return refusal(code, day=day, first_open_day=book.periods.first_open_day())
    text = book.now_text
    return _When(text, *book.dates(terms, now, text), value_date=day)


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


def _check_corrected(book: Book, command: PostTransaction) -> Refusal | None:
    if command.corrects is None or command.corrects in book.originals:
        return None
    return refusal("unknown_corrected")


def _check_capturable(held: Hold, amount: int | None, now: dt.datetime) -> Refusal | None:
    if held.state != "open":
        return refusal("hold_ended", state=held.state)
    if held.is_expired(now):
        return refusal("hold_expired", expired_at=held.event.expires_at)
    left = legs.total(held.left)
    if amount is not None and len(legs.currencies(held.left)) > 1:
        return refusal("partial_needs_one_currency")
    if amount is not None and amount > left:
        return refusal("hold_exceeded", left=str(left))
    return None


def _check_reversible(source: Original, amount: int | None) -> Refusal | None:
    if source.event.reverses is not None:
        return refusal("is_a_reversal", reverses=source.event.reverses)
    if amount is not None and len(legs.currencies(source.left)) > 1:
        return refusal("partial_needs_one_currency")
    left = legs.total(source.left)
    if not left or (amount is not None and amount > left):
        return refusal("reversal_exceeds", left=str(left))
    return None


Moves = Iterable[tuple[str, bool, int, bool]]
"""Account, whether it is debited, minor units, and whether they are only pending."""


def posting_moves(entries: Iterable[Entry]) -> Moves:
    """What a transaction moves."""
    return ((entry.account, entry.side == "debit", int(entry.amount), False) for entry in entries)


def pending_moves(entries: Iterable[Entry]) -> Moves:
    """What a hold moves."""
    return ((entry.account, entry.side == "debit", int(entry.amount), True) for entry in entries)


def _changes(moves: Moves, accounts: Mapping[str, Account]) -> dict[str, tuple[int, int]]:
    """Change of each limited account's secured and expected balance.

    What is posted counts for both; what is pending lowers the one or raises the other.
    """
    changes: dict[str, tuple[int, int]] = {}
    for name, is_debit, amount, is_pending in moves:
        account = accounts[name]
        if account.floor is None and account.ceiling is None:
            continue
        signed = amount if is_debit == account.debit_normal else -amount
        secured, expected = changes.get(name, (0, 0))
        if not is_pending or signed < 0:
            secured += signed
        if not is_pending or signed > 0:
            expected += signed
        changes[name] = secured, expected
    return changes


def check_limits(moves: Moves, accounts: Mapping[str, Account]) -> Refusal | None:
    """Whether no balance moves below its floor or above its ceiling, all moves as a whole.

    What is pending against an account counts as gone, what is pending in its favour as come. An
    account that is beyond a limit already may move back towards it.
    """
    changes = _changes(moves, accounts)
    if not changes:
        return None
    for name, (change, _) in changes.items():
        account = accounts[name]
        if account.floor is not None and change < 0 and account.secured + change < account.floor:
            available = max(account.secured - account.floor, 0)
            return refusal(
                "floor_passed", account=name, available=str(available), floor=str(account.floor)
            )
    for name, (_, change) in changes.items():
        account = accounts[name]
        if (
            account.ceiling is not None
            and change > 0
            and account.expected + change > account.ceiling
        ):
            return refusal("ceiling_passed", account=name, ceiling=str(account.ceiling))
    return None


def shortfall_entries(book: Book, terms: Terms, entries: Sequence[Entry]) -> list[Entry]:
    """What an imposed transaction takes from customers below their floor, moved to a receivable.

    What is held stays set aside: a hold that was granted can be captured (P4).
    """
    found: list[Entry] = []
    for name, (change, _) in _changes(posting_moves(entries), book.accounts).items():
        account = book.accounts[name]
        is_customers = account.custodial and not account.debit_normal
        if account.floor is None or change >= 0 or not is_customers:
            continue
        shortfall = min(account.floor - (account.secured + change), -change)
        if shortfall > 0:
            currency, amount = account.currency, str(shortfall)
            receivable = shortfall_account(terms.opened, currency)
            found.append(Entry(receivable, "debit", amount, currency))
            found.append(Entry(name, "credit", amount, currency))
    return found


def _sized(event: TransactionPosted | HoldPlaced, entries: Sequence[Entry]) -> Events | Refusal:
    if len(entries) > _MANY_ENTRIES and len(encode(event)) > EVENT_MAX_BYTES:
        return refusal("event_too_large")
    return [event]


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
    return _check_empty(command.account, account) if command.status == "closed" else None


def _check_empty(name: str, account: Account) -> Refusal | None:
    if account.balance:
        return refusal("account_not_empty", account=name, balance=str(account.balance))
    if account.pending_debits or account.pending_credits:
        return refusal("account_has_holds", account=name)
    return None
