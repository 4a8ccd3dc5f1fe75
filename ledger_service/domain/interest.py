"""Interest: what has accrued on an account, exactly, and how much of it is posted.

The interest of a day is the balance at its end times the rate times the day's part of a year. Sums
are ratios; whole minor units are posted and the rest is carried. What is backdated into days that
are accrued is made up for by the next accrual, its true-up. So all postings sum to the exact interest
of all accrued days rounded once, by the balances known with the last accrual, however many they are.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from itertools import pairwise

import msgspec

from ledger_service.contract.events import RuleDeclared, TransactionPosted
from ledger_service.contract.rules import Applied
from ledger_service.domain.day_count import year_fraction
from ledger_service.domain.period import following
from ledger_service.domain.rule import Version, due, in_force, rounded

_RATIO = re.compile(r"(-?\d+)/([1-9]\d*)\Z", re.ASCII)


class Accrued(msgspec.Struct, frozen=True):
    """What has accrued on one account by one rule and is not capitalized."""

    period_start: str
    """The day from which on."""
    through: str
    """The last day that was accrued."""
    posted: int
    """Whole minor units; negative where a true-up took back more than has accrued since."""
    carried: Fraction
    """What has accrued beyond `posted`."""


class DayBalances(msgspec.Struct):
    """An account's balances by effective day, debits less credits, as they stand now."""

    opening: int
    """Before the first day."""
    movements: dict[str, int]
    """Of each day with entries, from the first one on."""


class Days(msgspec.Struct, frozen=True):
    """Days that one event accrued."""

    seq: int
    """Of the event: these days bear interest by the versions that were declared before it."""
    period_start: str
    first: str
    last: str


class Accruing(msgspec.Struct):
    """What an accrual rests on: good for the commands of one batch."""

    first: str
    """The earliest day that can be accrued."""
    since: str = ""
    """From which day on the movements are known, and all earlier days that were accrued."""
    balances: DayBalances = msgspec.field(default_factory=lambda: DayBalances(0, {}))
    accrued: Accrued | None = None
    late: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    """Of the movements, those before `first` that came since the last accrual."""
    days: list[Days] = msgspec.field(default_factory=list[Days])
    """What was accrued, in order."""

    def take(self, seq: int, applied: Applied) -> None:
        """What accrued or capitalized; after the days of an accrual comes the first."""
        self.accrued = accrued_of(applied)
        if applied.first_day is not None:
            self.days.append(days_of(seq, applied))
            self.first, self.late = following(self.accrued.through), {}

    def move(self, day: str, amount: int) -> None:
        """Take in an entry: debits are positive."""
        if self.accrued is not None and day < self.first:
            self.late[day] = self.late.get(day, 0) + amount
        if day < self.since:
            self.balances.opening += amount
        else:
            movements = self.balances.movements
            movements[day] = movements.get(day, 0) + amount

    def reach_back(
        self, since: str, balance: int, moved: Mapping[str, int], days: Iterable[Days]
    ) -> None:
        """Know the days from `since` on: the balance as it stands, what moved the account on days,
        those from `since` on at least, and what was accrued."""
        movements = {day: amount for day, amount in moved.items() if day >= since}
        self.since = since
        self.balances = DayBalances(balance - sum(movements.values()), movements)
        self.days = [one for one in days if one.last >= since]

    def forget(self, before: str) -> None:
        """Keep nothing of the days before one, which nothing will touch."""
        moved = self.balances.movements
        self.reach_back(before, self.balances.opening + sum(moved.values()), moved, self.days)


Accruals = dict[str, dict[str, Accruing]]
"""By account and rule."""


def follow(accruals: Accruals, event: TransactionPosted) -> None:
    """Keep what accruals rest on with the book, for later commands of the batch."""
    applied = event.applied
    if applied is not None and applied.period_start is not None:
        accruing = accruals.get(applied.account, {}).get(applied.rule)
        if accruing is not None:
            # before its entries, which it did not know
            accruing.take(event.seq, applied)
    for entry in event.entries:
        amount = int(entry.amount) if entry.side == "debit" else -int(entry.amount)
        for accruing in accruals.get(entry.account, {}).values():
            accruing.move(event.effective_date, amount)


def copied(accruals: Accruals) -> Accruals:
    """For a linked batch that may be taken back."""
    return {
        account: {
            rule: msgspec.structs.replace(
                one,
                balances=DayBalances(one.balances.opening, {**one.balances.movements}),
                late={**one.late},
                days=[*one.days],
            )
            for rule, one in by_rule.items()
        }
        for account, by_rule in accruals.items()
    }


def days_of(seq: int, applied: Applied) -> Days:
    """What an event accrued."""
    return Days(seq, applied.period_start or "", applied.first_day or "", applied.last_day or "")


def accrued_of(applied: Applied) -> Accrued:
    """What has accrued, as the last event of an account and rule says it."""
    return Accrued(
        applied.period_start or "",
        applied.last_day or "",
        int(applied.accrued or 0),
        parse_ratio(applied.carried or ""),
    )


def of_days(
    versions: Sequence[Version],
    balances: DayBalances,
    *,
    debit_normal: bool,
    period_start: str,
    first: str,
    last: str,
) -> Fraction:
    """The interest of the days from `first` to `last`, in minor units.

    The part of a year is counted from `period_start`, so that it is the same whether the days are
    asked for one by one or together.
    """
    past = following(last)
    steps = {first, past}
    steps |= {day for day in balances.movements if first < day < past}
    steps |= {version.since for version in versions if first < version.since < past}
    running = balances.opening + _moved(balances.movements, first)
    start, total = dt.date.fromisoformat(period_start), Fraction(0)
    for day, until in pairwise(sorted(steps)):
        running += balances.movements.get(day, 0)
        terms = in_force(versions, day)
        if terms is not None and terms.day_count is not None:
            ends = [dt.date.fromisoformat(end) for end in (day, until)]
            counted = [year_fraction(terms.day_count, start, end) for end in ends]
            yearly = due(terms, bearing(terms, running, debit_normal=debit_normal))
            total += yearly * (counted[1] - counted[0])
    return total


def true_up(versions: Sequence[Version], accruing: Accruing, *, debit_normal: bool) -> Fraction:
    """What entries known since the last accrual change in the interest of the days before it.

    Each of these days keeps the terms by which it was accrued: what is declared later for an earlier
    day changes nothing in it.
    """
    touched, now = min(accruing.late, default=accruing.first), accruing.balances
    then = DayBalances(
        now.opening,
        {day: moved - accruing.late.get(day, 0) for day, moved in now.movements.items()},
    )
    difference = Fraction(0)
    for days in accruing.days:
        if days.last >= touched:
            interest_of = partial(
                of_days,
                [version for version in versions if version.seq < days.seq],
                debit_normal=debit_normal,
                period_start=days.period_start,
                first=max(days.first, touched),
                last=days.last,
            )
            difference += interest_of(now) - interest_of(then)
    return difference


def _moved(movements: Mapping[str, int], before: str) -> int:
    return sum(amount for day, amount in movements.items() if day < before)


def bearing(terms: RuleDeclared, balance: int, *, debit_normal: bool) -> int:
    """What of a balance, debits less credits, bears interest; nothing on the other side."""
    on_normal_side = balance if debit_normal else -balance
    return max(on_normal_side if terms.balances == "positive" else -on_normal_side, 0)


def accrue(
    terms: RuleDeclared, before: Accrued | None, interest: Fraction, *, first: str, last: str
) -> tuple[int, Accrued]:
    """How much to post, and what then has accrued. `before`: none, or nothing since it was new.

    `interest` is that of the days and the true-up. What is to be taken back is negative.
    """
    posted, carried = (before.posted, before.carried) if before else (0, Fraction(0))
    exact = posted + carried + interest
    whole = rounded(exact, terms.rounding)
    start = before.period_start if before else first
    return whole - posted, Accrued(start, last, whole, exact - whole)


def capitalize(before: Accrued) -> Accrued:
    """What has accrued after all that was posted went to the account."""
    return Accrued(following(before.through), before.through, 0, before.carried)


def parse_ratio(text: str) -> Fraction:
    """From what `ratio` wrote. Errors: ValueError."""
    found = _RATIO.match(text)
    if not found:
        raise ValueError("a ratio is numerator/denominator")
    return Fraction(int(found[1]), int(found[2]))


def ratio(exact: Fraction) -> str:
    """As events carry it: numerator/denominator, in lowest terms."""
    return f"{exact.numerator}/{exact.denominator}"
