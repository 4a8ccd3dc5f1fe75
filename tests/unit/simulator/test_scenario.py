"""The scenario, without a server: the same for the same seed, covered, and as its answer key says."""

from __future__ import annotations

import collections
import datetime as dt
import json
import random
from zoneinfo import ZoneInfo

import pytest

from ledger_service.contract.identifiers import looks_personal
from ledger_service.domain.calendar import BusinessClock, is_banking_day
from ledger_service.domain.transaction import KINDS, check_context, check_entries
from ledger_service.simulator.scenario import TIME_ZONE, Scenario, Settings, answer_key, make
from ledger_service.simulator.world import World, money_in, transfer

CLOCK = BusinessClock(ZoneInfo(TIME_ZONE), dt.time(17))
FBO_NUMBER = "700000000001"


def _scenario(
    seed: int, *, customers: int = 80, days: int = 60, start: str = "2026-05-20"
) -> Scenario:
    settings = Settings("simulated", customers, days, dt.date.fromisoformat(start), seed)
    return make(settings, FBO_NUMBER)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return _scenario(7)


def test_a_seed_decides_everything(scenario):
    assert _scenario(7).fingerprint() == scenario.fingerprint()
    assert _scenario(8).fingerprint() != scenario.fingerprint()


def test_the_default_size_posts_within_seconds():
    steps = make(Settings("simulated", 400, 90, dt.date(2026, 7, 1), 7), FBO_NUMBER).steps
    assert 25_000 <= len(steps) <= 40_000


def test_every_step_is_sound_in_order_and_covered(scenario):
    balances: dict[str, int] = collections.defaultdict(int)
    assert [step.effective_at for step in scenario.steps] == sorted(
        step.effective_at for step in scenario.steps
    )
    assert len({step.idempotency_key for step in scenario.steps}) == len(scenario.steps)
    for step in scenario.steps:
        assert step.kind in KINDS
        assert check_entries(step.entries, ["USD"]) is None
        assert check_context(step.context) is None
        for entry in step.entries:
            balances[entry.account] += int(entry.amount) * (1 if entry.side == "credit" else -1)
            if entry.account.startswith("customer:"):
                assert balances[entry.account] >= 0


def test_what_an_account_does_not_cover_does_not_happen():
    at = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
    world = World(random.Random(1), [])
    assert world.happen(money_in(at, ("payroll", "ach"), "customer:1:checking", 500))
    assert not world.happen(transfer(at, "customer:1:checking", "customer:2:checking", 501))
    assert world.happen(transfer(at, "customer:1:checking", "customer:2:checking", 500))
    assert (len(world.history), world.dropped) == (2, 1)


def test_nobody_s_name_or_number_is_in_a_command(scenario):
    text = json.dumps(
        [(*tuple(step[:3]), str(step.entries), str(step.context)) for step in scenario.steps]
    )
    assert not looks_personal(text.replace('"amount', ""))
    for customer in scenario.customers:
        assert customer.personal["tax_id"] not in text
        assert customer.personal["name"] not in text


def test_ach_and_cards_settle_on_the_next_banking_day(scenario):
    in_transit: dict[str, int] = collections.defaultdict(int)
    for step in scenario.steps:
        day = CLOCK.dates(dt.datetime.fromisoformat(step.effective_at))[0]
        for entry in step.entries:
            if entry.account.startswith("clearing:"):
                in_transit[entry.account] += int(entry.amount) * (
                    1 if entry.side == "credit" else -1
                )
                assert in_transit[entry.account] >= 0
        if step.kind == "settlement":
            assert is_banking_day(day)
            assert in_transit[step.entries[0].account] == 0


@pytest.mark.parametrize(
    ("seed", "start"), [(7, "2026-05-20"), (1, "2025-12-05"), (2, "2026-01-31")]
)
def test_planted_cases_are_what_they_are_called(seed, start):
    scenario = _scenario(seed, start=start)
    parties = [f"pty_{number}" for number in range(len(scenario.customers))]
    key = answer_key(scenario, parties)
    counts = collections.Counter(case["rule"] for case in key["planted"])
    assert set(counts) == {"structuring", "rapid_movement", "fan_in", "ctr_aggregation"}
    assert min(counts.values()) >= 3
    named = [party for case in (*key["planted"], *key["look_alikes"]) for party in case["parties"]]
    assert len(named) == len(set(named))

    cash = _cash_by_business_day(scenario)
    over = {who for (who, _, _), amount in cash.items() if amount > 1_000_000}
    assert over == {case["party"] for case in key["planted"] if case["rule"] == "ctr_aggregation"}
    exactly = next(case for case in key["look_alikes"] if case["looks_like"] == "exactly_10000")
    assert (
        max(amount for (who, _, _), amount in cash.items() if who == exactly["party"]) == 1_000_000
    )
    for case in key["planted"]:
        if case["rule"] == "structuring":
            days = [amount for (who, _, _), amount in cash.items() if who == case["party"]]
            assert len(case["idempotency_keys"]) >= 3
            assert sum(days) > 1_000_000
        if case["rule"] == "fan_in":
            assert len(case["idempotency_keys"]) >= 8


@pytest.mark.parametrize(
    ("seed", "start"),
    [
        (1, "2026-10-28"),
        (1, "2026-10-31"),
        (7, "2026-10-10"),
        (11, "2026-10-13"),
        (12, "2026-10-22"),
    ],
)
def test_whoever_gathers_from_newcomers_gathers_from_few_others(seed, start):
    """In the smallest world, on dates on which households or gifts once gathered there as well."""
    scenario = _scenario(seed, customers=60, days=45, start=start)
    for case in scenario.cases:
        if case.rule != "fan_in":
            continue
        account, payers = case.accounts[0], collections.defaultdict(list)
        for step in scenario.steps:
            origin, destination = step.entries[0].account, step.entries[-1].account
            if step.kind == "transfer" and destination == account:
                payers[origin].append(dt.datetime.fromisoformat(step.effective_at))
        gathered = [
            dt.datetime.fromisoformat(scenario.steps[n].effective_at) for n in case.happenings
        ]
        month = max(gathered) - dt.timedelta(days=30)
        new = [origin for origin, days in payers.items() if min(days) >= min(gathered)]
        recent = [origin for origin, days in payers.items() if max(days) > month]
        assert f"{len(gathered)} new payers" in case.note
        assert len(new) >= len(gathered)
        assert 3 * len(new) >= 2 * len(recent), f"{case.name}: {len(new)} new of {len(recent)}"


def _cash_by_business_day(scenario: Scenario) -> dict[tuple[str, dt.date, str], int]:
    owners = {
        account: f"pty_{customer.number}"
        for customer in scenario.customers
        for account in customer.accounts
    }
    found: dict[tuple[str, dt.date, str], int] = collections.defaultdict(int)
    for step in scenario.steps:
        if step.context.channel != "cash":
            continue
        business = CLOCK.dates(dt.datetime.fromisoformat(step.effective_at))[1]
        for entry in step.entries:
            if entry.account in owners:
                found[owners[entry.account], business, entry.side] += int(entry.amount)
    return found


@pytest.mark.parametrize("seed", [7, 8, 9])
def test_planted_breaks_are_all_that_bank_and_ledger_differ_in(seed):
    scenario = _scenario(seed)
    ledger = collections.Counter(
        (
            step.context.rail_reference,
            ("credit" if entry.side == "debit" else "debit"),
            entry.amount,
        )
        for step in scenario.steps
        for entry in step.entries
        if entry.account == "bank:fbo"
    )
    bank = collections.Counter((one.reference, one.side, one.amount) for one in scenario.movements)
    only_ledger = {reference for reference, _, _ in (ledger - bank)}
    only_bank = {reference for reference, _, _ in (bank - ledger)}
    planted = {
        kind: {one.reference for one in scenario.breaks if one.kind == kind}
        for kind in KINDS_OF_BREAKS
    }
    assert only_ledger == planted["missing_at_bank"] | planted["amount_differs"]
    assert only_bank == (
        planted["missing_in_ledger"] | planted["amount_differs"] | planted["duplicate_at_bank"]
    )
    assert all(len(references) >= 2 for references in planted.values())
    last = max(one.day for one in scenario.breaks)
    assert last == str(max(day for day in _days(scenario) if is_banking_day(day)))
    assert len({one.id for one in scenario.movements}) == len(scenario.movements)


KINDS_OF_BREAKS = ("missing_at_bank", "missing_in_ledger", "amount_differs", "duplicate_at_bank")


def _days(scenario: Scenario) -> list[dt.date]:
    settings = scenario.settings
    return [settings.start + dt.timedelta(days=number) for number in range(settings.days)]


def test_a_scenario_that_is_too_small_is_refused():
    with pytest.raises(ValueError, match="60 customers and 45 days"):
        _scenario(7, customers=10)
