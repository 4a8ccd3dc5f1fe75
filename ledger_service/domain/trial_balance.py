"""The trial balance rolled up: what stands under each heading of the general ledger."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ledger_service.contract.events import AccountClass, TrialLine
from ledger_service.domain.chart import Chart


class RollUp(msgspec.Struct, frozen=True):
    """A heading that others are rolled up into: sums of minor units as text.

    It is the sum of the lines and roll-ups whose parent it is; they are of one class, and either
    customers' money or our own.
    """

    gl_code: str
    name: str
    parent: str | None
    account_class: AccountClass
    custodial: bool
    currency: str
    debits: str
    credits: str


def roll_ups(chart: Chart, lines: Iterable[TrialLine]) -> list[RollUp]:
    """The roll-ups of a trial balance, by code and currency. Errors: KeyError for a code not in
    the chart.
    """
    sums: dict[tuple[str, str], tuple[TrialLine, int, int]] = {}
    for line in lines:
        for code in chart.path(line.gl_code)[1:]:
            _, debits, credits_ = sums.get((code, line.currency), (line, 0, 0))
            sums[code, line.currency] = (
                line,
                debits + int(line.debits),
                credits_ + int(line.credits),
            )
    return [
        RollUp(
            code,
            chart.headings[code].name,
            chart.headings[code].parent,
            line.account_class,
            line.custodial,
            currency,
            str(debits),
            str(credits_),
        )
        for (code, currency), (line, debits, credits_) in sorted(
            sums.items(), key=lambda item: item[0]
        )
    ]
