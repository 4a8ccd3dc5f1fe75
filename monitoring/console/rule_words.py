"""A posting rule's terms in words, for who has to decide on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from ledger_service.contract.events import RuleDeclared, RuleWithdrawn
from ledger_service.contract.rules import DayCount, Part, Rounding, Tier, Tiering
from monitoring.console.formats import day, money, percent, unbroken

Version = RuleDeclared | RuleWithdrawn

ROUNDINGS: dict[Rounding, str] = {
    "half_even": "Half to even, once at the end",
    "half_up": "Half up, once at the end",
    "down": "Down, once at the end",
}
DAY_COUNTS: dict[DayCount, str] = {
    "ACT/360": "as in the calendar, over a year of 360",
    "ACT/365F": "as in the calendar, over a year of 365",
    "ACT/ACT": "as in the calendar, over a year of 365 or, in leap years, 366",
    "30/360": "months of 30 days, over a year of 360 (bond basis)",
    "30U/360": "months of 30 days, February’s end too, over a year of 360 (SIFMA)",
    "30E/360": "months of 30 days, over a year of 360 (Eurobond basis)",
}
_BALANCES = {
    "positive": "Balances on the account’s normal side",
    "negative": "Balances on the other side than the account’s normal one",
}


class Terms(msgspec.Struct, frozen=True):
    """What is declared of a rule, or asked for."""

    rule: str
    since: str
    kind: Literal["fee", "interest"]
    currency: str
    tiers: list[Tier]
    tiering: Tiering
    minimum: str | None
    maximum: str | None
    rounding: Rounding
    day_count: DayCount | None
    balances: Literal["positive", "negative"]
    debit: list[Part]
    credit: list[Part]


def asked(facts: dict[str, Any]) -> Terms:
    """The terms that an approval is asked for."""
    return msgspec.convert({**facts, "kind": facts["rule_kind"]}, Terms)


def declared(event: RuleDeclared) -> Terms:
    """The terms of a version."""
    return msgspec.convert(event, Terms, from_attributes=True)


def replaced(versions: Sequence[Version], since: str) -> RuleDeclared | None:
    """Whose place new terms take from a day on: those in force on it, else the last ones."""
    on_that_day = [one for one in versions if one.since <= since][-1:]
    known = [one for one in versions if isinstance(one, RuleDeclared)]
    found = [one for one in on_that_day if isinstance(one, RuleDeclared)] or known[-1:]
    return found[0] if found else None


def in_words(terms: Terms, places: int) -> dict[str, list[str]]:
    """Each term by its title, in lines. `places`: of the currency."""

    def units(minor: str) -> str:
        return unbroken(f"{money(minor, places)} {terms.currency}")

    first = {
        "Kind": [f"{'A fee' if terms.kind == 'fee' else 'Interest'}, in {terms.currency}"],
        "In force": [f"From {day(terms.since)} on"],
    }
    last = {
        "Rounded": [ROUNDINGS[terms.rounding]],
        "Debited": _side(terms.debit),
        "Credited": _side(terms.credit),
    }
    if terms.day_count is None:
        bounds = [("At least", terms.minimum), ("At most", terms.maximum)]
        lines = [f"{which} {units(bound)}" for which, bound in bounds if bound is not None]
        return {
            **first,
            "Charged": _tiers(terms, units),
            "Bounds": lines or ["No minimum, no maximum"],
            **last,
        }
    return {
        **first,
        "Accrued": _tiers(terms, units),
        "Borne by": [_BALANCES[terms.balances]],
        "Days": [f"{terms.day_count}: {DAY_COUNTS[terms.day_count]}"],
        **last,
    }


def _tiers(terms: Terms, units: Callable[[str], str]) -> list[str]:
    """What is asked, a line for each tier."""
    of = "amount" if terms.kind == "fee" else "balance"
    starts = [tier.at_least for tier in terms.tiers]
    lines = [f"Nothing below {units(starts[0])}"] if starts[0] != "0" else []
    for place, (tier, end) in enumerate(zip(terms.tiers, [*starts[1:], None], strict=True)):
        start = units(tier.at_least)
        if terms.tiering == "volume" and len(starts) > 1:
            reach = f"from {start} to below {units(end)}" if end else f"from {start} on"
            lines.append(
                f"{of.capitalize()} {reach}: {_asks(tier, f'the whole {of}', terms, units)}"
            )
        elif terms.tiering == "volume":
            lines.append(_asks(tier, f"the whole {of}", terms, units))
        elif end is None:
            slice_ = f"the {of}" if tier.at_least == "0" else f"what is above {start}"
            lines.append(_asks(tier, slice_, terms, units, once=place > 0))
        else:
            slice_ = (
                f"the first {units(end)}"
                if tier.at_least == "0"
                else (f"what lies between {start} and {units(end)}")
            )
            lines.append(_asks(tier, slice_, terms, units, once=place > 0))
    return [line[:1].upper() + line[1:] for line in lines]


def _asks(
    tier: Tier, slice_: str, terms: Terms, units: Callable[[str], str], *, once: bool = False
) -> str:
    """What one tier asks of a slice; `once`: its fixed part is due where the slice is reached."""
    rate = (
        f"{unbroken(percent(tier.rate))}{' a year' if terms.kind == 'interest' else ''} of {slice_}"
    )
    asks = [rate] if Decimal(tier.rate) else []
    if tier.fixed != "0":
        asks.append(units(tier.fixed) + (" once that is reached" if once else ""))
    return (", and " if once else " and ").join(asks) or f"nothing of {slice_}"


def _side(parts: Sequence[Part]) -> list[str]:
    whole = sum(part.weight for part in parts)
    names = ["The account it is applied to" if part.account == "{account}" else part.account
             for part in parts]  # fmt: skip
    if len(parts) == 1:
        return names
    return [
        f"{name}: {part.weight:,} of {whole:,} parts"
        for name, part in zip(names, parts, strict=True)
    ]
