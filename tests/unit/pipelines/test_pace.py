"""Each snapshot's work has a rest in proportion to what it took, and is done when there is news."""

from __future__ import annotations

import pytest

from pipelines import streaming
from pipelines.flow import Publication
from pipelines.streaming import IDLE_POLL_S, RETRY_BLOCKED_S, Pace


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when the test says so."""
    now = [1000.0]
    monkeypatch.setattr(streaming.time, "monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def worked(pace: Pace, clock, seconds: float, blocked_by: list[str] | None = None) -> int:
    """Do the work in so many seconds; gives the events that it was for."""
    rounds = []

    def publish() -> Publication:
        clock(seconds)
        return Publication({}, blocked_by or [], [])

    pace.work(publish, rounds.append)
    assert rounds[0].seconds == pytest.approx(seconds)
    return rounds[0].events


@pytest.mark.parametrize(
    ("took", "rest"), [(0.1, IDLE_POLL_S), (1.0, 3.0), (4.0, 12.0), (100.0, 60.0)]
)
def test_a_rest_is_so_many_times_the_work_within_bounds(clock, took, rest):
    pace = Pace(times=3.0, longest_s=60.0)
    assert pace.is_ready(), "at first there is everything to do"
    worked(pace, clock, took)
    clock(rest + 1)
    assert not pace.is_ready(), "nothing is new"
    pace.note(5, is_new=True)
    assert pace.is_ready()
    worked(pace, clock, took)
    pace.note(5, is_new=True)
    clock(rest - 0.01)
    assert not pace.is_ready(), "it rests"
    clock(0.02)
    assert pace.is_ready()


def test_what_landed_meanwhile_counts_for_the_next_round(clock):
    pace = Pace(times=1.0, longest_s=60.0)
    pace.note(3, is_new=True)
    pace.note(0, is_new=False)
    pace.note(4, is_new=True)
    assert worked(pace, clock, 1.0) == 7
    pace.note(2, is_new=True)
    assert worked(pace, clock, 1.0) == 2


def test_what_was_blocked_is_tried_again_though_nothing_is_new(clock):
    pace = Pace(times=3.0, longest_s=60.0)
    worked(pace, clock, 100.0, ["two_roads_balances"])
    clock(RETRY_BLOCKED_S - 0.01)
    assert not pace.is_ready()
    clock(0.02)
    assert pace.is_ready()
