"""Exchange: two currencies in one transaction, each balanced on its own, joined by a stated rate.

What is sold goes into our position in that currency and what is bought comes out of our position in
the other one, so a position account says at any time what we are long or short. The rate is a ratio
of integers; the amounts may differ from it by less than one minor unit, which is rounding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ledger_service.contract.events import Entry, Rate
from ledger_service.contract.money import MAX_POSTING_MINOR
from ledger_service.domain.errors import Refusal, refusal

POSITION = "position:"
"""Beginning of the ids of position accounts; a credit makes the position longer."""


def check_rate(
    entries: Sequence[Entry], rate: Rate | None, exponents: Mapping[str, int]
) -> Refusal | None:
    """Whether the entries' currencies are one, or two at the stated rate."""
    currencies = {entry.currency for entry in entries}
    if len(currencies) == 1:
        return None if rate is None else refusal("rate_not_needed")
    if len(currencies) > 2:
        return refusal("too_many_currencies", currencies=sorted(currencies))
    if rate is None:
        return refusal("rate_missing", currencies=sorted(currencies))
    if {rate.sell, rate.buy} != currencies or not _is_ratio(rate):
        return refusal("bad_rate")
    return _check_positions(entries, rate, exponents)


def _is_ratio(rate: Rate) -> bool:
    return all(
        text.isascii() and text.isdecimal() and 0 < int(text) <= MAX_POSTING_MINOR
        for text in (rate.numerator, rate.denominator)
    )


def _check_positions(
    entries: Sequence[Entry], rate: Rate, exponents: Mapping[str, int]
) -> Refusal | None:
    net = {rate.sell: 0, rate.buy: 0}
    for entry in entries:
        if entry.account.startswith(POSITION):
            amount = int(entry.amount)
            net[entry.currency] += amount if entry.side == "credit" else -amount
    sold, bought = net[rate.sell], -net[rate.buy]
    if sold <= 0 or bought <= 0:
        return refusal("not_through_positions", sell=rate.sell, buy=rate.buy)
    # bought / 10^places = sold / 10^places * numerator / denominator, without a division
    unit = 10 ** exponents[rate.sell] * int(rate.denominator)
    due = sold * int(rate.numerator) * 10 ** exponents[rate.buy]
    if abs(bought * unit - due) >= unit:
        return refusal("rate_differs", sold=str(sold), bought=str(bought), due=str(due // unit))
    return None
