"""Money: major units to minor ones, in ISO 4217's places and in those that a ledger declared."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest

from ledger_service.contract.money import EXPONENTS, OWN_CURRENCY, MoneyError, to_minor


def test_a_currency_of_a_ledger_s_own_has_the_places_given() -> None:
    assert to_minor("1.5", "USDX", places=9) == (1_500_000_000, Decimal(0))
    assert to_minor("1.5", "USD") == (150, Decimal(0))
    with pytest.raises(MoneyError) as error:
        to_minor("1.5", "USDX")
    assert error.value.code == "unknown_currency"
    with pytest.raises(MoneyError) as error:
        to_minor("0.0000000001", "USDX", places=9)
    assert error.value.code == "not_whole_minor_units"


def test_no_currency_of_a_ledger_s_own_can_be_taken_for_iso_s() -> None:
    assert not [code for code in EXPONENTS if re.fullmatch(OWN_CURRENCY, code)]
