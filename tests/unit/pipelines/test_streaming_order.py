"""In which order a streaming run publishes: `restricted` is never made of what `general` does not show."""

from __future__ import annotations

import types
from collections.abc import Sequence

import pytest

from ledger_service.contract.snapshots import SnapshotName
from pipelines import streaming
from pipelines.flow import Publication


class Landing:
    """Stands for the flow: something lands in each round; `general` is blocked in some."""

    def __init__(self, fates: Sequence[str]) -> None:
        self.tried: list[str] = []
        """What was tried to be published, and what came of it."""
        self._fates = iter(fates)
        self.places = self.api = None
        self.dbt = types.SimpleNamespace(parse=lambda: None)
        self.lock = types.SimpleNamespace(is_wanted=lambda: False)

    def recover(self) -> None:
        """There is nothing to recover."""

    def land(self, _seconds: float) -> types.SimpleNamespace:
        return types.SimpleNamespace(events=1)

    def convert(self) -> int:
        return 1

    def write_progress(self, _blocked: object) -> None:
        """Nobody reads it."""

    def build(self, names: Sequence[SnapshotName]) -> Sequence[SnapshotName]:
        return names

    def light_checks(self) -> list[object]:
        return []

    def publish(self, _outcomes: object, names: Sequence[SnapshotName]) -> Publication:
        (name,) = names
        fate = next(self._fates) if name == "general" else "shown"
        self.tried.append(f"{name} {fate}")
        return Publication({}, ["debits_equal_credits"] if fate == "blocked" else [], [])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    suites = types.SimpleNamespace(
        outcomes=[], poll=lambda: False, start_if_due=lambda: None, stop=lambda: None
    )
    monkeypatch.setattr(streaming, "ExpectationsProcess", lambda _flow: suites)
    monkeypatch.setattr(streaming, "MissingReports", lambda _places, _api: None)
    monkeypatch.setattr(streaming, "_build_reports", lambda _reports: None)
    monkeypatch.setattr(streaming, "RESTS", {"general": 0.0, "restricted": 0.0})
    monkeypatch.setattr(streaming, "IDLE_POLL_S", 0.0)
    monkeypatch.setattr(streaming, "RETRY_BLOCKED_S", 0.0)


def tried(*fates: str) -> list[str]:
    """What a run tries while `general` has these fates."""
    flow = Landing(fates)
    over = lambda: sum("general" in one for one in flow.tried) == len(fates)  # noqa: E731
    streaming.stream(flow, seconds=30, give_way=over, report=lambda _round: None)  # type: ignore[arg-type]
    return flow.tried


def test_general_is_published_first_and_restricted_behind_it() -> None:
    assert tried("shown", "shown")[:2] == ["general shown", "restricted shown"]


def test_restricted_waits_while_general_is_blocked() -> None:
    assert tried("blocked", "blocked", "shown") == [
        "general blocked", "general blocked", "general shown", "restricted shown",
    ]  # fmt: skip
    assert tried("shown", "blocked", "shown")[:3] == [
        "general shown", "restricted shown", "general blocked",
    ]  # fmt: skip
