"""The dbt project as assets: one translator for names, groups and owners."""

import functools
import json
import os
import shutil
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DbtCliResource, dbt_assets

from pipelines.places import Places
from pipelines.resources import FOLLOWS, NIGHTLY, OWNER, POOL, Warehouse
from pipelines.warehouse.dbt import PROJECT, Dbt, environment_of, release, variables
from pipelines.warehouse.version import code_version

_COUNTS = frozenset({"dagster/row_count", "dagster_dbt/failed_row_count"})


class Translator(DagsterDbtTranslator):
    """Keys are schema and name, as in the warehouse; the group is the schema.

    A model's `meta` says whether it follows what it is made of (`automation: eager`).
    """

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        """`marts/entries`; sources are the landing's assets."""
        return dg.AssetKey([dbt_resource_props["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str:
        """staging, intermediate, marts or seeds."""
        return dbt_resource_props["schema"]

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        """One team so far."""
        del dbt_resource_props
        return [OWNER]

    def get_automation_condition(
        self, dbt_resource_props: Mapping[str, Any]
    ) -> dg.AutomationCondition | None:
        """FOLLOWS for what is eager."""
        return FOLLOWS if _meta(dbt_resource_props).get("automation") == "eager" else None

    def get_asset_spec(self, manifest: Any, unique_id: str, project: Any) -> dg.AssetSpec:
        """Marts are to be made every night."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        policy = NIGHTLY if spec.group_name == "marts" else None
        return spec.replace_attributes(freshness_policy=policy)


def _meta(props: Mapping[str, Any]) -> Mapping[str, Any]:
    return props.get("config", {}).get("meta") or {}


def restricted_models(manifest: Mapping[str, Any]) -> set[dg.AssetKey]:
    """What only compliance may know of: restricted marts and the rules that make them."""
    return {
        dg.AssetKey([node["schema"], node["name"]])
        for node in manifest["nodes"].values()
        if "typology" in node["tags"] or _meta(node).get("snapshot") == "restricted"
    }


def without_counts(event: Any) -> Any:
    """A step's event without the numbers of rows in it: everybody who sees Dagster's pages sees it."""
    return event.with_metadata({k: v for k, v in event.metadata.items() if k not in _COUNTS})


@functools.cache
def prepared_manifest() -> Path:
    """dbt's manifest of the project as it is now, parsed once per version of its files."""
    folder = Places.from_settings().warehouse / "dbt"
    kept = folder / f"manifest-{code_version().rpartition('+')[2]}.json"
    if not kept.exists():
        Dbt(Places.from_settings()).parse()
        draft = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(folder / "target" / "manifest.json", draft)
        draft.replace(kept)
    return kept


def dbt_resource() -> DbtCliResource:
    """dbt as a process of its own, for builds with all tests."""
    # The one of this installation, whether or not its folder is on the PATH.
    executable = Path(sysconfig.get_path("scripts")) / "dbt"
    return DbtCliResource(
        project_dir=str(PROJECT), profiles_dir=str(PROJECT), dbt_executable=str(executable)
    )


@dbt_assets(
    manifest=prepared_manifest(),
    dagster_dbt_translator=Translator(),
    name="dbt_models",
    pool=POOL,
)
def dbt_models(
    context: dg.AssetExecutionContext, dbt: DbtCliResource, warehouse: Warehouse
) -> Iterator[Any]:
    """Seeds, models and all their tests; a failed test fails the step, and nothing is published."""
    with warehouse.flow() as flow:
        flow.recover()
        os.environ.update(environment_of(flow.places))
        refresh = ["--full-refresh"] if flow.is_rewritten() else []
        command = ["build", "--vars", json.dumps(variables()), *refresh]
        invocation = dbt.cli(
            command, context=context, target_path=flow.places.warehouse / "dbt" / "builds"
        )
        try:
            events = invocation.stream().fetch_column_metadata()
            hidden = restricted_models(invocation.manifest)
            for event in events:
                if isinstance(event, dg.Output):
                    key = context.asset_key_for_output(event.output_name)
                else:
                    key = event.asset_key
                yield without_counts(event) if key in hidden else event
        finally:
            release(invocation.adapter)
        flow.note_built()
