"""Roll-ups: what stands under each heading is the sum of what it is made of."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from ledger_service.contract.events import TrialLine
from ledger_service.domain.trial_balance import roll_ups
from ledger_service.engine.charts import known_charts

CHART = known_charts()["us_fintech_fbo/1"]
RULES = {rule.gl_code: rule for _, rule in CHART.rules}


@st.composite
def trial_balances(draw) -> list[TrialLine]:
    keys = draw(st.sets(st.tuples(st.sampled_from(sorted(RULES)), st.sampled_from(["EUR", "USD"]))))
    sums = st.integers(0, 2**70).map(str)
    return [
        TrialLine(code, RULES[code].account_class, RULES[code].custodial, currency, draw(sums), draw(sums))
        for code, currency in sorted(keys)
    ]  # fmt: skip


@given(lines=trial_balances())
def test_a_heading_is_the_sum_of_what_is_directly_under_it(lines) -> None:
    found = roll_ups(CHART, lines)
    assert [(one.gl_code, one.currency) for one in found] == sorted(
        {(code, line.currency) for line in lines for code in CHART.path(line.gl_code)[1:]}
    )
    parents = {(line.gl_code, line.currency): CHART.headings[line.gl_code].parent for line in lines}
    parents |= {(one.gl_code, one.currency): one.parent for one in found}
    for one in found:
        under = [
            part for part in (*lines, *found)
            if parents[part.gl_code, part.currency] == one.gl_code and part.currency == one.currency
        ]  # fmt: skip
        assert int(one.debits) == sum(int(part.debits) for part in under)
        assert int(one.credits) == sum(int(part.credits) for part in under)
        assert {(part.account_class, part.custodial) for part in under} == {
            (one.account_class, one.custodial)
        }


@given(lines=trial_balances())
def test_the_top_headings_sum_to_the_whole(lines) -> None:
    tops = [one for one in roll_ups(CHART, lines) if one.parent is None]
    for currency in ("EUR", "USD"):
        for side in ("debits", "credits"):
            whole, top = (
                sum(int(getattr(one, side)) for one in some if one.currency == currency)
                for some in (lines, tops)
            )
            assert whole == top


def test_a_roll_up_says_what_it_is() -> None:
    found = roll_ups(CHART, [TrialLine("1020", "asset", False, "USD", "7", "2")])  # noqa: FBT003
    assert [(one.gl_code, one.name, one.debits, one.credits) for one in found] == [
        ("1100", "Our own assets", "7", "2")
    ]
