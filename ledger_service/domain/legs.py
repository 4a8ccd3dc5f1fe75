"""Legs: what a set of entries moves, counted down as it is reversed, captured or released.

Entries that agree in account, side and currency count as one leg. Taking a part of a set with many
legs spreads it over what is left of each, so that the parts always sum to the whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ledger_service.contract.events import Entry, Side

Leg = tuple[str, Side, str]
"""Account, side, currency."""
Left = dict[Leg, int]
"""Minor units left of each leg, in the order of the entries."""

SWAPPED: dict[Side, Side] = {"debit": "credit", "credit": "debit"}


def left_of(entries: Iterable[Entry]) -> Left:
    """The legs of `entries`, nothing taken yet."""
    left: Left = {}
    for entry in entries:
        leg: Leg = (entry.account, entry.side, entry.currency)
        left[leg] = left.get(leg, 0) + int(entry.amount)
    return left


def currencies(left: Left) -> set[str]:
    """The currencies that the legs move."""
    return {currency for _, _, currency in left}


def total(left: Left) -> int:
    """Minor units left on the debit side, which balances the credit side (of one currency)."""
    return sum(amount for (_, side, _), amount in left.items() if side == "debit")


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` in parts as the weights are, by largest remainder; the parts sum to it exactly.

    No part exceeds its weight while `amount` is at most the sum of the weights. Ties go to the
    first. Weights are not negative and not all zero.
    """
    whole = sum(weights)
    parts = [amount * weight // whole for weight in weights]
    remainders = [amount * weight % whole for weight in weights]
    order = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in order[: amount - sum(parts)]:
        parts[index] += 1
    return parts


def part(left: Left, amount: int | None) -> list[Entry]:
    """Entries over `amount` minor units of each side, or over all that is left (None).

    The caller has made sure that the amount is within what is left, and of one currency.
    """
    parts: Left = {}
    for side in ("debit", "credit"):
        legs = {leg: rest for leg, rest in left.items() if leg[1] == side and rest}
        wanted = list(legs.values())
        if amount is not None:
            wanted = split(amount, wanted)
        parts.update(zip(legs, wanted, strict=True))
    return [Entry(leg[0], leg[1], str(parts[leg]), leg[2]) for leg in left if parts.get(leg)]
