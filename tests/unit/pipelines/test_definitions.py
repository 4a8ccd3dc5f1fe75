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
    from pipelines.checks.declared import CHECKS

    graph = repository.asset_graph
    return {
        "assets": {
            key.to_user_string(): describe_asset(graph.get(key))
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": {
            check.name: f"{'blocking' if graph.get(check).blocking else 'warning'}, on "
            f"{check.asset_key.to_user_string()}"
            for check in sorted(graph.asset_check_keys)
            if check.name in CHECKS
        },
        "jobs": {
            job.name: sorted(node.name for node in job.nodes)
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if job.name != "__ASSET_JOB"
        },
        "schedules": {
            one.name: f"{one.job_name} at {one.cron_schedule} {one.execution_timezone}"
            for one in repository.schedule_defs
        },
        "sensors": {
            one.name: f"{one.sensor_type.value}, every {one.minimum_interval_seconds} s, "
            f"{one.default_status.value}"
            for one in repository.sensor_defs
        },
    }


def describe_asset(node) -> dict:
    partitions, condition = node.partitions_def, node.automation_condition
    freshness = node.freshness_policy
    found = {
        "made of": sorted(parent.to_user_string() for parent in node.parent_keys),
        "is": ", ".join([node.group_name, *sorted(node.kinds)]),
        "partitions": type(partitions).__name__ if partitions else "",
        "automation": condition.get_label() if condition else "",
        "backfill": node.backfill_policy.policy_type.value if partitions else "",
        "fresh by": freshness.deadline_cron if freshness else "",
    }
    return {name: value for name, value in found.items() if value}


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


def test_balances_follow_entries_that_passed_their_blocking_checks_and_no_others(repository):
    from pipelines.definitions import defs

    graph = repository.asset_graph
    balances = dg.AssetKey(["marts", "account_balances_daily"])
    parents = graph.get(balances).parent_keys
    blocking = [
        key
        for key in graph.asset_check_keys
        if key.asset_key in parents and graph.get(key).blocking
    ]
    assert len(blocking) >= 3
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = None

        def requested() -> int:
            nonlocal cursor
            result = dg.evaluate_automation_conditions(
                defs, instance, dg.AssetSelection.assets(balances), cursor=cursor
            )
            cursor = result.cursor
            return result.total_requested

        def judge(failed: str | None) -> None:
            for key in blocking:
                instance.report_runless_asset_event(
                    dg.AssetCheckEvaluation(
                        asset_key=key.asset_key, check_name=key.name, passed=key.name != failed
                    )
                )

        for key in [*parents, balances]:
            instance.report_runless_asset_event(dg.AssetMaterialization(key))
        judge(failed=None)
        assert requested() == 0
        instance.report_runless_asset_event(
            dg.AssetMaterialization(dg.AssetKey(["marts", "entries"]))
        )
        judge(failed="transactions_balance")
        assert requested() == 0
        judge(failed=None)
        assert requested() == 1
        assert requested() == 0


def test_only_reports_are_partitioned_and_a_range_of_them_is_one_run(repository):
    graph = repository.asset_graph
    parted = {key for key in graph.get_all_asset_keys() if graph.get(key).partitions_def}
    assert {key.path[0] for key in parted} == {"reports"}
    for key in parted:
        assert graph.get(key).backfill_policy == dg.BackfillPolicy.single_run()


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
    assert (ROOT / "ledger_service/stack/dagster.yaml").read_text().count("granularity: op") == 1
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
