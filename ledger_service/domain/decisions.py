"""Deciding what moves money or accounts: checks in precedence, then the event."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ledger_service.contract.events import (
    EVENT_MAX_BYTES,
    Context,
    Entry,
    HoldPlaced,
    JournalEvent,
    TransactionPosted,
    encode,
    timestamp,
)
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.domain import legs, transaction
from ledger_service.domain.commands import (
    Keyed,
    PlaceHold,
    PostTransaction,
    ReverseTransaction,
)
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.exchange import check_rate
from ledger_service.domain.limits import (
    check_accounts,
    check_limits,
    shortfall_entries,
)
from ledger_service.domain.opening import Terms
from ledger_service.domain.reversal import Original, reversing_entries

if TYPE_CHECKING:
    from ledger_service.domain.book import Book

_MANY_ENTRIES = 64
"""Transactions with more entries than this may come near the limit of an event's size."""

Events = list[JournalEvent]


class When(NamedTuple):
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
    when = when_it_counts(book, terms, command.effective_at, now, imposed=command.imposed,
                 is_correction=command.corrects is not None)  # fmt: skip
    problem = (
        check_content(terms, command)
        or (when if isinstance(when, Refusal) else None)
        or check_accounts(entries, book.accounts, imposed=command.imposed)
        or _check_corrected(book, command)
    )
    if not problem and not command.imposed:
        problem = check_limits(entries, book.accounts)
    if problem or isinstance(when, Refusal):
        return problem or refusal("bad_effective_at")
    if command.imposed:
        entries = [*entries, *shortfall_entries(terms, entries, book.accounts)]
    return posted(
        book,
        command,
        when,
        recorded_at,
        kind=command.kind,
        entries=entries,
        context=command.context,
        metadata=command.metadata,
        imposed=command.imposed,
        rate=command.rate,
        corrects=command.corrects,
        approval=command.approval,
    )


def reverse(
    book: Book, terms: Terms, command: ReverseTransaction, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The event of a reversal, or why not. It counts from the moment it is decided."""
    source = book.originals.get(command.reverses)
    amount, problem = parse_amount(command.amount)
    if not problem and not transaction.is_code(command.reason):
        problem = refusal("bad_reason")
    if problem or source is None:
        return problem or refusal("unknown_transaction")
    problem = _check_reversible(source, amount)
    if problem:
        return problem
    entries = reversing_entries(source, amount)
    when = when_it_counts(book, terms, None, now)
    problem = check_accounts(entries, book.accounts) or check_limits(entries, book.accounts)
    if problem or isinstance(when, Refusal):
        return problem or refusal("bad_effective_at")
    original = source.event.context
    return posted(
        book,
        command,
        when,
        recorded_at,
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
        rate=source.event.rate,
        approval=command.approval,
    )


def posted(
    book: Book,
    command: Keyed,
    when: When,
    recorded_at: str,
    *,
    entries: list[Entry],
    **facts: Any,
) -> Events | Refusal:
    """The event of a transaction that may be posted; `facts` are those of its kind, as the event
    names them."""
    event = TransactionPosted(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        effective_at=when.effective_at,
        effective_date=when.effective_date,
        business_date=when.business_date,
        value_date=when.value_date,
        entries=entries,
        idempotency_digest=command.digest.hex(),
        **facts,
    )
    return sized(event, entries)


# --- checks, in the order of errors.REFUSALS ---------------------------------------------------


def check_content(terms: Terms, command: PostTransaction | PlaceHold) -> Refusal | None:
    """What can be told without looking at any account."""
    if command.kind not in transaction.KINDS:
        return refusal("unknown_kind", kinds=sorted(transaction.KINDS))
    return (
        transaction.check_entries(command.entries, terms.currencies)
        or check_rate(
            command.entries,
            command.rate if isinstance(command, PostTransaction) else None,
            terms.currencies,
        )
        or transaction.check_context(command.context)
        or transaction.check_metadata(command.metadata, terms.chart.metadata)
        or transaction.check_personal(command.context, command.metadata)
    )


def parse_amount(text: str | None) -> tuple[int | None, Refusal | None]:
    """Minor units of a part, None for the whole; or why it is no amount."""
    if text is None:
        return None, None
    if not text.isdecimal() or not 0 < int(text) <= MAX_POSTING_MINOR:
        return None, refusal("bad_amount")
    return int(text), None


def when_it_counts(
    book: Book,
    terms: Terms,
    effective_at: str | None,
    now: dt.datetime,
    *,
    imposed: bool = False,
    is_correction: bool = False,
) -> When | Refusal:
    """When something counts, if that day still takes entries (P9).

    What the outside world imposes is booked all the same: it then counts from now on, which is
    never closed, and keeps the day for which it was imposed as its value date.
    """
    if effective_at is None and book.present is not None:
        return book.present
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
        when = When(text, day, business)
        if effective_at is None:
            book.present = when
        return when
    if not imposed:
        return refusal(code, day=day, first_open_day=book.periods.first_open_day())
    text = book.now_text
    return When(text, *book.dates(terms, now, text), value_date=day)


def _check_corrected(book: Book, command: PostTransaction) -> Refusal | None:
    if command.corrects is None and command.approval is not None:
        return refusal("approval_invalid")  # nothing would consume it, and its text would stay
    if command.corrects is None or command.corrects in book.originals:
        return None
    return refusal("unknown_corrected")


def _check_reversible(source: Original, amount: int | None) -> Refusal | None:
    if source.event.reverses is not None:
        return refusal("is_a_reversal", reverses=source.event.reverses)
    if source.event.applied is not None and source.event.applied.period_start is not None:
        return refusal("is_interest", rule=source.event.applied.rule)
    if amount is not None and len(legs.currencies(source.left)) > 1:
        return refusal("partial_needs_one_currency")
    left = legs.total(source.left)
    if not left or (amount is not None and amount > left):
        return refusal("reversal_exceeds", left=str(left))
    return None


def sized(event: TransactionPosted | HoldPlaced, entries: Sequence[Entry]) -> Events | Refusal:
    """The event, unless it would be too large for the journal."""
    if len(entries) > _MANY_ENTRIES and len(encode(event)) > EVENT_MAX_BYTES:
        return refusal("event_too_large")
    return [event]
