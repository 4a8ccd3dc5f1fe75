"""Ordinary life: pay, cards, bills, rent, friends, checks, wires, a little cash.

It holds what a rule must not take for crime: roommates who pay rent to one of them, friends who
collect for a gift, shops that bring their takings, families that move savings.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator

from ledger_service.contract.context import Channel
from ledger_service.domain.calendar import is_banking_day
from ledger_service.simulator.people import Customer
from ledger_service.simulator.world import (
    Attempt,
    Happening,
    World,
    clearing_out,
    money_in,
    money_out,
    transfer,
)

_ACH_DEBIT: tuple[str, Channel] = ("ach_debit", "ach")
_CARD: tuple[str, Channel] = ("card_purchase", "card")
_RESERVE = 15_000
"""What people don't spend on everyday things, in cents."""
_CARD_DAYS_PERCENT = (44, 45, 47, 50, 62, 72, 58)
"""How many of 100 customers pay by card on a day, from Monday."""
_PURCHASES = ((250, 1_400, 40), (1_500, 9_500, 38), (2_500, 7_500, 12), (3_000, 24_000, 10))
"""Least, most, weight: coffee, groceries, fuel, things."""


class Life:
    """What one customer does, fixed at the beginning."""

    def __init__(self, rng: random.Random, customer: Customer, everybody: list[Customer]) -> None:
        count = len(everybody)
        others = [one for one in everybody if one is not customer]
        self.customer = customer
        self.pay = rng.randint(110_000, 310_000)
        self.employer = f"employer.{rng.randrange(max(4, count // 20)):03d}"
        self.pay_offset = rng.choice((0, 7))
        self.bills = [
            (rng.randint(2, 28), f"biller.{rng.randrange(60):02d}", rng.randint(2_500, 26_000))
            for _ in range(rng.randint(1, 4))
        ]
        self.rent = rng.randint(45_000, 120_000)
        self.landlord = f"landlord.{rng.randrange(90):02d}"
        self.friends = rng.sample(others, min(len(others), rng.randint(1, 4)))
        self.brings_takings = rng.random() < 0.03
        self.writes_checks = rng.random() < 0.15
        self.uses_wires = rng.random() < 0.04


class Everyday:
    """All lives together; gives each day's attempts with their times."""

    def __init__(
        self,
        rng: random.Random,
        customers: list[Customer],
        moment: Callable[[dt.date, int, int], dt.datetime],
        with_cases: set[int],
    ) -> None:
        """`with_cases`: customers with something planted, by number. They bring no cash of their own
        and collect for nobody, or more would come together on them than the answer key says.
        """
        self._rng, self._moment = rng, moment
        self._lives = [Life(rng, customer, customers) for customer in customers]
        for life in self._lives:
            if life.customer.number in with_cases:
                life.brings_takings = False
        self._collecting = [life for life in self._lives if life.customer.number not in with_cases]
        # Households: the first one pays the landlord, the others pay the first one, every month.
        flat_mates = rng.sample(self._collecting, min(len(customers) // 4, 30))
        homes = [flat_mates[start : start + 5] for start in range(0, len(flat_mates) - 4, 5)]
        self._collectors = {life.customer.number: home[0] for home in homes for life in home[1:]}

    def day(self, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        """What is attempted on a day."""
        for life in self._lives:
            yield from self._pay(life, day)
            yield from self._bills(life, day)
            yield from self._cards(life, day)
            yield from self._now_and_then(life, day)
        yield from self._gift(day)

    def _at(self, day: dt.date, first_hour: int, last_hour: int) -> dt.datetime:
        minutes = self._rng.randint(first_hour * 60, last_hour * 60 - 1)
        return self._moment(day, *divmod(minutes, 60))

    def _pay(self, life: Life, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        """Every second Friday; on the banking day before, where that is a holiday."""
        friday = day if day.weekday() == 4 else day + dt.timedelta(days=1)
        is_payday = friday.weekday() == 4 and (
            (day == friday and is_banking_day(day)) or (day < friday and not is_banking_day(friday))
        )
        weeks = (friday - dt.date(2026, 1, 2)).days
        if not is_payday or weeks % 14 != life.pay_offset:
            return
        at = self._moment(day, 6, self._rng.randint(0, 59))
        amount = life.pay + self._rng.randint(-4_000, 6_000)
        happening = money_in(at, ("payroll", "ach"), life.customer.main, amount, life.employer)
        yield at, lambda _world: happening

    def _bills(self, life: Life, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        """On their day of the month, or the next banking day."""
        if not is_banking_day(day):
            return
        due = {day.day}
        before = day - dt.timedelta(days=1)
        while not is_banking_day(before):
            due.add(before.day)
            before -= dt.timedelta(days=1)
        for day_of_month, biller, amount in life.bills:
            if day_of_month in due:
                varied = amount + self._rng.randint(0, 900)
                yield self._spend(
                    self._at(day, 9, 16), life, _ACH_DEBIT, varied, payee=biller, reserve=2_000
                )
        if 1 in due:
            yield from self._rent(life, day)

    def _rent(self, life: Life, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        collector = self._collectors.get(life.customer.number)
        if collector is None:
            at = self._at(day, 13, 16)
            yield self._spend(at, life, _ACH_DEBIT, life.rent, payee=life.landlord, reserve=0)
            return
        at = self._at(day, 8, 12)
        happening = transfer(at, life.customer.main, collector.customer.main, collector.rent // 5)
        yield at, lambda _world: happening

    def _spend(
        self,
        at: dt.datetime,
        life: Life,
        meaning: tuple[str, Channel],
        amount: int,
        *,
        payee: str,
        reserve: int,
    ) -> tuple[dt.datetime, Attempt]:
        """An expense that is made only while the reserve stays."""
        happening = clearing_out(at, meaning, life.customer.main, amount, payee)

        def attempt(world: World) -> Happening | None:
            return happening if world.balances[life.customer.main] >= amount + reserve else None

        return at, attempt

    def _cards(self, life: Life, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        percent = _CARD_DAYS_PERCENT[day.weekday()] + (8 if day.day <= 3 else 0)
        if self._rng.randrange(100) >= percent:
            return
        weights = [weight for _, _, weight in _PURCHASES]
        for _ in range(self._rng.choice((1, 1, 1, 2))):
            least, most, _ = self._rng.choices(_PURCHASES, weights)[0]
            payee = f"merchant.{self._rng.randrange(400):03d}"
            at, amount = self._at(day, 7, 23), self._rng.randint(least, most)
            yield self._spend(at, life, _CARD, amount, payee=payee, reserve=_RESERVE)

    def _now_and_then(self, life: Life, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        rng, customer = self._rng, life.customer
        if life.friends and rng.randrange(100) < 5:
            friend = rng.choice(life.friends)
            at, amount = self._at(day, 9, 23), rng.randint(8, 90) * 100
            yield (
                at,
                self._while_affordable(transfer(at, customer.main, friend.main, amount), amount),
            )
        if len(customer.accounts) > 1 and rng.randrange(100) < 4:
            at, amount = self._at(day, 8, 21), rng.randint(20, 250) * 100
            sides = customer.accounts if rng.random() < 0.8 else customer.accounts[::-1]
            yield at, self._while_affordable(transfer(at, sides[0], sides[1], amount), amount)
        if not is_banking_day(day):
            return
        chance = rng.randrange(1000)
        if life.brings_takings and day.weekday() in (0, 3):
            at = self._at(day, 9, 16)
            takings = money_in(
                at, ("cash_deposit", "cash"), customer.main, rng.randint(400, 2_400) * 100
            )
            yield at, lambda _world: takings
        elif chance < 12:
            at, amount = self._at(day, 9, 16), rng.randint(2, 20) * 2_000
            withdrawal = money_out(at, ("cash_withdrawal", "cash"), customer.main, amount)
            yield at, self._while_affordable(withdrawal, amount)
        elif life.writes_checks and chance < 40:
            at, amount = self._at(day, 10, 15), rng.randint(4_000, 90_000)
            check = money_in(at, ("check_deposit", "check"), customer.main, amount, "check")
            yield at, lambda _world: check
        elif life.uses_wires and chance < 60:
            at, amount = self._at(day, 9, 16), rng.randint(60_000, 190_000)
            wire = money_in(
                at, ("wire_in", "wire"), customer.main, amount, f"family.{customer.number}"
            )
            yield at, lambda _world: wire
        elif chance > 985:
            at, amount = self._at(day, 8, 20), rng.randint(2_000, 40_000)
            instant = money_out(at, ("instant_out", "instant"), customer.main, amount, "wallet")
            yield at, self._while_affordable(instant, amount)

    @staticmethod
    def _while_affordable(happening: Happening, amount: int) -> Attempt:
        account = next(leg[0] for leg in happening.legs if leg[1] == "debit")

        def attempt(world: World) -> Happening | None:
            return happening if world.balances[account] >= amount + _RESERVE else None

        return attempt

    def _gift(self, day: dt.date) -> Iterator[tuple[dt.datetime, Attempt]]:
        """Now and then many friends send one a little, all on one evening."""
        rng = self._rng
        if rng.randrange(100) >= 12:
            return
        collector = rng.choice(self._collecting)
        friends = [life for life in self._lives if life is not collector]
        givers = rng.sample(friends, rng.randint(5, 10))
        share = rng.choice((1_500, 2_000, 2_500, 3_000))
        for giver in givers:
            at = self._at(day, 17, 22)
            happening = transfer(at, giver.customer.main, collector.customer.main, share)
            yield at, self._while_affordable(happening, share)
