"""What every model promises, read from dbt's manifest."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.publication import catalogue
from pipelines.warehouse.dbt import PROJECT
from tests.integration.dbt.warehouse import Warehouse

MONEY = {
    "amount", "debits", "credits", "balance", "closing_debits", "closing_credits",
    "pending_debits", "pending_credits", "available", "placed", "captured", "released", "pending",
    "opening_balance", "closing_balance", "charged", "taken_back", "revenue",
}  # fmt: skip

EXACT = {"bigint", "boolean", "date", "decimal", "integer", "string", "timestamp"}
"""What a contract may promise: never DOUBLE or FLOAT, and no HUGEINT, which Parquet makes a DOUBLE."""


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return Warehouse(tmp_path_factory.mktemp("manifest")).manifest


def _models(manifest: Any, folder: str) -> list[Any]:
    return [
        node
        for node in manifest.nodes.values()
        if node.resource_type == "model" and Path(node.original_file_path).parts[1] == folder
    ]


def test_every_model_and_column_is_described(manifest: Any) -> None:
    every = [
        m for folder in ("staging", "intermediate", "marts") for m in _models(manifest, folder)
    ]
    assert [model.name for model in every if not model.description] == []
    assert [
        f"{model.name}.{column.name}"
        for model in _models(manifest, "marts")
        for column in model.columns.values()
        if not column.description
    ] == []
    assert [s.name for s in manifest.sources.values() if not s.description] == []


def test_every_mart_is_bound(manifest: Any) -> None:
    for mart in _models(manifest, "marts"):
        assert mart.config.contract.enforced, mart.name
        assert mart.schema == "marts", mart.name
        assert mart.config.meta["snapshot"] in {"general", "restricted"}, mart.name
        assert "last_seq" in mart.columns, mart.name
        kinds = {c.data_type.partition("(")[0] for c in mart.columns.values()}
        assert kinds <= EXACT, (mart.name, kinds)
        money = {c.data_type for c in mart.columns.values() if c.name in MONEY}
        assert money <= {"bigint", "decimal(38,0)"}, mart.name
        if money:
            assert {"currency"} <= set(mart.columns), mart.name
        grain = mart.config.meta["grain"]
        assert any(
            test.test_metadata.kwargs["columns"] == grain
            for test in manifest.nodes.values()
            if test.resource_type == "test"
            and test.test_metadata.name == "unique_grain"
            and test.attached_node == mart.unique_id
        ), mart.name


def test_what_compliance_sees_is_restricted(manifest: Any) -> None:
    restricted = {
        m.name for m in _models(manifest, "marts") if m.config.meta["snapshot"] == "restricted"
    }
    assert restricted == {"alert_candidates", "alert_candidate_entries", "ctr_candidates"}
    for mart in _models(manifest, "marts"):
        parents = {
            name.rsplit(".", maxsplit=1)[-1] for name in _ancestors(manifest, mart.unique_id)
        }
        if mart.name not in restricted:
            assert not parents & (restricted | {"int_alert_evidence"}), mart.name


def test_the_analysts_documentation_names_nothing_of_monitoring(
    manifest: Any, tmp_path: Path
) -> None:
    """Some of its models are made from general ones only; their names stay out all the same."""
    written = json.loads(json.dumps(manifest.writable_manifest().to_dict(), default=str))
    of_all = {one: {"columns": {}} for one in written["nodes"]}
    catalog = {"metadata": {}, "nodes": of_all, "sources": {}}
    page = 'load("MANIFEST.JSON INLINE DATA", "CATALOG.JSON INLINE DATA")'
    general, restricted = (
        catalogue.write_site(tmp_path, name, written, catalog, page).read_text().lower()
        for name in ("general", "restricted")
    )
    monitoring = [path.stem for path in (PROJECT / "models").rglob("monitoring/*.sql")]
    assert len(monitoring) > 8
    for word in (*monitoring, "structuring", "typology", "rule_parameters"):
        assert word in restricted, word
        assert word not in general, word
    for mart in _models(manifest, "marts"):
        assert (mart.unique_id in general) == (mart.config.meta["snapshot"] == "general"), mart.name
    assert "what was set aside, minor units" in general


def _ancestors(manifest: Any, unique_id: str) -> set[str]:
    parents = set(manifest.nodes[unique_id].depends_on.nodes)
    further = (_ancestors(manifest, each) for each in parents if each.startswith("model."))
    return parents | set(itertools.chain.from_iterable(further))


def test_layers_are_kept(manifest: Any) -> None:
    for folder in ("intermediate", "marts"):
        for model in _models(manifest, folder):
            sources = [name for name in model.depends_on.nodes if name.startswith("source.")]
            assert not sources, f"{model.name} reads the landing past staging"
    for model in _models(manifest, "staging"):
        assert all(name.startswith("source.") for name in model.depends_on.nodes), model.name
    packages = {
        macro.package_name
        for macro in manifest.macros.values()
        if macro.package_name != "tallystick"
    }
    assert packages <= {"dbt", "dbt_duckdb"}


def test_places_of_currencies_come_from_one_model(manifest: Any) -> None:
    for place in ("seed.tallystick.currencies", "model.tallystick.stg_currencies"):
        readers = {
            node.name
            for node in manifest.nodes.values()
            if node.resource_type == "model" and place in node.depends_on.nodes
        }
        assert readers == {"int_currencies"}, place


def test_every_mart_is_shown_somewhere(manifest: Any) -> None:
    shown = {name for exposure in manifest.exposures.values() for name in exposure.depends_on.nodes}
    assert {mart.unique_id for mart in _models(manifest, "marts")} == shown
