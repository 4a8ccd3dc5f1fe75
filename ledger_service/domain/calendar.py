"""Banking days, and the business date of a moment.

Source of the holidays: Federal Reserve Financial Services, holiday schedules. A holiday that falls
on a Sunday is kept on Monday; one that falls on a Saturday is not kept (the banks are open on the
Friday before).
"""

from __future__ import annotations

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

CALENDARS = frozenset({"us_federal_reserve"})
_MONDAY, _THURSDAY = 0, 3
_FIRST_JUNETEENTH = 2022


def _nth(year: int, month: int, weekday: int, nth: int) -> dt.date:
    first = dt.date(year, month, 1)
    return first + dt.timedelta(days=(weekday - first.weekday()) % 7 + 7 * (nth - 1))


@lru_cache(maxsize=256)
def federal_reserve_holidays(year: int) -> frozenset[dt.date]:
    """The days of `year` on which the Federal Reserve Banks are closed, weekends apart."""
    last_of_may = dt.date(year, 5, 31)
    fixed = [(1, 1), (7, 4), (11, 11), (12, 25)] + ([(6, 19)] if year >= _FIRST_JUNETEENTH else [])
    days = [
        _nth(year, 1, _MONDAY, 3),  # Martin Luther King Jr.
        _nth(year, 2, _MONDAY, 3),  # Presidents
        last_of_may - dt.timedelta(days=last_of_may.weekday()),  # Memorial
        _nth(year, 9, _MONDAY, 1),  # Labor
        _nth(year, 10, _MONDAY, 2),  # Columbus
        _nth(year, 11, _THURSDAY, 4),  # Thanksgiving
    ]
    for month, number in fixed:
        day = dt.date(year, month, number)
        days.append(day + dt.timedelta(days=1) if day.weekday() == 6 else day)
    return frozenset(days)


def is_banking_day(day: dt.date) -> bool:
    """Whether the Federal Reserve Banks work on `day`."""
    return day.weekday() < 5 and day not in federal_reserve_holidays(day.year)


@lru_cache(maxsize=4096)
def banking_day_from(day: dt.date) -> dt.date:
    """`day` itself, or the next banking day."""
    while not is_banking_day(day):
        day += dt.timedelta(days=1)
    return day


class BusinessClock(msgspec.Struct, frozen=True):
    """A ledger's day: time zone and cut-off."""

    zone: ZoneInfo
    cut_off: dt.time

    def end_of(self, day: str) -> str:
        """The last microsecond of a local day, RFC 3339."""
        midnight = dt.datetime.combine(
            dt.date.fromisoformat(day) + dt.timedelta(days=1), dt.time(), self.zone
        )
        return (midnight.astimezone(dt.UTC) - dt.timedelta(microseconds=1)).isoformat()

    def dates(self, moment: dt.datetime) -> tuple[dt.date, dt.date]:
        """Effective date (the local day) and business date of `moment`.

        At the cut-off or past it, and on a day that is no banking day, business is the next
        banking day's.
        """
        local = moment.astimezone(self.zone)
        day = local.date()
        following = local.time() >= self.cut_off
        return day, banking_day_from(day + dt.timedelta(days=1) if following else day)
