"""AMLGentex by our mapping, without a server: where the file contradicts itself, and nowhere else."""

from __future__ import annotations

import collections
import itertools
from decimal import Decimal, localcontext

import pytest

from ledger_service.loading.mapping import load_mapping
from ledger_service.loading.plan import EXACT, Planner, Transfer, stated_minor
from ledger_service.loading.source import Source
from ledger_service.loading.survey import reasons, survey

pytestmark = pytest.mark.real_data


def _disagreements(transfers: list[Transfer]) -> dict[str, int]:
    """By account, the last stated balance minus ours, of accounts that ever were apart by more
    than half a cent an entry."""
    balances: dict[str, int] = collections.defaultdict(int)
    entries: dict[str, int] = collections.defaultdict(int)
    apart: set[str] = set()
    last: dict[str, int] = {}
    for _, of_day in itertools.groupby(transfers, key=lambda one: one.day):
        stated: dict[str, str] = {}
        for one in of_day:
            for account, sign in ((one.origin, -1), (one.destination, 1)):
                if account is not None:
                    balances[account] += sign * one.amount
                    entries[account] += 1
            stated.update(one.stated)
        for account, text in stated.items():
            minor = stated_minor(text, "USD")
            assert minor is not None
            last[account] = minor - balances[account]
            if 2 * abs(last[account]) > entries[account]:
                apart.add(account)
    return {account: last[account] for account in sorted(apart)}


def test_twenty_four_accounts_hold_cash_that_the_log_does_not_show(real_data):
    mapping, _ = load_mapping("amlgentex")
    source = Source(real_data / "transactions/amlgentex/tx_log.parquet")
    planner = Planner(mapping, lambda source_id: source_id)
    planned = list(planner.plan(source.rows(mapping.used_columns())))
    found = survey(planned)
    assert (found.rows, found.accepted) == (125_435, 125_428)
    assert reasons(found.rejected) == {"rounds_to_zero": 7}
    assert len(found.accounts) == 2_000
    with localcontext(EXACT):
        assert found.accepted_minor + found.residual == found.accepted_source * 100
        assert found.residual == Decimal("-193.7961645515360782")

    apart = _disagreements([one for one in planned if isinstance(one, Transfer)])
    assert len(apart) == 24
    assert (min(apart.values()), max(apart.values())) == (401_426, 1_410_884)
