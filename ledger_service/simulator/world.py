"""The simulated world's own books: what happened when, and what everybody has left.

Nothing happens that a person could not have done: a payment that its account does not cover is not
made. So the ledger, asked in the same order, refuses nothing.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import random
from collections.abc import Callable
from typing import Literal

from ledger_service.contract.context import Channel
from ledger_service.contract.events import Side
from ledger_service.simulator.people import Customer

FBO = "bank:fbo"
Leg = tuple[str, Side, int]
"""Account, side, minor units."""


@dataclasses.dataclass(frozen=True, slots=True)
class Happening:
    """One transaction of the world. `at` carries the ledger's time zone."""

    at: dt.datetime
    kind: str
    channel: Channel
    legs: tuple[Leg, ...]
    counterparty: str | None = None
    """A token of the other side, where that is outside."""
    conductor: int | None = None
    """Number of the customer who handed the cash over for somebody else."""
    case: str | None = None
    """The planted case it belongs to."""

    def bank_leg(self) -> tuple[Literal["credit", "debit"], int] | None:
        """How the partner bank sees it: side and amount on the FBO account; None if not at all."""
        for account, side, amount in self.legs:
            if account == FBO:
                return ("credit" if side == "debit" else "debit"), amount
        return None


Attempt = Callable[["World"], Happening | None]
"""Makes a happening when its time has come, or nothing."""


class World:
    """Balances and history, while the days go by."""

    def __init__(self, rng: random.Random, customers: list[Customer]) -> None:
        self.rng = rng
        self.customers = customers
        self.balances: dict[str, int] = collections.defaultdict(int)
        self.history: list[Happening] = []
        self.dropped = 0
        self._senders: dict[str, set[str]] = collections.defaultdict(set)

    def happen(self, happening: Happening | None) -> bool:
        """Let it happen if customers' accounts cover it; whether it did."""
        if happening is None:
            return False
        after: dict[str, int] = {}
        for account, side, amount in happening.legs:
            if account.startswith("customer:"):
                change = amount if side == "credit" else -amount
                after[account] = after.get(account, self.balances[account]) + change
        if any(balance < 0 for balance in after.values()):
            self.dropped += 1
            return False
        self.balances.update(after)
        self.history.append(happening)
        if happening.kind == "transfer":
            (origin, _, _), (destination, _, _) = happening.legs
            self._senders[destination].add(origin)
        return True

    def has_sent(self, origin: str, destination: str) -> bool:
        """Whether `origin` ever sent to `destination`."""
        return origin in self._senders[destination]


def money_in(
    at: dt.datetime,
    meaning: tuple[str, Channel],
    account: str,
    amount: int,
    payer: str | None = None,
) -> Happening:
    """From outside to a customer. `meaning`: kind and channel."""
    legs: tuple[Leg, ...] = ((FBO, "debit", amount), (account, "credit", amount))
    return Happening(at, meaning[0], meaning[1], legs, payer)


def money_out(
    at: dt.datetime,
    meaning: tuple[str, Channel],
    account: str,
    amount: int,
    payee: str | None = None,
) -> Happening:
    """From a customer to outside, at the bank at once."""
    legs: tuple[Leg, ...] = ((account, "debit", amount), (FBO, "credit", amount))
    return Happening(at, meaning[0], meaning[1], legs, payee)


def clearing_out(
    at: dt.datetime,
    meaning: tuple[str, Channel],
    account: str,
    amount: int,
    payee: str | None = None,
) -> Happening:
    """From a customer to outside, by a rail that settles on the next banking day."""
    legs: tuple[Leg, ...] = (
        (account, "debit", amount),
        (f"clearing:{meaning[1]}", "credit", amount),
    )
    return Happening(at, meaning[0], meaning[1], legs, payee)


def transfer(at: dt.datetime, origin: str, destination: str, amount: int) -> Happening:
    """Between customers."""
    legs: tuple[Leg, ...] = ((origin, "debit", amount), (destination, "credit", amount))
    return Happening(at, "transfer", "internal", legs)


def settlement(at: dt.datetime, channel: Channel, amount: int) -> Happening:
    """The bank pays out what was cleared."""
    legs: tuple[Leg, ...] = ((f"clearing:{channel}", "debit", amount), (FBO, "credit", amount))
    return Happening(at, "settlement", channel, legs)
