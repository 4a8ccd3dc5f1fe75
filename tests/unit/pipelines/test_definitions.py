"""Dagster loads the pipelines, and their graph is what it was meant to be."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
import yaml

ROOT = Path(__file__).parents[3]
GRAPH = Path(__file__).with_name("asset_graph.json")


@pytest.fixture(scope="module")
def repository():
    from pipelines.definitions import defs

    return defs.get_repository_def()


def describe(repository) -> dict:
    from pipelines.checks.asset_checks import CHECKED

    graph = repository.asset_graph
    return {
        "assets": {
            key.to_user_string(): sorted(p.to_user_string() for p in graph.get(key).parent_keys)
            for key in sorted(graph.get_all_asset_keys())
        },
        "blocking checks": sorted(
            f"{check.asset_key.to_user_string()}: {check.name}"
            for check in graph.asset_check_keys
            if check.name in CHECKED and graph.get(check).blocking
        ),
        "jobs": sorted(job.name for job in repository.get_all_jobs() if job.name != "__ASSET_JOB"),
        "schedules": sorted(f"{s.name}: {s.cron_schedule}" for s in repository.schedule_defs),
        "sensors": sorted(sensor.name for sensor in repository.sensor_defs),
    }


def test_the_asset_graph_is_as_recorded(repository):
    """Changed on purpose? Write what this test shows to asset_graph.json."""
    found = describe(repository)
    assert found == json.loads(GRAPH.read_text()), json.dumps(found, indent=1)


def test_every_asset_says_whose_it_is_and_what_it_is(repository):
    graph = repository.asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.kinds, key
        assert node.description, key
        assert node.group_name != "default", key


def test_marts_are_published_only_behind_their_blocking_checks(repository):
    graph = repository.asset_graph
    marts = {key for key in graph.get_all_asset_keys() if key.path[0] == "marts"}
    for name in ("general", "restricted"):
        assert graph.get(dg.AssetKey(["snapshots", name])).parent_keys == marts
    blocking = {check.name for check in graph.asset_check_keys if graph.get(check).blocking}
    assert {"two_roads_balances", "debits_equal_credits", "expectations_entries"} <= blocking


def test_both_ways_to_load_name_the_same_module():
    import tomllib

    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    module = workspace["load_from"][0]["python_module"]["module_name"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert module == project["code_location_target_module"] == "pipelines.definitions"


def test_every_step_that_touches_the_warehouse_is_in_the_pool(repository):
    untouched = {"reports__fbo_reconciliation", "warm_up"}
    ops = {op.name: op for job in repository.get_all_jobs() for op in job.all_node_defs}
    names = {name for name, op in ops.items() if getattr(op, "pool", None) != "warehouse"}
    assert {name for name in names if isinstance(ops[name], dg.OpDefinition)} == untouched


class Instance(dg.DagsterInstance):
    """Only what the sensor asks."""

    def __init__(self, records: list) -> None:
        self.records = records

    def get_run_records(self, *_args: object, **_more: object) -> list:
        return self.records


@pytest.mark.parametrize(
    ("ages", "starts"),
    [([], True), ([5], False), ([530], True), ([530, 1], False), ([None], False)],
)
def test_a_streaming_run_has_a_successor_and_never_two(repository, ages, starts):
    import time
    from types import SimpleNamespace

    from pipelines.sensors import keep_streaming

    records = [SimpleNamespace(start_time=None if a is None else time.time() - a) for a in ages]
    context = SimpleNamespace(instance=Instance(records))
    asked = keep_streaming._raw_fn(context)
    assert isinstance(asked, dg.RunRequest) is starts
