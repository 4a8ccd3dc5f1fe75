"""Money is an integer of minor units and a currency; a float is neither accepted nor produced.

JSON carries amounts as strings of digits ("1250" is 12.50 USD), because readers in other languages
lose integers above 2^53 silently. A posting is 1 .. 2^63-1 minor units; sums may need more and are
Python integers here and DECIMAL(38,0) in the marts.

Source of the exponents: ISO 4217, list one (2026), minor units other than two listed by name.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Literal

MAX_POSTING_MINOR = 2**63 - 1

_TWO_PLACES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHF CNY COP CRC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD "
    "HKD HNL HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA "
    "MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN "
    "QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP "
    "TRY TTD TWD TZS UAH USD UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG"
)
_NO_PLACES = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX VND VUV XAF XOF XPF"
_THREE_PLACES = "BHD IQD JOD KWD LYD OMR TND"
EXPONENTS: dict[str, int] = {
    **dict.fromkeys(_TWO_PLACES.split(), 2),
    **dict.fromkeys(_NO_PLACES.split(), 0),
    **dict.fromkeys(_THREE_PLACES.split(), 3),
}
"""Decimal places of each currency's minor unit."""

OWN_CURRENCY = r"[A-Z][A-Z0-9]{3,11}"
"""What a ledger may call a currency that it declares: never three letters, which are ISO 4217's."""
MAX_EXPONENT = 9

_DIGITS = re.compile(r"[1-9][0-9]{0,18}\Z")

Rounding = Literal["reject", "half_even"]


class MoneyError(ValueError):
    """An amount or currency that can't be money here. `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def exponent(currency: str) -> int:
    """Decimal places of `currency`. Errors: `unknown_currency`."""
    try:
        return EXPONENTS[currency]
    except KeyError:
        raise MoneyError(
            "unknown_currency", f"{currency!r} is not an ISO 4217 currency code; write e.g. USD."
        ) from None


def parse_minor(text: object) -> int:
    """A posting's amount from its JSON form: digits only, positive, at most 2^63-1.

    Refuses "1e2", "1.0", "+5", "007", "" and numbers of any other JSON type. Errors: `bad_amount`.
    """
    if not isinstance(text, str) or not _DIGITS.match(text) or int(text) > MAX_POSTING_MINOR:
        raise MoneyError(
            "bad_amount",
            "An amount is a string of digits in minor units, from 1 to 9223372036854775807: "
            'write "1250" for 12.50 USD.',
        )
    return int(text)


def to_minor(
    text: str | Decimal,
    currency: str,
    rounding: Rounding = "reject",
    *,
    places: int | None = None,
) -> tuple[int, Decimal]:
    """Major units to minor units: ("12.50", "USD") gives (1250, 0).

    The second value is the residual, source minus result, in minor units: what rounding took away
    (positive) or added (negative). With `reject`, an amount that is not whole minor units raises
    `not_whole_minor_units`. The sign is kept; zero is allowed (the caller decides what it means).
    `places` are those of a currency that a ledger declared; None: ISO 4217's.
    Errors: `unknown_currency`, `bad_amount`, `not_whole_minor_units`.
    """
    places = exponent(currency) if places is None else places
    try:
        exact = Decimal(text).scaleb(places)
    except (InvalidOperation, ValueError):
        raise MoneyError("bad_amount", f"{text!r} is not a decimal number.") from None
    if not exact.is_finite():
        raise MoneyError("bad_amount", f"{text!r} is not a finite number.")
    minor = exact.to_integral_value(rounding=ROUND_HALF_EVEN)
    residual = exact - minor
    if residual and rounding == "reject":
        raise MoneyError(
            "not_whole_minor_units",
            f"{text} {currency} is not a whole number of minor units; correct the source, or load "
            "with rounding: half_even.",
        )
    return int(minor), residual


def format_minor(minor: int, currency: str) -> str:
    """Minor units for people: (123450, "USD") gives "1,234.50"; no currency sign."""
    places = exponent(currency)
    sign, digits = ("-" if minor < 0 else ""), str(abs(minor)).rjust(places + 1, "0")
    whole, fraction = (digits[:-places], "." + digits[-places:]) if places else (digits, "")
    return f"{sign}{int(whole):,}{fraction}"
