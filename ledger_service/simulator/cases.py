"""Planted cases, each with its line in the answer key, and look-alikes that are none.

They follow what the law and the typologies say, not how a rule here is written: cash over 10,000 in
a business day (31 CFR 1010.311, 1010.313), deposits split so that no report is made (31 USC 5324),
money that leaves as fast as it comes, many new payers to one account.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import random
from collections.abc import Callable
from typing import Any

from ledger_service.contract.context import Channel
from ledger_service.domain.calendar import is_banking_day
from ledger_service.simulator.people import Customer
from ledger_service.simulator.world import Attempt, Happening, World, money_in, money_out, transfer

Moment = Callable[[dt.date, int, int], dt.datetime]
Plan = dict[dt.date, list[tuple[dt.datetime, Attempt]]]
_LARGE_IN: tuple[tuple[str, Channel], ...] = (("wire_in", "wire"), ("instant_in", "instant"))


@dataclasses.dataclass(slots=True)
class Case:
    """One line of the answer key. `rule` is what should find it; None: nothing should."""

    name: str
    rule: str | None
    looks_like: str
    customer: int
    accounts: tuple[str, ...]
    note: str
    conductor: int | None = None
    """Who handed the cash over, where that is somebody else: the cash counts for both."""
    happenings: list[int] = dataclasses.field(default_factory=list)
    """Numbers of its transactions, from 0, in the order of time."""

    @property
    def customers(self) -> list[int]:
        """Everybody whom a finding may name."""
        return [self.customer] if self.conductor is None else [self.customer, self.conductor]


class Cases:
    """Plans cases on customers who have nothing else planted."""

    def __init__(
        self,
        rng: random.Random,
        customers: list[Customer],
        days: list[dt.date],
        moment: Moment,
    ) -> None:
        self._rng, self._days, self._moment = rng, days, moment
        self._banking = [day for day in days if is_banking_day(day)]
        self._free = rng.sample(customers, len(customers))
        self._customers = customers
        self.cases: list[Case] = []
        self.plan: Plan = collections.defaultdict(list)
        self.opening: dict[int, int] = {}
        """Opening balances that a case needs, by customer."""
        for number in range(rng.randint(3, 5)):
            self._structuring(number)
        for number in range(rng.randint(3, 4)):
            self._rapid_movement(number)
        for number in range(rng.randint(3, 4)):
            self._fan_in(number)
        self._large_cash()

    def _case(self, rule: str | None, looks_like: str, customer: Customer, note: str) -> Case:
        name = f"{looks_like}-{sum(case.looks_like == looks_like for case in self.cases) + 1}"
        case = Case(name, rule, looks_like, customer.number, customer.accounts, note)
        self.cases.append(case)
        return case

    def _do(self, case: Case, happening: Happening) -> None:
        marked = dataclasses.replace(happening, case=case.name)
        self.plan[happening.at.date()].append((happening.at, lambda _world: marked))

    def _cash(
        self, case: Case, day: dt.date, hour: int, account: str, amount: int, **who: Any
    ) -> None:
        at = self._moment(day, hour, self._rng.randint(0, 59))
        happening = money_in(at, ("cash_deposit", "cash"), account, amount)
        self._do(case, dataclasses.replace(happening, **who))

    def _banking_days(self, count: int, earliest: float, latest: float) -> list[dt.date]:
        """`count` banking days in a row, beginning in that part of the time."""
        span = len(self._banking) - count
        start = self._rng.randint(
            int(span * earliest), max(int(span * latest), int(span * earliest))
        )
        return self._banking[start : start + count]

    def _structuring(self, number: int) -> None:
        """Deposits below the report's threshold on different days, together far above it."""
        rng, customer = self._rng, self._free.pop()
        count = rng.randint(3, 5)
        days = sorted(rng.sample(self._banking_days(6, 0.1, 0.95), count))
        helper = self._free.pop() if number == 1 else None
        note = "the person's own deposits"
        if helper:
            note = "for the person, handed over by someone else"
        case = self._case("structuring", "structuring", customer, f"{count} deposits, {note}")
        case.conductor = helper.number if helper else None
        for index, day in enumerate(days):
            account = customer.accounts[index % len(customer.accounts)]
            amount = rng.randint(410, 980) * 1_000 + rng.choice((0, 0, 500, 2_000))
            who = {"conductor": helper.number} if helper else {}
            self._cash(case, day, rng.randint(9, 15), account, min(amount, 985_000), **who)

    def _rapid_movement(self, number: int) -> None:
        """Large sums that stay for hours, in an account that otherwise does nothing."""
        rng, customer = self._rng, self._free.pop()
        self.opening[customer.number] = rng.randint(1_000, 4_000)
        times = rng.randint(2, 4)
        days = sorted(rng.sample(self._banking_days(14, 0.05, 0.9)[:-1], times))
        case = self._case("rapid_movement", "rapid_movement", customer, f"{times} times in and out")
        kept = self.opening[customer.number]
        for day in days:
            amount = rng.randint(3_100, 11_900) * 100
            meaning = rng.choice(_LARGE_IN)
            at = self._moment(day, rng.randint(9, 11), rng.randint(0, 59))
            source = f"shell.{rng.randrange(100, 999)}"
            self._do(case, money_in(at, meaning, customer.main, amount, source))
            # What stayed the last time leaves too: an account like this is never left with much.
            left = (amount + kept) * rng.randint(97, 99) // 100
            kept += amount - left
            parts = rng.randint(1, 3)
            for part in range(parts):
                out = left // parts if part else left - left // parts * (parts - 1)
                later = at + dt.timedelta(hours=rng.randint(2, 7), minutes=part)
                payee = f"onward.{number}{part}"
                self._do(
                    case, money_out(later, ("instant_out", "instant"), customer.main, out, payee)
                )

    def _fan_in(self, _number: int) -> None:
        """Many who never paid this account before pay it within weeks."""
        rng, customer = self._rng, self._free.pop()
        senders = rng.randint(8, 13)
        # After a month of ordinary life: whom nobody knows yet is only new to nobody's history.
        span = rng.randint(8, min(18, len(self._days) - 33))
        late = rng.randint(32, len(self._days) - span - 1)
        case = self._case("fan_in", "fan_in", customer, f"{senders} new payers in {span} days")
        for _ in range(senders):
            day = self._days[late + rng.randrange(span)]
            at = self._moment(day, rng.randint(9, 21), rng.randint(0, 59))
            amount = rng.randint(280, 750) * 100
            self.plan[day].append((at, self._from_somebody_new(at, case, customer.main, amount)))

    def _from_somebody_new(self, at: dt.datetime, case: Case, account: str, amount: int) -> Attempt:
        planted = {case.customer for case in self.cases}

        def attempt(world: World) -> Happening | None:
            able = [
                customer.main
                for customer in self._customers
                if customer.number not in planted
                and not world.has_sent(customer.main, account)
                and world.balances[customer.main] > amount + 20_000
            ]
            if not able:
                return None
            sent = transfer(at, world.rng.choice(able), account, amount)
            return dataclasses.replace(sent, case=case.name)

        return attempt

    def _large_cash(self) -> None:
        """Reports that are due, and sums that just are not."""
        rng = self._rng
        [day] = self._banking_days(1, 0.1, 0.3)
        one = self._free.pop()
        case = self._case("ctr_aggregation", "ctr", one, "one deposit over 10,000")
        self._cash(case, day, 11, one.main, rng.randint(1_010_000, 1_800_000))

        [day] = self._banking_days(1, 0.3, 0.6)
        one = self._free.pop()
        case = self._case("ctr_aggregation", "ctr", one, "two deposits of one business day")
        first = rng.randint(520_000, 700_000)
        self._cash(case, day, 10, one.main, first)
        self._cash(case, day, 15, one.accounts[-1], 1_000_000 - first + rng.randint(1, 90_000))

        [day] = self._banking_days(1, 0.5, 0.95)
        one = self._free.pop()
        self.opening[one.number] = rng.randint(1_900_000, 2_500_000)
        case = self._case("ctr_aggregation", "ctr", one, "a withdrawal over 10,000")
        at = self._moment(day, 14, rng.randint(0, 59))
        amount = rng.randint(1_000_100, 1_500_000)
        self._do(case, money_out(at, ("cash_withdrawal", "cash"), one.main, amount))

        [day] = self._banking_days(1, 0.7, 1.0)
        one = self._free.pop()
        case = self._case("ctr_aggregation", "ctr", one, "one cent over 10,000")
        self._cash(case, day, 12, one.main, 1_000_001)

        [day] = self._banking_days(1, 0.2, 0.9)
        one = self._free.pop()
        case = self._case(None, "exactly_10000", one, "exactly 10,000.00 is not over 10,000")
        self._cash(case, day, 13, one.main, 1_000_000)

        [day] = self._banking_days(1, 0.2, 0.9)
        one = self._free.pop()
        case = self._case(None, "two_business_days", one, "past the cut-off the next day counts")
        self._cash(case, day, 11, one.main, rng.randint(510_000, 690_000))
        self._cash(case, day, 18, one.main, rng.randint(510_000, 690_000))
