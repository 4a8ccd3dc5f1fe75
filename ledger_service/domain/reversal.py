"""Reversal: the entries swapped, in full or in part, never beyond the original (P4)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ledger_service.contract.events import Entry, Side, TransactionPosted

Leg = tuple[str, Side, str]
"""Account, side of the original, currency: entries that agree in these count as one leg."""

_SWAPPED: dict[Side, Side] = {"debit": "credit", "credit": "debit"}


class Original(msgspec.Struct):
    """A transaction and what is left of it to reverse."""

    event: TransactionPosted
    left: dict[Leg, int]
    """Minor units not yet reversed, by leg, in the order of the entries."""

    @property
    def currencies(self) -> set[str]:
        """The currencies it moved."""
        return {currency for _, _, currency in self.left}

    def total_left(self) -> int:
        """Minor units of the debit side not yet reversed (of one currency)."""
        return sum(amount for (_, side, _), amount in self.left.items() if side == "debit")

    def take(self, entries: Sequence[Entry], sign: int = 1) -> None:
        """Count a reversal's entries as reversed (`sign` -1: no longer)."""
        for entry in entries:
            leg = (entry.account, _SWAPPED[entry.side], entry.currency)
            self.left[leg] -= sign * int(entry.amount)


def original(event: TransactionPosted) -> Original:
    """A transaction of which nothing is reversed yet."""
    left: dict[Leg, int] = {}
    for entry in event.entries:
        leg: Leg = (entry.account, entry.side, entry.currency)
        left[leg] = left.get(leg, 0) + int(entry.amount)
    return Original(event, left)


def split(amount: int, weights: Sequence[int]) -> list[int]:
    """`amount` in parts as the weights are, by largest remainder; the parts sum to it exactly.

    No part exceeds its weight while `amount` is at most the sum of the weights. Ties go to the
    first. Weights are not negative and not all zero.
    """
    total = sum(weights)
    parts = [amount * weight // total for weight in weights]
    remainders = [amount * weight % total for weight in weights]
    order = sorted(range(len(weights)), key=lambda index: (-remainders[index], index))
    for index in order[: amount - sum(parts)]:
        parts[index] += 1
    return parts


def reversing_entries(source: Original, amount: int | None) -> list[Entry]:
    """Entries that reverse `amount` minor units of each side, or all that is left (None).

    Part of a transaction with many legs is spread over what is left of each. The caller has made
    sure that the amount is within what is left, and of one currency.
    """
    whole = [
        Entry(entry.account, _SWAPPED[entry.side], entry.amount, entry.currency)
        for entry in source.event.entries
    ]
    if amount is None and source.left == original(source.event).left:
        return whole
    parts: dict[Leg, int] = {}
    for side in ("debit", "credit"):
        legs = {leg: left for leg, left in source.left.items() if leg[1] == side and left}
        wanted = list(legs.values())
        if amount is not None:
            wanted = split(amount, wanted)
        parts.update(zip(legs, wanted, strict=True))
    return [
        Entry(leg[0], _SWAPPED[leg[1]], str(parts[leg]), leg[2])
        for leg in source.left
        if parts.get(leg)
    ]
