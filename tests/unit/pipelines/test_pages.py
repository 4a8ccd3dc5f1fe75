"""Dagster's pages are read by analysts: they plot the general snapshot and count nothing of alerts."""

from __future__ import annotations

import json
from types import SimpleNamespace

import dagster as dg
import pytest

from ledger_service.contract.snapshots import Manifest, Part
from pipelines.checks.declared import CHECKS, outcome
from pipelines.flow import Publication

FOUND = "candidate 7 of pty_1"


@pytest.fixture
def publication() -> Publication:
    """Two marts of two parts, one restricted one, and checks that found something."""
    manifests = {
        name: Manifest(name, 3, "", {"books": 9}, marts, [], "")
        for name, marts in {
            "general": {
                "entries": [Part("a", 5, ""), Part("b", 2, "")],
                "build": [Part("c", 1, "")],
            },
            "restricted": {"alert_candidates": [Part("d", 4, "")]},
        }.items()
    }
    outcomes = [
        outcome("freshness", "", {"seconds that books is behind": 2}),
        outcome("expectations_alert_candidates", FOUND, {"evaluated": 4}),
    ]
    return Publication(manifests, [], outcomes)  # type: ignore[arg-type]


def test_a_snapshot_plots_its_figures_and_the_restricted_one_its_position_alone(publication):
    from pipelines.assets.snapshots import describe, rows_of_marts

    position = {"version": 3, "seq of books": 9}
    assert describe(publication, "general") == {
        **position, "dagster/row_count": 8, "seconds that books is behind": 2,
    }  # fmt: skip
    assert describe(publication, "restricted") == position
    rows = {
        one.asset_key.to_user_string(): one.metadata["dagster/row_count"].value
        for one in rows_of_marts(publication)
    }
    assert rows == {"marts/entries": 7, "marts/build": 1}


def test_a_restricted_check_says_that_it_failed_and_no_more(publication):
    from pipelines.checks import asset_checks

    of_entries = outcome("expectations_entries", "amount: does not hold", {"evaluated": 9})
    shown = [asset_checks._result(o, "/docs") for o in (publication.outcomes[1], of_entries)]
    assert [one.passed for one in shown] == [False, False]
    assert shown[0].metadata == {}
    assert shown[0].description == "see the restricted Data Docs"
    assert set(shown[1].metadata) == {"evaluated", "data docs"}
    assert shown[1].description == "amount: does not hold"


def test_what_dbt_says_of_rules_is_counted_and_quoted_nowhere():
    from pipelines.assets.marts import prepared_manifest, restricted_models, without_counts
    from pipelines.warehouse.dbt import _failures

    manifest = json.loads(prepared_manifest().read_bytes())
    hidden = {key.to_user_string() for key in restricted_models(manifest)}
    assert {f"marts/{check.mart}" for check in CHECKS.values() if check.restricted} <= hidden
    assert {"marts/ctr_candidates", "intermediate/int_structuring"} <= hidden
    assert "marts/entries" not in hidden
    checked = dg.AssetCheckResult(
        passed=False, asset_key=dg.AssetKey("x"), check_name="c",
        metadata={"dagster_dbt/failed_row_count": 3, "unique_id": "x"},
    )  # fmt: skip
    assert set(without_counts(checked).metadata) == {"unique_id"}
    tests_of_rules = [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "test" and "candidate" in node["attached_node"]
    ]
    assert len(tests_of_rules) > 5
    assert {node["config"]["fail_calc"] for node in tests_of_rules} == {"least(count(*), 1)"}
    failed = [
        SimpleNamespace(status="error", message=FOUND, node=SimpleNamespace(name=name, tags=tags))
        for name, tags in (("int_fan_in", ["typology"]), ("entries", []))
    ]
    words = _failures(SimpleNamespace(results=failed))
    assert words.count(FOUND) == 1
    assert "int_fan_in: error: its message is withheld" in words
