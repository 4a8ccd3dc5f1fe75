"""The kill loop in its short form; `make soak-ledger KILLS=200` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.servers import LedgerDatabase
from tests.soak.client import LEDGER
from tests.soak.cluster import clients, cluster
from tests.soak.soak import KillLoop, Plan, judge

SEED = 11


def test_killed_services_lose_nothing_and_double_nothing(
    ledger_database: LedgerDatabase, tmp_path: Path
) -> None:
    plan = Plan(
        {
            "writer": ["commit.after_commit=kill@5"],
            "api": ["submit.after_verdicts=kill@20"],
        },
        ["writer"],
    )
    with cluster(ledger_database, tmp_path, writers=1, apis=1) as running:
        loop = KillLoop(running, plan, SEED)
        with clients(running, str(SEED), 1) as histories:
            loop.run()
            running.wait_for_progress(50)
        result = judge(running, histories)
    assert result.violations == []
    assert loop.hits["commit.after_commit"] == 1
    assert result.acknowledged > 50
    assert result.doubtful > 0, f"nothing was in doubt: {LEDGER} was not under load"


def test_a_plan_hits_every_place_as_often_as_the_others_and_follows_from_its_seed() -> None:
    plans = [Plan.make(200, seed, ("writer", "api", "relay"), ["writer"]) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    places = [text.partition("=")[0] for texts in plans[0].points.values() for text in texts]
    assert min(places.count(place) for place in set(places)) >= 5
    assert len(places) + len(plans[0].others) == 200
