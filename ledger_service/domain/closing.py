"""Closing the books: soft, for good, reopened by two people; and attesting single days (P9)."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import msgspec

from ledger_service.contract.events import (
    DayAttested,
    JournalEvent,
    PeriodClosed,
    PeriodReopened,
    PeriodSoftClosed,
    TrialLine,
    timestamp,
)
from ledger_service.domain import period, transaction
from ledger_service.domain.errors import Refusal, refusal
from ledger_service.domain.opening import Terms
from ledger_service.domain.period_commands import (
    AttestDay,
    ClosePeriod,
    OfPeriod,
    ReopenPeriod,
    SoftClosePeriod,
)

if TYPE_CHECKING:
    from ledger_service.domain.book import Book


class Books(msgspec.Struct, frozen=True):
    """What the closing of a period states, taken where the book stands."""

    trial_balance: list[TrialLine]
    """Of all that counts up to the last day: a line at least, once there is an account."""
    tree_root: str
    """Of the tree over all events so far, in hex."""
    checks: list[str]
    """Names of what was checked, and holds."""


def decide(
    book: Book, terms: Terms, command: OfPeriod, now: dt.datetime, recorded_at: str
) -> list[JournalEvent] | Refusal | int:
    """The event of a period; its `seq` where it was decided before."""
    day = day_of(command)
    if not period.is_day(day):
        return refusal("bad_day")
    periods = book.periods
    done = _done(periods, command)
    if done:
        return done
    today, _ = book.dates(terms, now, timestamp(now))
    if isinstance(command, ReopenPeriod):
        problem = None if transaction.is_code(command.reason) else refusal("bad_reason")
        if not problem and not periods.reopens(day):
            problem = refusal("period_not_closed")
    elif day >= today:
        problem = refusal("day_not_over", today=today)
    elif isinstance(command, AttestDay):
        problem = None if transaction.is_code(command.reference) else refusal("bad_reason")
    else:
        closed = periods.closed if isinstance(command, ClosePeriod) else periods.soft_closed
        problem = refusal("period_closed", closed_through=closed) if day < closed else None
    if problem:
        return problem
    if isinstance(command, ClosePeriod):
        return _closed(book, command, recorded_at)
    return [_event(book, command, recorded_at)]


def day_of(asked: OfPeriod | period.PeriodEvent) -> str:
    """The day that a command or event of a period names."""
    if isinstance(asked, SoftClosePeriod | ClosePeriod | PeriodSoftClosed | PeriodClosed):
        return asked.through
    return asked.since if isinstance(asked, ReopenPeriod | PeriodReopened) else asked.day


def _done(periods: period.Periods, command: OfPeriod) -> int | None:
    if isinstance(command, SoftClosePeriod):
        return periods.soft_closed_seq if periods.soft_closed == command.through else None
    if isinstance(command, ClosePeriod):
        return periods.closed_seq if periods.closed == command.through else None
    return periods.attested.get(command.day) if isinstance(command, AttestDay) else None


def _closed(book: Book, command: ClosePeriod, recorded_at: str) -> list[JournalEvent] | Refusal:
    books = book.closings[command.through]
    if isinstance(books, Refusal):
        return books
    if not books.trial_balance:
        return refusal("nothing_to_close")
    event = PeriodClosed(
        ledger=book.ledger,
        seq=book.seq + 1,
        recorded_at=recorded_at,
        actor=command.actor,
        request_id=command.request_id,
        through=command.through,
        trial_balance=books.trial_balance,
        tree_size=book.seq,
        tree_root=books.tree_root,
        checks=books.checks,
    )
    return [event]


def _event(
    book: Book, command: SoftClosePeriod | AttestDay | ReopenPeriod, recorded_at: str
) -> JournalEvent:
    ledger, seq = book.ledger, book.seq + 1
    actor, request_id = command.actor, command.request_id
    if isinstance(command, SoftClosePeriod):
        return PeriodSoftClosed(
            ledger=ledger,
            seq=seq,
            recorded_at=recorded_at,
            actor=actor,
            request_id=request_id,
            through=command.through,
        )
    if isinstance(command, AttestDay):
        return DayAttested(
            ledger=ledger,
            seq=seq,
            recorded_at=recorded_at,
            actor=actor,
            request_id=request_id,
            day=command.day,
            reference=command.reference,
        )
    return PeriodReopened(
        ledger=ledger,
        seq=seq,
        recorded_at=recorded_at,
        actor=actor,
        request_id=request_id,
        since=command.since,
        reason=command.reason,
        approval=command.approval,
    )
