"""Planted breaks: what the bank did otherwise than the ledger, with the answer key to it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from collections.abc import Sequence
from typing import Literal

from ledger_service.domain.calendar import is_banking_day
from ledger_service.rails.sandbox_bank import Movement

BreakKind = Literal["missing_at_bank", "missing_in_ledger", "amount_differs", "duplicate_at_bank"]


@dataclasses.dataclass(frozen=True, slots=True)
class PlantedBreak:
    """One line of the answer key. Amounts are signed minor units: money in is positive."""

    kind: BreakKind
    day: str
    reference: str
    bank_amount: int | None
    ledger_amount: int | None


def _signed(movement: Movement) -> int:
    return int(movement.amount) if movement.side == "credit" else -int(movement.amount)


def _changed(movement: Movement, cents: int) -> Movement:
    amount = max(1, int(movement.amount) + cents)
    return Movement(
        **{
            name: getattr(movement, name) for name in movement.__struct_fields__ if name != "amount"
        },
        amount=str(amount),
    )


class BankErrors:
    """Chooses errors: two or three of each kind, some on the last banking day."""

    def __init__(
        self, rng: random.Random, movements: Sequence[Movement], days: list[dt.date]
    ) -> None:
        self.breaks: list[PlantedBreak] = []
        banking = [day for day in days if is_banking_day(day)]
        last = banking[-1].isoformat()
        # A line that is missing on the last days might still come: it would be no break yet.
        settled = {day.isoformat() for day in banking[2:-6]}
        early = [one for one in movements if one.day in settled and int(one.amount) > 1_000]
        late = [one for one in movements if one.day == last and int(one.amount) > 1_000]
        chosen = rng.sample(early, 3 * 3) if len(early) >= 9 else []
        if not chosen or not late:
            raise ValueError(
                "too few movements to plant breaks in; simulate more customers or days"
            )
        self._lost = {one.id for one in chosen[: rng.randint(2, 3)]}
        self._twice = {one.id for one in chosen[3 : 3 + rng.randint(2, 3)]}
        self._cents = {
            one.id: rng.choice((-1, 1)) * rng.randint(1, 90)
            for one in chosen[6 : 6 + rng.randint(2, 3)]
        }
        self._cents[rng.choice(late).id] = rng.randint(1, 90)
        self._extra = self._foreign(rng, chosen[0], [*rng.sample(sorted(settled), 2), last])

    @staticmethod
    def _foreign(rng: random.Random, like: Movement, days: list[str]) -> list[Movement]:
        """Lines that nobody here knows of."""
        return [
            Movement(
                id=f"{like.id}.foreign{number}",
                account_number=like.account_number,
                day=day,
                side=rng.choice(("credit", "debit")),
                amount=str(rng.randint(2_500, 190_000)),
                reference=f"bank.{rng.choice('KLMN')}{number}{rng.randint(1000, 9999)}",
                channel="ach",
                words="ADVICE FOLLOWS",
            )
            for number, day in enumerate(days, 1)
        ]

    def as_the_bank_did(self, movements: Sequence[Movement]) -> list[Movement]:
        """The movements as they are on the bank's books; fills `breaks`."""
        done: list[Movement] = []
        for movement in movements:
            at_bank = [movement]
            kind: BreakKind | None = None
            if movement.id in self._lost:
                kind, at_bank = "missing_at_bank", []
            elif movement.id in self._cents:
                kind, at_bank = "amount_differs", [_changed(movement, self._cents[movement.id])]
            elif movement.id in self._twice:
                kind = "duplicate_at_bank"
                fields = {name: getattr(movement, name) for name in movement.__struct_fields__}
                at_bank.append(Movement(**{**fields, "id": f"{movement.id}.again"}))
            done += at_bank
            if kind:
                bank = _signed(at_bank[-1]) if at_bank else None
                ledger = None if kind == "duplicate_at_bank" else _signed(movement)
                self.breaks.append(
                    PlantedBreak(kind, movement.day, movement.reference, bank, ledger)
                )
        for movement in self._extra:
            done.append(movement)
            self.breaks.append(
                PlantedBreak(
                    "missing_in_ledger", movement.day, movement.reference, _signed(movement), None
                )
            )
        return sorted(done, key=lambda movement: movement.day)
