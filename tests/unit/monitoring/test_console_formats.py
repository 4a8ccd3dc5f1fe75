"""How figures are written, and where charts put them."""

from __future__ import annotations

import datetime as dt

from monitoring.console.charts import Day, chart, shares
from monitoring.console.formats import amount, moment, money, name, words


def test_money_is_exact_at_any_size_and_exponent() -> None:
    assert money(-123450, 2) == "−1,234.50"
    assert money(5, 3) == "0.005"
    assert money(10**30 + 1, 2) == "10,000,000,000,000,000,000,000,000,000.01"
    assert money(42, 0) == "42"


def test_markup_is_escaped() -> None:
    assert "<b>" not in amount(1, 2, "<b>")
    assert '"><' not in name('x"><b>' * 10)


def test_words_and_times() -> None:
    assert words("missing_in_ledger") == "Missing in ledger"
    assert words("ctr_aggregation") == "CTR aggregation"
    assert moment("2026-08-01T23:30:00-02:00") == "2 Aug 2026, 01:30:00 UTC"


def test_charts_stay_inside_their_frame() -> None:
    for values in ([0], [5, 5], [-700, 900, 0], [10**18, 10**18 + 1], [-5]):
        days = [
            Day(dt.date(2026, 7, 1) + dt.timedelta(days=n), value) for n, value in enumerate(values)
        ]
        for zero in (False, True):
            drawn = chart(days, exponent=2, currency="USD", zero=zero)
            assert drawn is not None
            assert all(0 <= point.y <= drawn.height for point in drawn.points)
            assert all(drawn.left <= point.x <= drawn.right for point in drawn.points)
    assert chart([], exponent=2, currency="USD") is None


def test_the_equations_bars_share_one_scale() -> None:
    (bank,), (cash,), (customers, transit) = shares([1000], [900], [800, 100])
    assert bank.width == 1000
    assert cash.width == customers.width + transit.width == 900
    (_,), (owed, back) = shares([700], [800, -100])
    assert back.x + back.width == owed.width
    assert back.x == owed.width - back.width == 875.0
