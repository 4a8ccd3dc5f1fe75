"""Failpoints: off, named, and refused in production."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import ledger_service
import pipelines
from ledger_service.contract import failpoints
from pipelines.ingestion.manifest import FOLDERS


@pytest.fixture(autouse=True)
def _disarmed() -> Iterator[None]:
    yield
    failpoints.arm("")


def test_every_place_is_called_once_and_every_call_is_listed() -> None:
    rooms = [Path(one.__path__[0]) for one in (ledger_service, pipelines)]
    written = [
        name
        for room in rooms
        for path in room.rglob("*.py")
        for name in re.findall(r'failpoints\.reach\(\s*f?"([^"]+)"', path.read_text())
    ]
    # a file of the landing passes three, which are called as its folder is
    called = [
        name.replace("{folder}", folder.rstrip("/"))
        for name in written
        for folder in (FOLDERS if "{folder}" in name else ("",))
    ]
    assert sorted(called) == sorted(failpoints.POINTS)


def test_an_armed_place_fails_from_its_time_on_and_no_other_does() -> None:
    failpoints.reach("commit.in_flight")
    failpoints.arm("commit.in_flight=error@3")
    failpoints.reach("commit.in_flight")
    failpoints.reach("commit.before_begin")
    failpoints.reach("commit.in_flight")
    with pytest.raises(failpoints.FailpointError, match=r"commit\.in_flight"):
        failpoints.reach("commit.in_flight")


@pytest.mark.parametrize("text", ["nowhere=kill", "commit.in_flight=dance", "answer.before=kill@x"])
def test_what_is_not_listed_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is no failpoint"):
        failpoints.arm(text)


def test_a_service_outside_of_demo_and_test_refuses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TALLYSTICK_FAILPOINTS", "commit.in_flight=kill")
    for name in ("production", "staging"):
        monkeypatch.setenv("TALLYSTICK_ENV", name)
        with pytest.raises(ValueError, match="TALLYSTICK_FAILPOINTS"):
            failpoints.arm_from_environment()
    monkeypatch.setenv("TALLYSTICK_ENV", "test")
    failpoints.arm_from_environment()
