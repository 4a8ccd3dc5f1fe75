"""What an intake decides, without a database: the rules of one alert per episode."""

from __future__ import annotations

import datetime as dt
import random
from decimal import Decimal

import msgspec
import pytest

from monitoring.alerts.alert import Alert, Candidate, Evidence, apply, decode, encode, event_name
from monitoring.alerts.plan import Plan, Snapshot

NOW = dt.datetime(2026, 8, 15, tzinfo=dt.UTC)
DAY = dt.datetime(2026, 8, 1)


def candidate(
    *seqs: int, rule: str = "structuring", subject: str = "pty_a", version: str = "1"
) -> Candidate:
    entries = tuple(Evidence(seq, 0, "evidence", 100 * seq, "USD") for seq in seqs)
    return Candidate(
        rule=rule,
        rule_version=version,
        parameters_hash="p",
        ledger="l",
        subject=subject,
        subject_kind="party",
        episode=f"l/{min(seqs)}",
        window_start=DAY,
        window_end=DAY,
        score=Decimal("1.5"),
        amount=sum(entry.amount for entry in entries),
        currency="USD",
        exponent=2,
        why="because",
        entries=entries,
    )


class World:
    """Alerts after each snapshot taken in."""

    def __init__(self) -> None:
        self.alerts: dict[str, Alert] = {}
        self.version = 0

    def publish(
        self, *candidates: Candidate, as_of: int = 100, reversed_by: dict[int, int] | None = None
    ) -> list[str]:
        """Take a snapshot in; gives the types of the events it caused."""
        self.version += 1
        reversals = {("l", seq): by for seq, by in (reversed_by or {}).items()}
        snapshot = Snapshot(self.version, {"l": as_of}, candidates, reversals)
        plan = Plan(snapshot, self.alerts.values(), NOW + dt.timedelta(seconds=self.version))
        self.alerts = plan.alerts
        return [event_name(event) for _, event in plan.events]

    def only(self) -> Alert:
        (alert,) = [alert for alert in self.alerts.values() if alert.status != "merged"]
        return alert

    def decide(self, status: str) -> None:
        alert = self.only()
        self.alerts[alert.alert_id] = msgspec.structs.replace(alert, status=status)


@pytest.fixture
def world() -> World:
    return World()


def test_the_same_snapshot_again_adds_nothing(world: World) -> None:
    assert world.publish(candidate(10, 11, 12)) == ["opened"]
    assert world.publish(candidate(10, 11, 12)) == []
    assert world.publish(candidate(12, 11, 10), as_of=200) == []


def test_order_of_rows_and_entries_does_not_matter() -> None:
    candidates = [
        candidate(seq, seq + 1, subject=f"pty_{seq % 7}", rule=f"r{seq % 3}")
        for seq in range(10, 60, 3)
    ]
    outcomes = []
    for seed in range(5):
        shuffled = [
            msgspec.structs.replace(
                one, entries=tuple(random.Random(seed).sample(one.entries, len(one.entries)))
            )
            for one in random.Random(seed).sample(candidates, len(candidates))
        ]
        world = World()
        world.publish(*shuffled)
        outcomes.append(world.alerts)
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert len(outcomes[0]) == len(candidates)


def test_a_refire_adds_evidence_to_the_same_alert(world: World) -> None:
    world.publish(candidate(10, 11, 12))
    assert world.publish(candidate(10, 11, 12, 15), as_of=200) == ["evidence_added"]
    assert world.only().amount == 4800
    assert world.only().as_of_seq == 200


def test_new_evidence_reopens_a_closed_alert_but_the_old_does_not(world: World) -> None:
    world.publish(candidate(10, 11, 12))
    world.decide("closed")
    assert world.publish(candidate(10, 11, 12)) == []
    assert world.only().status == "closed"
    assert world.publish(candidate(10, 11, 12, 13), as_of=200) == ["evidence_added", "reopened"]
    assert world.only().status == "open"


def test_a_rebuild_that_lost_candidates_removes_nothing(world: World) -> None:
    world.publish(candidate(10, 11, 12))
    before = world.only()
    assert world.publish() == []
    assert world.publish(candidate(10, 11)) == [], (
        "same facts, same rule: fewer entries are a rebuild's doing"
    )
    assert world.publish(candidate(10, 11), as_of=50) == [], "an older snapshot knows less"
    assert world.only() == before


def test_a_vanished_candidate_whose_entries_were_reversed_is_corrected_once(world: World) -> None:
    world.publish(candidate(10, 11, 12))
    assert world.publish(as_of=200, reversed_by={11: 150}) == ["corrected"]
    assert world.publish(as_of=200, reversed_by={11: 150}) == []
    alert = world.only()
    assert (alert.status, alert.corrected, alert.amount) == ("open", True, 2200)
    assert world.publish(as_of=300, reversed_by={11: 150, 10: 290}) == ["corrected"]
    assert world.only().amount == 1200


def test_a_candidate_that_shrank_is_corrected_with_its_reversal(world: World) -> None:
    world.publish(candidate(10, 11, 12, 13))
    assert world.publish(candidate(10, 12, 13), as_of=200, reversed_by={11: 150}) == ["corrected"]
    assert world.publish(candidate(10, 12, 13), as_of=200, reversed_by={11: 150}) == []
    assert world.only().amount == 3500


def test_earlier_evidence_renames_the_episode_without_a_second_alert(world: World) -> None:
    world.publish(candidate(10, 11, 12))
    assert world.publish(candidate(8, 10, 11, 12), as_of=200) == [
        "episode_linked",
        "evidence_added",
    ]
    assert world.publish(candidate(8, 10, 11, 12), as_of=200) == []
    assert world.only().episodes == ["l/10", "l/8"]


def test_two_episodes_that_grow_together_are_merged(world: World) -> None:
    world.publish(candidate(10, 11, 12), candidate(30, 31, 32))
    assert world.publish(candidate(10, 11, 12, 20, 30, 31, 32), as_of=200) == [
        "merged",
        "evidence_added",
    ]
    assert world.publish(candidate(10, 11, 12, 20, 30, 31, 32), as_of=200) == []
    assert world.only().amount == 14600
    # The episodes come apart again: still one alert, nothing back and forth.
    world.publish(candidate(10, 11, 12), candidate(30, 31, 32), as_of=300)
    assert world.publish(candidate(10, 11, 12), candidate(30, 31, 32), as_of=300) == []
    assert len([a for a in world.alerts.values() if a.status != "merged"]) == 1


def test_neighbouring_episodes_and_other_subjects_stay_apart(world: World) -> None:
    shared = (
        candidate(10, 11),
        candidate(11, 12),
        candidate(10, 11, subject="pty_b"),
        candidate(10, 11, rule="fan_in"),
    )
    assert world.publish(*shared) == ["opened"] * 4
    assert world.publish(*shared) == []


def test_history_rebuilds_the_state_through_json(world: World) -> None:
    snapshot = Snapshot(1, {"l": 100}, (candidate(10, 11, 12),), {})
    first = Plan(snapshot, [], NOW)
    grown = candidate(8, 10, 12)
    second = Plan(Snapshot(2, {"l": 200}, (grown,), {("l", 11): 150}), first.alerts.values(), NOW)
    rebuilt = None
    for name, event in [*first.events, *second.events]:
        rebuilt = apply(rebuilt, decode(encode(event)), name, "service:monitor", NOW)
    assert rebuilt == next(iter(second.alerts.values()))
    assert all(isinstance(row["amount"], str) for row in encode(first.events[0][1])["evidence"])


def test_an_older_snapshot_brings_nothing_back(world: World) -> None:
    world.publish(candidate(10, 11, 12))
    world.publish(candidate(10, 12), as_of=200, reversed_by={11: 150})
    assert world.publish(candidate(10, 11, 12), as_of=150) == []
    assert world.only().amount == 2200


def test_which_candidate_inherits_an_alert_does_not_depend_on_the_order_of_rows() -> None:
    outcomes = []
    for heirs in ([candidate(8, 10), candidate(9, 11)], [candidate(9, 11), candidate(8, 10)]):
        world = World()
        world.publish(candidate(10, 11))
        world.publish(*heirs, as_of=200)
        outcomes.append(world.alerts)
    assert outcomes[0] == outcomes[1]
