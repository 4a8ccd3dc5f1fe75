"""Reversal: the entries swapped, in full or in part, never beyond the original (P4)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from ledger_service.contract.events import Entry, TransactionPosted
from ledger_service.domain import legs


class Original(msgspec.Struct):
    """A transaction and what is left of it to reverse."""

    event: TransactionPosted
    left: legs.Left

    def take(self, entries: Iterable[Entry]) -> None:
        """Count a reversal's entries as reversed."""
        for entry in entries:
            self.left[entry.account, legs.SWAPPED[entry.side], entry.currency] -= int(entry.amount)


def original(event: TransactionPosted) -> Original:
    """A transaction of which nothing is reversed yet."""
    return Original(event, legs.left_of(event.entries))


def reversing_entries(source: Original, amount: int | None) -> list[Entry]:
    """Entries that reverse `amount` minor units of each side, or all that is left (None).

    The caller has made sure that the amount is within what is left, and of one currency.
    """
    untouched = amount is None and source.left == legs.left_of(source.event.entries)
    taken: Sequence[Entry] = source.event.entries if untouched else legs.part(source.left, amount)
    return [
        Entry(entry.account, legs.SWAPPED[entry.side], entry.amount, entry.currency)
        for entry in taken
    ]
