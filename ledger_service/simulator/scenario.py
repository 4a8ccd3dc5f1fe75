"""A whole scenario from a seed: every command in order of time, the bank's view, the answer key.

Pure: no clock, no network, no file. The same settings give the same scenario, to the last cent.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import heapq
import itertools
import random
from collections.abc import Iterable
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from ledger_service.contract.context import Channel, Context
from ledger_service.contract.events import Entry, timestamp
from ledger_service.domain.calendar import is_banking_day
from ledger_service.loading.names import base32, letters
from ledger_service.rails.sandbox_bank import Movement
from ledger_service.simulator.bank_errors import BankErrors, PlantedBreak
from ledger_service.simulator.cases import Case, Cases
from ledger_service.simulator.everyday import Everyday
from ledger_service.simulator.people import Customer, make_customers
from ledger_service.simulator.world import (
    Attempt,
    Happening,
    World,
    money_in,
    settlement,
)

CURRENCY = "USD"
TIME_ZONE = "America/New_York"
CLEARED: tuple[Channel, ...] = ("ach", "card")
LEAST_CUSTOMERS, LEAST_DAYS = 60, 45
_VERSION = 2
"""Part of the fingerprint: raise it when the same settings give another scenario."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a scenario depends on."""

    ledger: str
    customers: int
    days: int
    start: dt.date
    seed: int

    @functools.cached_property
    def mark(self) -> str:
        """Fingerprint of the settings: keys and references carry it."""
        return letters(f"{_VERSION} {self!r}", 12)


class Step(NamedTuple):
    """One transaction as it will be posted. `conductor` is a customer's number."""

    idempotency_key: str
    kind: str
    effective_at: str
    entries: list[Entry]
    context: Context
    conductor: int | None


@dataclasses.dataclass(frozen=True)
class Scenario:
    """Everything that will be done and told."""

    settings: Settings
    customers: list[Customer]
    steps: list[Step]
    movements: list[Movement]
    """On the bank's books, its errors included, by day."""
    cases: list[Case]
    breaks: list[PlantedBreak]
    last_day: dt.date

    def fingerprint(self) -> str:
        """Equal for equal scenarios."""
        return hashlib.sha256(repr((self.steps, self.movements, self.cases)).encode()).hexdigest()


class _Clearing:
    """What the rails still owe: settled on the next banking day, one line a rail."""

    def __init__(self) -> None:
        self._open: dict[Channel, int] = dict.fromkeys(CLEARED, 0)

    def add(self, happening: Happening) -> None:
        """Remember what went into clearing."""
        for account, side, amount in happening.legs:
            if account.startswith("clearing:") and side == "credit":
                self._open[happening.channel] += amount

    def settle(self, at: dt.datetime) -> list[Happening]:
        """What is settled on the morning of a banking day."""
        due, self._open = self._open, dict.fromkeys(CLEARED, 0)
        return [settlement(at, channel, amount) for channel, amount in due.items() if amount]


def make(settings: Settings, fbo_number: str) -> Scenario:
    """The scenario of `settings`. Errors: ValueError below LEAST_CUSTOMERS or LEAST_DAYS."""
    if settings.customers < LEAST_CUSTOMERS or settings.days < LEAST_DAYS:
        raise ValueError(
            f"a scenario needs {LEAST_CUSTOMERS} customers and {LEAST_DAYS} days or more, to have "
            "room for what is planted"
        )
    rng = random.Random(settings.seed)  # noqa: S311 - repeatable on purpose, nothing secret
    zone = ZoneInfo(TIME_ZONE)
    days = [settings.start + dt.timedelta(days=number) for number in range(settings.days)]

    def moment(day: dt.date, hour: int, minute: int) -> dt.datetime:
        return dt.datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)

    customers = make_customers(rng, settings.customers)
    cases = Cases(rng, customers, days, moment)
    idle = {case.customer for case in cases.cases if case.rule == "rapid_movement"}
    ordinary = [customer for customer in customers if customer.number not in idle]
    with_cases = {number for case in cases.cases for number in case.customers}
    everyday = Everyday(rng, ordinary, moment, with_cases)
    world = World(rng, customers)
    _open(world, cases, moment(days[0], 5, 0))
    clearing = _Clearing()
    for day in days:
        if is_banking_day(day):
            for happening in clearing.settle(moment(day, 5, 30)):
                world.happen(happening)
        before = len(world.history)
        _live(world, itertools.chain(everyday.day(day), cases.plan.get(day, [])))
        for happening in world.history[before:]:
            clearing.add(happening)
    return _scenario(settings, world, cases.cases, fbo_number, days)


def _open(world: World, cases: Cases, at: dt.datetime) -> None:
    """Everybody brings what they had at their last bank."""
    for customer in world.customers:
        for account in customer.accounts:
            amount = cases.opening.get(customer.number, world.rng.randint(90_000, 620_000))
            world.happen(money_in(at, ("opening_balance", "wire"), account, amount))


def _live(world: World, attempts: Iterable[tuple[dt.datetime, Attempt]]) -> None:
    """One day, in the order of its moments."""
    queue = [(at, number, attempt) for number, (at, attempt) in enumerate(attempts)]
    heapq.heapify(queue)
    while queue:
        _, _, attempt = heapq.heappop(queue)
        world.happen(attempt(world))


def _scenario(
    settings: Settings, world: World, cases: list[Case], fbo_number: str, days: list[dt.date]
) -> Scenario:
    by_name = {case.name: case for case in cases}
    steps: list[Step] = []
    movements: list[Movement] = []
    for number, happening in enumerate(world.history):
        if happening.case:
            by_name[happening.case].happenings.append(number)
        step, movement = _step(settings, number, happening, fbo_number)
        steps.append(step)
        if movement:
            movements.append(movement)
    # Openings and planted cases are left as they are: a break there would blur the answer key.
    marked = {steps[number].idempotency_key for case in cases for number in case.happenings}
    usual = [
        one
        for one, happening in zip(movements, _at_bank(world.history), strict=True)
        if one.id not in marked and happening.kind != "opening_balance"
    ]
    errors = BankErrors(world.rng, usual, days)
    at_bank = errors.as_the_bank_did(movements)
    return Scenario(settings, world.customers, steps, at_bank, cases, errors.breaks, days[-1])


def _at_bank(history: list[Happening]) -> list[Happening]:
    return [happening for happening in history if happening.bank_leg()]


def _step(
    settings: Settings, number: int, happening: Happening, fbo_number: str
) -> tuple[Step, Movement | None]:
    key = f"{settings.ledger}.{settings.mark}.{number}"
    bank = happening.bank_leg()
    reference = f"{settings.mark[:4]}.{base32(number)}" if bank else None
    context = Context(
        channel=happening.channel, counterparty=happening.counterparty, rail_reference=reference
    )
    entries = [
        Entry(account, side, str(amount), CURRENCY) for account, side, amount in happening.legs
    ]
    step = Step(key, happening.kind, timestamp(happening.at), entries, context, happening.conductor)
    if bank is None or reference is None:
        return step, None
    side, amount = bank
    movement = Movement(
        id=key,
        account_number=fbo_number,
        day=happening.at.date().isoformat(),
        side=side,
        amount=str(amount),
        reference=reference,
        channel="ach" if happening.channel == "internal" else happening.channel,
        words=happening.kind.replace("_", " ").upper(),
    )
    return step, movement


def answer_key(scenario: Scenario, parties: list[str]) -> dict[str, Any]:
    """What was planted, by the names that the ledger knows. `parties`: ids by customer's number."""
    cases = [
        {
            "name": case.name,
            "rule": case.rule,
            "looks_like": case.looks_like,
            "party": parties[case.customer],
            "parties": [parties[number] for number in case.customers],
            "accounts": list(case.accounts),
            "note": case.note,
            "idempotency_keys": [
                scenario.steps[number].idempotency_key for number in case.happenings
            ],
            "first_at": scenario.steps[case.happenings[0]].effective_at,
            "last_at": scenario.steps[case.happenings[-1]].effective_at,
        }
        for case in scenario.cases
    ]
    settings = scenario.settings
    return {
        "ledger": settings.ledger,
        "seed": settings.seed,
        "customers": settings.customers,
        "start": str(settings.start),
        "days": settings.days,
        "last_day": str(scenario.last_day),
        "transactions": len(scenario.steps),
        "planted": [case for case in cases if case["rule"]],
        "look_alikes": [case for case in cases if not case["rule"]],
        "breaks": [dataclasses.asdict(one) for one in scenario.breaks],
    }
