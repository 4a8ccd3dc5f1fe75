"""The kill loop of the stream in its short form; `make chaos-pipeline KILLS=100` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger_service.contract.failpoints import POINTS
from tests.servers import LedgerDatabase
from tests.soak.chaos import IN_DBT, MIDST, SERVICES, plan_of, soak
from tests.soak.soak import Plan, owner
from tests.soak.stream_house import stream

SEED = 3


@pytest.mark.timeout(900)  # a busy machine, and many processes that start on it
def test_killed_services_leave_topic_landing_and_marts_equal_to_the_journal(
    ledger_database: LedgerDatabase, tmp_path: Path
) -> None:
    plan = Plan(
        {"pipeline": ["raw.before_commit=kill@1", "snapshot.before_pointer=kill@2"]},
        ["relay.before_commit=kill@1", "broker"],
    )
    with stream(ledger_database, tmp_path, expectations=False) as one:
        verdict = soak(one, plan, SEED, rebuild=False)
    assert verdict.violations == []
    assert verdict.hits == dict.fromkeys(
        ["raw.before_commit", "snapshot.before_pointer", "relay.before_commit", "outside: broker"],
        1,
    )
    assert verdict.events > 100
    assert verdict.snapshots_read >= 2


def test_a_plan_hits_every_place_of_the_stream_and_dbt_and_the_broker() -> None:
    plans = [plan_of(100, seed) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    kills = [*plans[0].points["pipeline"], *plans[0].others]
    assert len(kills) == 100
    places = [kill.partition("=")[0] for kill in kills if "=kill" in kill and "=pause" not in kill]
    assert set(places) == {point for point in POINTS if owner(point) in SERVICES}
    assert sum(kill.startswith(MIDST[:20]) for kill in kills) >= 3
    assert plans[0].others.count("broker") >= 3
    assert IN_DBT not in kills
