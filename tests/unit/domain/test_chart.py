"""The chart of accounts: what an id is in the books, and what it is rolled up into."""

from __future__ import annotations

import pytest

from ledger_service.domain.chart import ChartError, load_chart
from ledger_service.engine.charts import known_charts

CHART = known_charts()["us_fintech_fbo/1"]
SMALL = """
name: small
version: 1
general_ledger:
  - {code: "1", name: Ours}
  - {code: "11", name: Cash, parent: "1"}
  - {code: "2", name: Customers}
accounts:
  - {pattern: "bank:*", class: asset, custodial: false, gl_code: "11"}
  - {pattern: "customer:*", class: liability, custodial: true, gl_code: "2"}
metadata: {invoice: number of an invoice}
"""


@pytest.mark.parametrize(
    ("account", "code", "side"),
    [
        ("bank:fbo", "1010", "debit"),
        ("customer:42:wallet", "2010", "credit"),
        ("clearing:ach", "2110", "credit"),
        ("receivable:shortfall_eur", "1310", "debit"),
        ("position:eur", "3910", "credit"),
        ("income:fees:monthly", "4010", "credit"),
        ("expense:interest", "5010", "debit"),
    ],
)
def test_an_id_says_what_an_account_is(account, code, side) -> None:
    rule = CHART.rule(account)
    assert rule is not None
    assert (rule.gl_code, rule.normal_side) == (code, side)


@pytest.mark.parametrize("account", ["planet:mars", "customer:42", "clearing:pigeon", "bank:other"])
def test_an_id_that_no_pattern_fits_is_nothing(account) -> None:
    assert CHART.rule(account) is None


def test_every_code_is_rolled_up_to_the_top_and_never_mixes_whose_money_it_is() -> None:
    tops: dict[str, set[tuple[str, bool]]] = {}
    for _, rule in CHART.rules:
        *_, top = CHART.path(rule.gl_code)
        tops.setdefault(top, set()).add((rule.account_class, rule.custodial))
    assert all(len(kinds) == 1 for kinds in tops.values())
    assert CHART.path("2095") == ["2095", "2000"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('gl_code: "11"', 'gl_code: "12"', "12 is not in the general ledger"),
        ('parent: "1"', 'parent: "9"', "9 is not in the general ledger"),
        ('parent: "1"', 'parent: "2"', "2 would mix"),
        ('{code: "1", name: Ours}', '{code: "1", name: Ours, parent: "11"}', "into itself"),
        ('{code: "2", name', '{code: "1", name', "there twice"),
        ("custodial: true", "custodial: maybe", "custodial"),
        ("class: asset", "class: treasure", "treasure"),
        ("version: 1", "version: [", "chart of accounts"),
    ],
)
def test_a_chart_that_cannot_be_used_says_why(old, new, message) -> None:
    assert load_chart(SMALL).title == "small/1"
    with pytest.raises(ChartError, match=message):
        load_chart(SMALL.replace(old, new, 1))
