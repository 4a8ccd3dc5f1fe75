"""What the texts and numbers of an event look like: the forms that its types alone don't say.

A form is written beside the type and into the published schema; it costs nothing when events are
decoded, since what stands in the journal was checked before it came there. Patterns are in the
common part of Python, ECMA 262, Java and RE2, so that every language's validator reads them.
"""

from __future__ import annotations

import re
from typing import Annotated

from msgspec import Meta

from ledger_service.contract.identifiers import ACCOUNT, ACCOUNT_MAX_LENGTH, PARTY, REFERENCE
from ledger_service.contract.money import MAX_EXPONENT, OWN_CURRENCY

AMOUNT = "^[1-9][0-9]{0,18}$"
SIGNED = "^(0|-?[1-9][0-9]{0,18})$"
RATIO = "^-?[0-9]+/[1-9][0-9]*$"
DAY = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
MOMENT = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$"
MAX_INTEGER = 2**53 - 1
"""No number of an event is above what every JSON reader keeps exactly; `seq` begins at 1."""


def _pattern(whole: re.Pattern[str], instead: str = "") -> str:
    """The pattern of an identifier, or of `instead`, as every language writes it."""
    one = whole.pattern.removesuffix(r"\Z")
    return f"^({instead}|{one})$" if instead else f"^{one}$"


def _text(pattern: str, description: str, **more: object) -> Meta:
    return Meta(extra_json_schema={"pattern": pattern, **more}, description=description)


def _whole(least: int, most: int = MAX_INTEGER, description: str | None = None) -> Meta:
    return Meta(extra_json_schema={"minimum": least, "maximum": most}, description=description)


MAY_GROW = Meta(extra_json_schema={"x-may-grow": True})
"""Beside a list of words: more may come within a version, and a reader takes one that it doesn't know
as it is. Any other list is complete for as long as the version lasts."""

Amount = Annotated[str, _text(AMOUNT, "Minor units, 1 to 2^63-1: digits as text, never a number.")]
Signed = Annotated[
    str, _text(SIGNED, "Minor units, may be zero or negative: digits as text, never a number.")
]
Sum = Annotated[
    str,
    _text("^(0|[1-9][0-9]*)$", "A sum of minor units: digits as text, may need more than 64 bits."),
]
Digits = Annotated[
    str, _text("^[0-9]*[1-9][0-9]*$", "A whole number above zero, to 2^63-1: digits as text.")
]
Decimal = Annotated[
    str,
    _text(r"^(0|[1-9][0-9]{0,3})(\.[0-9]{1,12})?$", "A decimal as text: exact, never a number."),
]
Ratio = Annotated[
    str, _text(RATIO, "Of minor units, exactly: numerator/denominator, digits as text.")
]
Day = Annotated[str, _text(DAY, "YYYY-MM-DD.", format="date")]
Moment = Annotated[
    str, _text(MOMENT, "RFC 3339 in UTC, six places and a Z: sorts as text.", format="date-time")
]
WallTime = Annotated[str, _text("^([01][0-9]|2[0-3]):[0-5][0-9]$", "HH:MM.")]
Digest = Annotated[str, _text("^[0-9a-f]{64}$", "SHA-256 in hex.")]
Uuid = Annotated[
    str, _text("^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", "A UUID.", format="uuid")
]
Ledger = Annotated[str, _text("^[a-z][a-z0-9_]{1,30}$", "A ledger's name.")]
Account = Annotated[str, _text(_pattern(ACCOUNT), "An account's id.", maxLength=ACCOUNT_MAX_LENGTH)]
AccountOrSubject = Annotated[
    str,
    _text(
        _pattern(ACCOUNT, r"\{account\}"),
        "An account's id, or {account}.",
        maxLength=ACCOUNT_MAX_LENGTH,
    ),
]
Party = Annotated[str, _text(_pattern(PARTY), "An opaque party id.")]
Token = Annotated[str, _text("^[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}$", "An opaque token.")]
Reference = Annotated[str, _text(_pattern(REFERENCE), "As printed on a statement.")]
Currency = Annotated[
    str,
    _text(f"^([A-Z]{{3}}|{OWN_CURRENCY})$", "ISO 4217's code, or one that the ledger declared."),
]
OwnCurrency = Annotated[str, _text(f"^{OWN_CURRENCY}$", "A currency that the ledger declared.")]
Country = Annotated[str, _text("^[A-Z]{2}$", "ISO 3166-1 alpha-2.")]
Seq = Annotated[
    int, _whole(1, description="Position in its ledger's journal or its stream: gapless, from 1.")
]
Count = Annotated[int, _whole(0)]
Number = Annotated[int, _whole(1)]
Exponent = Annotated[int, _whole(0, MAX_EXPONENT)]
NoneOrOne = Annotated[int, _whole(0, 1)]
