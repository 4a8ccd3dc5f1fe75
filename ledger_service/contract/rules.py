"""What posting rules are made of, and what a transaction says of the rule that gave its amounts."""

from __future__ import annotations

from typing import Literal

import msgspec

from ledger_service.contract import forms

DayCount = Literal["ACT/360", "ACT/365F", "ACT/ACT", "30/360", "30U/360", "30E/360"]
"""Conventions of `domain.day_count`, with their sources there."""
Tiering = Literal["graduated", "volume"]
"""Graduated: each tier for the slice of the amount that lies in it. Volume: the one tier that holds
the whole amount, for all of it."""
Rounding = Literal["down", "half_up", "half_even"]


class Tier(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a posting rule asks from an amount on; minor units as text."""

    at_least: forms.Signed = "0"
    """The amount from which on this tier holds."""
    rate: forms.Decimal = "0"
    """Of the amount, a decimal: "0.029" is 2.9 %; of interest, a year's."""
    fixed: forms.Signed = "0"
    """Beside the rate, for fees."""


class Part(msgspec.Struct, frozen=True):
    """Who is debited or credited, and with which share of the whole."""

    account: forms.AccountOrSubject
    """An account's id, or `{account}`: the one to which the rule is applied."""
    weight: forms.Number
    """The shares are to each other as the weights are."""


class Applied(msgspec.Struct, frozen=True, omit_defaults=True):
    """The posting rule by which a transaction's amounts were worked out, and from what.

    Ratios are of minor units, `numerator/denominator`. What interest has accrued and not capitalized
    stands here too, as it is after this transaction.
    """

    rule: str
    version: forms.Number
    account: forms.Account
    """To which the rule was applied."""
    of_amount: forms.Signed | None = None
    """Of what a fee was taken."""
    first_day: forms.Day | None = None
    """The days whose interest this accrues, with the last one."""
    last_day: forms.Day | None = None
    interest: forms.Ratio | None = None
    """Of those days, exactly."""
    true_up: forms.Ratio | None = None
    """Ratio: what entries known since the last accrual change in the interest of the days before it;
    None: accrued before this was made up for."""
    period_start: forms.Day | None = None
    """The day from which interest accrues that is not capitalized yet."""
    accrued: forms.Signed | None = None
    """Whole minor units posted since then, and not capitalized; negative where more was taken back."""
    carried: forms.Ratio | None = None
    """Ratio: what has accrued beyond `accrued`; negative where `accrued` was rounded up."""
