"""Day-count conventions: which part of a year lies between two days, as an exact ratio.

Sources: ISDA 2006 Definitions, section 4.16, whose letters stand beside the names; MSRB Rule G-33
(`30/360`); SIFMA, Standard Securities Calculation Methods, volume 1 (`30U/360`).
"""

from __future__ import annotations

import calendar
import datetime as dt
from fractions import Fraction

from ledger_service.contract.rules import DayCount


def year_fraction(convention: DayCount, first: dt.date, past: dt.date) -> Fraction:
    """The part of a year from `first` on, up to and without `past`, which is not before it."""
    if convention == "ACT/360":  # 4.16(e)
        return Fraction((past - first).days, 360)
    if convention == "ACT/365F":  # 4.16(d)
        return Fraction((past - first).days, 365)
    if convention == "ACT/ACT":  # 4.16(b)
        return _actual_actual(first, past)
    return Fraction(_days_of_30(convention, first, past), 360)


def _actual_actual(first: dt.date, past: dt.date) -> Fraction:
    """The days of leap years over 366, all others over 365."""
    if first.year == past.year:
        return Fraction((past - first).days, _days_in(first.year))
    whole_years = past.year - first.year - 1
    begun = Fraction((dt.date(first.year + 1, 1, 1) - first).days, _days_in(first.year))
    ended = Fraction((past - dt.date(past.year, 1, 1)).days, _days_in(past.year))
    return begun + whole_years + ended


def _days_in(year: int) -> int:
    return 366 if calendar.isleap(year) else 365


def _days_of_30(convention: DayCount, first: dt.date, past: dt.date) -> int:
    """Days between in a year of twelve months of thirty days."""
    day, past_day = first.day, past.day
    if convention == "30E/360":  # 4.16(g)
        day, past_day = min(day, 30), min(past_day, 30)
    else:  # 4.16(f) and G-33
        if convention == "30U/360" and _ends_february(first):
            past_day = 30 if _ends_february(past) else past_day
            day = 30
        if past_day == 31 and day >= 30:
            past_day = 30
        day = min(day, 30)
    return 360 * (past.year - first.year) + 30 * (past.month - first.month) + past_day - day


def _ends_february(day: dt.date) -> bool:
    return day.month == 2 and (day + dt.timedelta(days=1)).month == 3
