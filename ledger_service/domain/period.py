"""Which days still take entries: soft-closed and closed periods, attested days (P9).

A day is what the event's `effective_date` says. Days are compared as ISO text, which sorts as days
do.
"""

from __future__ import annotations

import datetime as dt

import msgspec

from ledger_service.contract.events import (
    DayAttested,
    PeriodClosed,
    PeriodReopened,
    PeriodSoftClosed,
)

PeriodEvent = PeriodSoftClosed | PeriodClosed | PeriodReopened | DayAttested

NEVER = ""
"""Sorts before every day."""
LAST_DAY = dt.date.max.isoformat()


class Periods(msgspec.Struct):
    """How far the books are closed; each mark with the `seq` of the event that set it."""

    soft_closed: str = NEVER
    """Up to this day only approved corrections are taken."""
    soft_closed_seq: int = 0
    closed: str = NEVER
    """Up to this day nothing is taken."""
    closed_seq: int = 0
    attested: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """Days that take nothing either."""

    def why_not(self, day: str, *, is_correction: bool = False) -> str | None:
        """The code of the refusal of an entry that counts on `day`, or None."""
        if day <= self.closed:
            return "period_closed"
        if day in self.attested:
            return "day_attested"
        if day <= self.soft_closed and not is_correction:
            return "period_soft_closed"
        return None

    def first_open_day(self) -> str:
        """The earliest day that takes ordinary entries; `NEVER` where nothing was ever closed."""
        last = max(self.closed, self.soft_closed)
        if last == NEVER:
            return NEVER
        day = following(last)
        while day in self.attested:
            day = following(day)
        return day

    def reopens(self, since: str) -> bool:
        """Whether anything from `since` on is closed or attested."""
        return since <= self.closed or any(day >= since for day in self.attested)

    def apply(self, event: PeriodEvent) -> None:
        """Bring an event into the state."""
        if isinstance(event, PeriodSoftClosed):
            self.soft_closed, self.soft_closed_seq = event.through, event.seq
        elif isinstance(event, PeriodClosed):
            self.closed, self.closed_seq = event.through, event.seq
            if self.soft_closed < event.through:
                self.soft_closed, self.soft_closed_seq = event.through, event.seq
        elif isinstance(event, DayAttested):
            self.attested[event.day] = event.seq
        else:
            self.closed = min(self.closed, previous(event.since))
            self.attested = {day: seq for day, seq in self.attested.items() if day < event.since}


def is_day(text: str) -> bool:
    """Whether `text` is a day as YYYY-MM-DD."""
    try:
        return dt.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def following(day: str) -> str:
    """The day after."""
    return (dt.date.fromisoformat(day) + dt.timedelta(days=1)).isoformat()


def previous(day: str) -> str:
    """The day before."""
    return (dt.date.fromisoformat(day) - dt.timedelta(days=1)).isoformat()
