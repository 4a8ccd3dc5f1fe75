"""Whole builds in Dagster, each in a process of its own: what its pages then say, and to whom; two at
once; and one that a check stops."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ledger_service.contract.snapshots import read_manifest, read_progress
from pipelines.checks.suites import SUITES
from tests.integration.pipelines.conftest import LEDGER

COUNTS = {"dagster/row_count", "dagster_dbt/failed_row_count"}
STACK_YAML = Path(__file__).parents[3] / "ledger_service" / "stack" / "dagster.yaml"
pytestmark = pytest.mark.timeout(900)


def start_build() -> subprocess.Popen[str]:
    """A run of job `build`, in a process of its own as every run is one."""
    command = [sys.executable, "-m", "dagster", "job", "execute", "-m", "pipelines.definitions"]
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, "-j", "build"], stdout=pipe, stderr=pipe, text=True)


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code of a build, and the end of what it said."""
    _, said = process.communicate()
    return process.returncode, said[-3000:]


@pytest.fixture(scope="module")
def house(world, kafka, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A home of its own, over the topics and the ledger of the world, and Dagster's instance in it."""
    import dagster as dg

    home = tmp_path_factory.mktemp("build")
    dagster_home = home / "dagster"
    dagster_home.mkdir()
    text = STACK_YAML.read_text().replace("DAGSTER_STORAGE", str(dagster_home))
    (dagster_home / "dagster.yaml").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "TALLYSTICK_HOME": str(home),
            **kafka.settings("pipelines"),
            "TALLYSTICK_API_URL": world.oracle.address,
            "TALLYSTICK_API_KEY": "test",
            "DAGSTER_HOME": str(dagster_home),
        }.items():
            patch.setenv(name, value)
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            yield SimpleNamespace(home=home, instance=instance)


def events_of(house, run_id: str) -> list:
    events = [entry.dagster_event for entry in house.instance.all_logs(run_id)]
    return [event for event in events if event]


@pytest.fixture(scope="module")
def built(house, world) -> SimpleNamespace:
    """The first build there."""
    posted = world.oracle.events[LEDGER][-1].seq
    code, said = finished(start_build())
    assert code == 0, said
    (record,) = house.instance.get_run_records()
    manifest = read_manifest(house.home / "snapshots", "general")
    return SimpleNamespace(
        events=events_of(house, record.dagster_run.run_id), manifest=manifest, posted=posted
    )


def metadata_of(built) -> dict[str, dict]:
    """By asset, what was recorded when it was made."""
    return {
        event.asset_key.to_user_string(): {
            name: value.value
            for name, value in event.step_materialization_data.materialization.metadata.items()
        }
        for event in built.events
        if event.event_type_value == "ASSET_MATERIALIZATION"
    }


def evaluations_of(built) -> list:
    return [
        event.asset_check_evaluation_data
        for event in built.events
        if event.event_type_value == "ASSET_CHECK_EVALUATION"
    ]


def test_the_build_publishes_and_every_asset_says_how_much_it_holds(built):
    manifest = built.manifest
    assert manifest is not None
    assert manifest.as_of[LEDGER] == built.posted
    found = metadata_of(built)
    rows = {
        event.event_specific_data.asset_observation.asset_key.to_user_string(): event
        .event_specific_data.asset_observation.metadata["dagster/row_count"].value
        for event in built.events
        if event.event_type_value == "ASSET_OBSERVATION"
        and "dagster/row_count" in event.event_specific_data.asset_observation.metadata
    }  # fmt: skip
    assert rows["marts/entries"] > 100
    assert not [name for name in rows if "candidate" in name]
    assert found["landing/raw"][f"events that {LEDGER} is behind"] == 0
    general = found["snapshots/general"]
    assert general[f"seq of {LEDGER}"] == manifest.as_of[LEDGER]
    assert general[f"seconds that {LEDGER} is behind"] == 0
    assert general["dagster/row_count"] > 100


def test_a_column_says_what_it_is_made_of(built):
    lineage = metadata_of(built)["marts/account_balances_daily"]["dagster/column_lineage"]
    parents = {
        f"{dep.asset_key.to_user_string()}.{dep.column_name}"
        for dep in lineage.deps_by_column["debits"]
    }
    assert "marts/entries.amount" in parents


def test_pages_that_analysts_see_count_nothing_of_alerts(built):
    from pipelines.assets.marts import prepared_manifest, restricted_models

    hidden = {
        key.to_user_string()
        for key in restricted_models(json.loads(prepared_manifest().read_bytes()))
    }
    assert {
        "marts/alert_candidates",
        "marts/ctr_candidates",
        "intermediate/int_structuring",
    } <= hidden
    found = metadata_of(built)
    assert hidden <= found.keys()
    for name in {*hidden, "snapshots/restricted"}:
        assert not COUNTS & found[name].keys(), name
    evaluated = evaluations_of(built)
    of_hidden = [one for one in evaluated if one.asset_key.to_user_string() in hidden]
    assert len(of_hidden) > 5
    for one in of_hidden:
        assert not COUNTS & one.metadata.keys(), one.check_name


def test_every_expectation_was_evaluated_and_the_docs_are_linked(built):
    evaluated = {e.check_name: e for e in evaluations_of(built)}
    for suite in SUITES:
        one = evaluated[suite.check]
        assert one.passed
        if suite.snapshot == "restricted":
            assert one.metadata == {}
            continue
        figures = {name: value.value for name, value in one.metadata.items()}
        assert figures["expected"] == figures["evaluated"] == len(suite.expectations)
        assert Path(str(figures["data docs"])).is_file()


def steps_of(house, run_id: str) -> list[tuple[float, float]]:
    """When each step of a run began and ended; all of a build hold the pool."""
    times = {
        (entry.dagster_event.event_type_value, entry.dagster_event.step_key): entry.timestamp
        for entry in house.instance.all_logs(run_id)
        if entry.dagster_event
    }
    ended = [key for kind, key in times if kind == "STEP_SUCCESS"]
    return [(times["STEP_START", key], times["STEP_SUCCESS", key]) for key in ended]


def test_of_two_builds_at_once_each_step_waits_for_the_others(house, built, world):
    known = {record.dagster_run.run_id for record in house.instance.get_run_records()}
    last = world.post(2_00).seq
    for code, said in [finished(process) for process in [start_build(), start_build()]]:
        assert code == 0, said
    manifest = read_manifest(house.home / "snapshots", "general")
    assert manifest is not None
    assert manifest.as_of[LEDGER] == last
    runs = {record.dagster_run.run_id for record in house.instance.get_run_records()} - known
    spans = [steps_of(house, run_id) for run_id in runs]
    assert [len(steps) for steps in spans] == [5, 5]
    one, other = ((min(b for b, _ in steps), max(e for _, e in steps)) for steps in spans)
    assert one[0] < other[1], "they were under way at the same time"
    assert other[0] < one[1]
    in_turn = sorted(step for steps in spans for step in steps)
    for (_, ended), (begins, _) in itertools.pairwise(in_turn):
        assert begins >= ended


def test_a_failed_blocking_check_ends_the_build_and_the_last_snapshot_stays(
    house, built, world, monkeypatch
):
    before = read_manifest(house.home / "snapshots", "general")
    world.post(3_00)
    truth = world.oracle.balances

    def a_cent_more(ledger: str, at_seq: int) -> list[dict]:
        lines = truth(ledger, at_seq)
        lines[0]["credits"] += 1
        return lines

    with monkeypatch.context() as patch:
        patch.setattr(world.oracle, "balances", a_cent_more)
        code, _ = finished(start_build())
    assert code != 0
    assert read_manifest(house.home / "snapshots", "general") == before
    progress = read_progress(house.home / "snapshots")
    assert progress is not None
    assert "two_roads_balances" in progress.blocked_by
    record = house.instance.get_run_records(limit=1)[0]
    stopped = SimpleNamespace(events=events_of(house, record.dagster_run.run_id))
    failed = {one.check_name for one in evaluations_of(stopped) if not one.passed}
    assert "two_roads_balances" in failed
    assert "snapshots/general" not in metadata_of(stopped)

    code, said = finished(start_build())
    assert code == 0, said
    progress = read_progress(house.home / "snapshots")
    assert progress is not None
    assert progress.blocked_by == []
