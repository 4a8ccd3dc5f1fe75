"""How figures are written, and where charts put them."""

from __future__ import annotations

import datetime as dt

from monitoring.console.charts import Day, chart, shares
from monitoring.console.formats import age, amount, days, local, moment, money, name, percent, words


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
    assert moment("2026-08-01T23:30:00-02:00") == "2\u00a0Aug\u00a02026, 01:30:00\u00a0UTC"


def test_a_ledgers_own_days_and_hours() -> None:
    late = "2026-08-02T03:59:59.000000Z"
    assert local(late, "America/New_York", exact=True) == "1\u00a0Aug\u00a02026, 23:59:59\u00a0EDT"
    assert local(late, "Asia/Tokyo") == "2\u00a0Aug\u00a02026, 12:59"
    now = dt.datetime(2026, 8, 14, 4, tzinfo=dt.UTC)
    assert age(late, now) == "12 d"
    assert age("2026-08-14T03:01:00Z", now) == "59 min"
    assert age("2026-08-14T04:00:01Z", now) == "< 1 min"
    assert days("2026-08-09", "2026-08-12") == "9 – 12 Aug 2026"
    assert days("2026-07-30", "2026-08-12") == "30 Jul – 12 Aug 2026"
    assert days("2025-12-31", "2026-01-01") == "31 Dec 2025 – 1 Jan 2026"
    assert days("2026-08-12", "2026-08-12") == "12 Aug 2026"


def test_rates_are_exact() -> None:
    assert [percent(rate) for rate in ("0.029", "0.0000001", "-0.5", "0", "1")] == [
        "2.9 %",
        "0.00001 %",
        "−50 %",
        "0 %",
        "100 %",
    ]


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
