"""Deciding holds: placed, captured, given back; checks in precedence, then the event."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from ledger_service.contract.events import (
    Context,
    HoldPlaced,
    HoldReleased,
    timestamp,
)
from ledger_service.domain import legs, transaction
from ledger_service.domain.commands import CaptureHold, ExpireHold, PlaceHold, VoidHold
from ledger_service.domain.decisions import (
    Events,
    check_content,
    parse_amount,
    posted,
    sized,
    when_it_counts,
)
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.hold import Hold
from ledger_service.domain.limits import check_accounts, check_limits
from ledger_service.domain.opening import Terms

if TYPE_CHECKING:
    from ledger_service.domain.book import Book


def place_hold(
    book: Book, terms: Terms, command: PlaceHold, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The event of a hold, or why not."""
    expires_at, entries = None, command.entries
    problem = check_content(terms, command)
    if not problem and command.expires_at is not None:
        expires_at = transaction.parse_moment(command.expires_at)
        if expires_at is None or expires_at <= _moment(now, recorded_at):
            problem = refusal("bad_expiry")
    problem = (
        problem
        or check_accounts(entries, book.accounts)
        or check_limits(entries, book.accounts, pending=True)
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
    return sized(event, entries)


def capture_hold(
    book: Book, terms: Terms, command: CaptureHold, now: dt.datetime, recorded_at: str
) -> Events | Refusal:
    """The transaction that takes from a hold, or why not.

    No limit is looked at: what a hold has set aside no floor or ceiling is passed by.
    """
    amount, problem = parse_amount(command.amount)
    when = when_it_counts(book, terms, command.effective_at, now)
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
    problem = check_accounts(entries, book.accounts) or _check_capturable(
        held, amount, _moment(now, recorded_at)
    )
    if problem:
        return problem
    if amount is not None:
        entries = legs.part(held.left, amount)
    return posted(
        book,
        command,
        when,
        recorded_at,
        kind=held.event.kind,
        entries=entries,
        context=held.event.context if context is None else context,
        metadata={**held.event.metadata, **command.metadata},
        captures=command.hold,
        ends_hold=command.ends_hold or amount in (None, legs.total(held.left)),
    )


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
    if not voids and not held.is_expired(_moment(now, recorded_at)):
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


def _moment(now: dt.datetime, recorded_at: str) -> dt.datetime:
    """By which holds end: a server's clock that is set back brings none of them to life again."""
    return max(now, dt.datetime.fromisoformat(recorded_at))


def _check_capturable(held: Hold, amount: int | None, now: dt.datetime) -> Refusal | None:
    if held.state != "open":
        return refusal("hold_ended", state=held.state)
    if held.is_expired(now):
        return refusal("hold_expired", expired_at=held.event.expires_at)
    left = legs.total(held.left)
    if amount is not None and amount > left:
        return refusal("hold_exceeded", left=str(left))
    return None
