"""Federal Reserve holidays, against the published schedule."""

from __future__ import annotations

import datetime as dt

from ledger_service.domain.calendar import banking_day_from, federal_reserve_holidays

PUBLISHED = {
    2026: "01-01 01-19 02-16 05-25 06-19 07-04 09-07 10-12 11-11 11-26 12-25",
    2027: "01-01 01-18 02-15 05-31 06-19 07-05 09-06 10-11 11-11 11-25 12-25",
    2028: "01-01 01-17 02-21 05-29 06-19 07-04 09-04 10-09 11-11 11-23 12-25",
}
"""Source: Federal Reserve Financial Services; days on a Saturday are listed and not kept."""


def test_holidays_are_those_of_the_published_schedule() -> None:
    for year, days in PUBLISHED.items():
        found = {f"{day:%m-%d}" for day in federal_reserve_holidays(year)}
        assert found == set(days.split())


def test_a_holiday_on_saturday_leaves_friday_open() -> None:
    assert banking_day_from(dt.date(2026, 7, 3)) == dt.date(2026, 7, 3)
    assert banking_day_from(dt.date(2026, 7, 4)) == dt.date(2026, 7, 6)
    assert banking_day_from(dt.date(2027, 7, 4)) == dt.date(2027, 7, 6)
