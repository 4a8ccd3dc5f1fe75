"""Day-count conventions, against values that others published."""

from __future__ import annotations

import datetime as dt
from fractions import Fraction
from typing import get_args

import hypothesis.strategies as st
import pytest
from hypothesis import given

from ledger_service.contract.rules import DayCount
from ledger_service.domain.day_count import year_fraction

DAYS = st.dates(dt.date(1990, 1, 1), dt.date(2060, 1, 1))


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


# ISDA, "30/360 Day Count Conventions" (2008), examples 1 to 3: 4.16(f) and 4.16(g).
@pytest.mark.parametrize(
    ("first", "past", "bond_basis", "eurobond_basis"),
    [
        ("2006-08-20", "2007-02-20", 180, 180),
        ("2006-08-31", "2007-02-28", 178, 178),
        ("2007-02-28", "2007-08-31", 183, 182),
        ("2007-08-31", "2008-02-29", 179, 179),
        ("2008-02-29", "2008-08-31", 182, 181),
        ("2006-01-31", "2006-02-28", 28, 28),
        ("2006-01-30", "2006-02-28", 28, 28),
        ("2006-02-28", "2006-03-03", 5, 5),
        ("2006-02-14", "2006-02-28", 14, 14),
        ("2006-09-30", "2006-10-31", 30, 30),
        ("2006-10-31", "2006-11-28", 28, 28),
        ("2008-02-28", "2008-08-30", 182, 182),
        ("2008-02-28", "2008-08-31", 183, 182),
        ("2007-02-26", "2008-02-29", 363, 363),
        ("2008-02-29", "2009-02-28", 359, 359),
        ("2008-02-28", "2008-03-30", 32, 32),
        ("2008-02-28", "2008-03-31", 33, 32),
    ],
)
def test_months_of_thirty_days_are_as_isda_has_them(first, past, bond_basis, eurobond_basis):
    assert year_fraction("30/360", day(first), day(past)) == Fraction(bond_basis, 360)
    assert year_fraction("30E/360", day(first), day(past)) == Fraction(eurobond_basis, 360)


# SIFMA: where the first day ends February, it and a last day that ends February are the 30th.
@pytest.mark.parametrize(
    ("first", "past", "days"),
    [
        ("2006-08-31", "2007-02-28", 178),
        ("2007-02-28", "2007-08-31", 180),
        ("2007-02-28", "2008-02-28", 358),
        ("2007-02-28", "2008-02-29", 360),
        ("2008-02-29", "2009-02-28", 360),
        ("2007-02-26", "2008-02-29", 363),
        ("2007-02-28", "2007-03-05", 5),
        ("2007-01-15", "2007-01-31", 16),
        ("2007-01-30", "2007-03-31", 60),
    ],
)
def test_the_end_of_february_is_the_30th_as_sifma_has_it(first, past, days):
    assert year_fraction("30U/360", day(first), day(past)) == Fraction(days, 360)


# From ISDA, "EMU and Market Conventions: Recent Developments" (1998): interest on 10,000 at 10 %.
@pytest.mark.parametrize(
    ("first", "past", "interest"),
    [
        ("2003-11-01", "2004-05-01", "497.72"),
        ("1999-02-01", "1999-07-01", "410.96"),
        ("1999-07-01", "2000-07-01", "1001.38"),
        ("2002-08-15", "2003-07-15", "915.07"),
        ("2003-07-15", "2004-01-15", "504.00"),
        ("1999-07-30", "2000-01-30", "503.89"),
        ("2000-01-30", "2000-06-30", "415.30"),
        ("1999-11-30", "2000-04-30", "415.54"),
    ],
)
def test_actual_over_actual_is_as_isda_has_it(first, past, interest):
    found = 1000 * year_fraction("ACT/ACT", day(first), day(past))
    assert abs(found - Fraction(interest)) <= Fraction(1, 200)


def test_actual_days_over_a_fixed_year():
    assert year_fraction("ACT/360", day("2024-01-01"), day("2025-01-01")) == Fraction(366, 360)
    assert year_fraction("ACT/365F", day("2024-01-01"), day("2025-01-01")) == Fraction(366, 365)


@pytest.mark.parametrize("convention", get_args(DayCount))
@given(days=st.tuples(DAYS, DAYS, DAYS))
def test_a_fraction_only_grows_with_the_days(convention, days):
    first, middle, past = sorted(days)
    assert year_fraction(convention, first, first) == 0
    assert 0 <= year_fraction(convention, first, middle) <= year_fraction(convention, first, past)
