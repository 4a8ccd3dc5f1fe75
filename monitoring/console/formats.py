"""How figures, days and names are written on pages."""

from __future__ import annotations

import datetime as dt
from typing import Any

from markupsafe import Markup, escape


def money(minor: Any, exponent: int) -> str:
    """Minor units for people: (-123450, 2) gives "−1,234.50", with a true minus sign."""
    minor = int(minor)
    digits = str(abs(minor)).rjust(exponent + 1, "0")
    whole, fraction = (digits[:-exponent], "." + digits[-exponent:]) if exponent else (digits, "")
    return f"{'−' if minor < 0 else ''}{int(whole):,}{fraction}"


def amount(minor: Any, exponent: int, currency: str) -> Markup:
    """An amount with its currency, as HTML; an em dash for None."""
    if minor is None:
        return Markup('<span class="amount none">—</span>')
    sign = " negative" if int(minor) < 0 else ""
    return Markup('<span class="amount{}">{}&nbsp;<span class="currency">{}</span></span>').format(
        sign, money(minor, exponent), currency
    )


def short_money(minor: int, exponent: int) -> str:
    """For axes: "1.2M", "−350k", "12"."""
    units = abs(minor) / 10**exponent
    sign = "−" if minor < 0 else ""
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if units >= factor:
            return f"{sign}{units / factor:.3g}{letter}"
    return f"{sign}{units:.3g}"


def day(value: dt.date | str | None) -> str:
    """A date as 12 Aug 2026."""
    if value is None:
        return "—"
    if isinstance(value, str):
        value = dt.date.fromisoformat(value[:10])
    return f"{value.day} {value:%b %Y}"


def moment(value: dt.datetime | str | None) -> str:
    """A time as 12 Aug 2026, 14:03:07 UTC. Times without a zone are UTC, as in the marts."""
    if value is None:
        return "—"
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC)
    return f"{day(value)}, {value:%H:%M:%S} UTC"


def minute(value: dt.datetime) -> str:
    """A time in a table, as 12 Aug 2026, 14:03; UTC."""
    return f"{day(value)}, {value:%H:%M}"


def count(value: Any) -> str:
    """A whole number with thousands separated; an em dash for None."""
    return "—" if value is None else f"{int(value):,}"


_ACRONYMS = {name.lower(): name for name in ("ACH", "CTR", "FBO", "GL", "API")}


def words(code: str | None) -> str:
    """A code as words: missing_in_ledger gives "Missing in ledger"."""
    parts = [_ACRONYMS.get(part, part) for part in (code or "—").split("_")]
    text = " ".join(parts)
    return text[:1].upper() + text[1:]


def name(identifier: str | None) -> Markup:
    """An identifier, shortened in the middle if long, whole in its title."""
    if not identifier:
        return Markup("—")
    shown = identifier if len(identifier) <= 26 else f"{identifier[:12]}…{identifier[-6:]}"
    return Markup('<span class="id" title="{}">{}</span>').format(identifier, shown)


def hexadecimal(value: bytes) -> str:
    """Bytes as hexadecimal digits."""
    return value.hex()


FILTERS = {
    "amount": amount,
    "money": money,
    "day": day,
    "moment": moment,
    "minute": minute,
    "count": count,
    "words": words,
    "name": name,
    "hex": hexadecimal,
    "escape": escape,
}
