"""How figures, days and names are written on pages."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from ledger_service.contract.events import Entry, Side


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


def debits(entries: Sequence[Entry]) -> int:
    """What entries move, minor units: the sum of their debits."""
    return sum(int(entry.amount) for entry in entries if entry.side == "debit")


def accounts(entries: Sequence[Entry], side: Side) -> Markup:
    """The accounts of one side, in a cell: the first, and how many more."""
    found = [entry.account for entry in entries if entry.side == side]
    more = f" and {len(found) - 1} more" if len(found) > 1 else ""
    return Markup('{}<span class="dim">{}</span>').format(name(found[0] if found else None), more)


def short_money(minor: int, exponent: int) -> str:
    """For axes: "1.2M", "−350k", "12"."""
    units = abs(minor) / 10**exponent
    sign = "−" if minor < 0 else ""
    for factor, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if units >= factor:
            return f"{sign}{units / factor:.3g}{letter}"
    return f"{sign}{units:.3g}"


def unbroken(text: str) -> str:
    """Text that stays on one line."""
    return text.replace(" ", "\N{NO-BREAK SPACE}")


def day(value: dt.date | str | None) -> str:
    """A date as 12 Aug 2026."""
    if value is None:
        return "—"
    if isinstance(value, str):
        value = dt.date.fromisoformat(value[:10])
    return f"{value.day} {value:%b %Y}"


def days(first: dt.date | str, last: dt.date | str) -> str:
    """A span of days as 9 – 12 Aug 2026, without what both ends share; one day as itself."""
    first, last = (
        dt.date.fromisoformat(end[:10]) if isinstance(end, str) else end for end in (first, last)
    )
    if first == last:
        return day(last)
    if first.year != last.year:
        return f"{day(first)} – {day(last)}"
    month = "" if first.month == last.month else f" {first:%b}"
    return f"{first.day}{month} – {day(last)}"


def moment(value: dt.datetime | str | None) -> str:
    """A time as 12 Aug 2026, 14:03:07 UTC. Times without a zone are UTC, as in the marts.

    In a narrow place it breaks between day and time alone.
    """
    if value is None:
        return "—"
    if isinstance(value, str):
        value = dt.datetime.fromisoformat(value)
    if value.tzinfo is not None:
        value = value.astimezone(dt.UTC)
    return f"{unbroken(day(value))}, {unbroken(f'{value:%H:%M:%S} UTC')}"


def minute(value: dt.datetime) -> str:
    """A time in a table, as 12 Aug 2026, 14:03; UTC."""
    return f"{day(value)}, {value:%H:%M}"


def local(value: str | None, time_zone: str, *, exact: bool = False) -> str:
    """A time of a ledger by its own clock: 12 Aug 2026, 10:03; exact: 12 Aug 2026, 10:03:07 EDT.

    In a narrow cell it breaks between day and time alone.
    """
    if value is None:
        return "—"
    there = dt.datetime.fromisoformat(value).astimezone(ZoneInfo(time_zone))
    time = f"{there:{'%H:%M:%S %Z' if exact else '%H:%M'}}"
    return f"{unbroken(day(there.date()))}, {unbroken(time)}"


def age(value: str, now: dt.datetime) -> str:
    """How long ago a time was, in its largest unit: 12 d, 3 h, 5 min."""
    seconds = max(int((now - dt.datetime.fromisoformat(value)).total_seconds()), 0)
    for unit, length in (("d", 86_400), ("h", 3_600)):
        if seconds >= length:
            return f"{seconds // length:,} {unit}"
    return f"{seconds // 60} min" if seconds >= 60 else "< 1 min"


def percent(rate: str) -> str:
    """A rate for people: "0.029" gives "2.9 %"."""
    return f"{(Decimal(rate) * 100).normalize():f} %".replace("-", "−")


def ratio(value: str) -> str:
    """An exact ratio for people: "-1/3" gives "−1/3", "2/1" gives "2"."""
    return value.removesuffix("/1").replace("-", "−")


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
    "debits": debits,
    "accounts": accounts,
    "day": day,
    "days": days,
    "moment": moment,
    "minute": minute,
    "local": local,
    "age": age,
    "percent": percent,
    "ratio": ratio,
    "count": count,
    "words": words,
    "name": name,
    "hex": hexadecimal,
    "escape": escape,
}
