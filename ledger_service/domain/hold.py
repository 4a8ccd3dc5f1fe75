"""Holds: money set aside, then captured in full, in part or several times, voided, or expired.

What is left of a hold is never below zero and never captured past its expiry, whatever the order in
which things arrive: both are decided by the book, against the same clock as everything else (P4).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

import msgspec

from ledger_service.contract.events import Entry, HoldPlaced
from ledger_service.domain import legs

State = Literal["open", "captured", "voided", "expired"]


class Hold(msgspec.Struct):
    """A hold and what is left of it to capture."""

    event: HoldPlaced
    left: legs.Left
    expires_at: dt.datetime | None
    state: State = "open"
    version: int = 0
    """`seq` of the last event that changed it."""

    def take(self, entries: Iterable[Entry]) -> None:
        """Count a capture's entries as taken."""
        for entry in entries:
            self.left[entry.account, entry.side, entry.currency] -= int(entry.amount)

    def is_expired(self, now: dt.datetime) -> bool:
        """Whether its time is over: at the very moment of `expires_at` it is."""
        return self.expires_at is not None and now >= self.expires_at


def hold(event: HoldPlaced) -> Hold:
    """A hold of which nothing is captured yet."""
    expires_at = None if event.expires_at is None else dt.datetime.fromisoformat(event.expires_at)
    return Hold(event, legs.left_of(event.entries), expires_at, version=event.seq)
