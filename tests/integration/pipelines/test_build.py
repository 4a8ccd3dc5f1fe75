"""Whole builds in Dagster, each in a process of its own: what they publish, what its pages then say,
and to whom.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from ledger_service.contract.snapshots import NAMES, read_manifest, read_progress
from pipelines.checks.suites import SUITES
from pipelines.publication import snapshot
from tests.integration.pipelines.conftest import LEDGER

COUNTS = {"dagster/row_count", "dagster_dbt/failed_row_count"}
STACK_YAML = Path(__file__).parents[3] / "ledger_service" / "stack" / "dagster.yaml"
pytestmark = pytest.mark.timeout(900)


SOME_STEPS = """
import sys
import dagster as dg
from pipelines.definitions import defs
with dg.DagsterInstance.get() as instance:
    job = defs.get_job_def("build")
    done = job.execute_in_process(
        op_selection=sys.argv[1:], instance=instance, raise_on_error=False
    )
raise SystemExit(not done.success)
"""


def start_steps(*steps: str) -> subprocess.Popen[str]:
    """Some steps of job `build`, where marts are there, in a process of their own."""
    return subprocess.Popen(
        [sys.executable, "-c", SOME_STEPS, *steps],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.fixture(scope="module")
def built(world, kafka, tmp_path_factory) -> Iterator[SimpleNamespace]:
    """One run of job `build` in a home of its own, over the topics and the ledger of the world."""
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
        command = [sys.executable, "-m", "dagster", "job", "execute"]
        # A process of its own, as every run is one.
        done = subprocess.run(
            [*command, "-m", "pipelines.definitions", "-j", "build"],
            check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
            (record,) = instance.get_run_records()
            events = [e.dagster_event for e in instance.all_logs(record.dagster_run.run_id)]
            yield SimpleNamespace(home=home, instance=instance, events=[e for e in events if e])


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


def test_the_build_publishes_and_every_asset_says_how_much_it_holds(built, world):
    manifest = read_manifest(built.home / "snapshots", "general")
    assert manifest is not None
    assert manifest.as_of[LEDGER] == world.oracle.events[LEDGER][-1].seq
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


def test_two_runs_at_once_leave_whole_snapshots_of_all_there_is(built, world):
    landing = ("landing__raw", "typed_landing")
    runs = [
        start_steps(*landing, "dbt_models", "published_snapshots"),
        start_steps(*landing, "publication_checks", "published_snapshots"),
    ]
    for run in runs:
        _, said = run.communicate()
        assert run.returncode == 0, said[-3000:]
    folder = built.home / "snapshots"
    for name in NAMES:
        versions = sorted(int(path.stem) for path in (folder / name / "manifests").glob("*.json"))
        assert versions == [1, 2, 3], "each has published, one after the other"
        for version in versions:
            manifest = read_manifest(folder, name, version)
            assert manifest is not None
            assert manifest.as_of[LEDGER] == world.oracle.events[LEDGER][-1].seq
            snapshot.verify(folder, manifest)


def test_a_build_with_a_failed_check_publishes_nothing_and_says_which(built, world, monkeypatch):
    before = {name: read_manifest(built.home / "snapshots", name) for name in NAMES}
    balances = world.oracle.balances

    def lying(ledger, seq):
        first, *others = balances(ledger, seq)
        return [{**first, "debits": first["debits"] + 1}, *others]

    monkeypatch.setattr(world.oracle, "balances", lying)
    run = start_steps("publication_checks", "published_snapshots")
    _, said = run.communicate()
    assert run.returncode == 1, said[-3000:]
    assert {name: read_manifest(built.home / "snapshots", name) for name in NAMES} == before
    progress = read_progress(built.home / "snapshots")
    assert progress is not None
    assert progress.blocked_by == ["two_roads_balances", "two_roads_trial_balance"]


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
