"""dbt in this process, kept warm: the first run parses the project, later ones take its manifest.

A dbt process of its own needs seconds to start; a warm run needs a fraction of one. Variables that
change with every run (`build_at`) would spoil dbt's own cache of parsed files, so parsing is a step
without them.
"""

from __future__ import annotations

import datetime as dt
import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ledger_service.contract import snapshots
from ledger_service.contract.snapshots import SnapshotName
from pipelines.places import Places
from pipelines.publication.parts import Mart
from pipelines.warehouse.version import code_version

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

PROJECT = Path(__file__).parents[2] / "dbt_project"
DUCKDB, SPARK = "duckdb", "spark"
"""Targets of the project's profile."""
UNCHANGING = ("config.materialized:view", "tag:steady")
"""What a run on a warehouse that was built before leaves out: views show what is new by themselves,
and steady tables hold no facts."""
RULES = "tag:typology"
"""The models that only `restricted` needs; what `general` holds is made of none of them."""
QUIET = ("--quiet", "--log-level-file", "none")
"""Logging every statement to a file takes a good part of a small run's time."""


class DbtError(RuntimeError):
    """A model, seed or test failed; the message names each with dbt's own words."""


def environment_of(places: Places) -> dict[str, str]:
    """What the dbt project's profile reads from the environment."""
    return {
        "TALLYSTICK_WAREHOUSE_FILE": str(places.warehouse_file),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def variables() -> dict[str, str]:
    """Variables of one run of the project."""
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
    return {"build_at": now, "code_version": code_version()}


def arguments(places: Places, target: str = DUCKDB) -> list[str]:
    """Where the project is and where dbt writes: nothing inside the project's own folder."""
    folder = places.warehouse / ("dbt" if target == DUCKDB else f"dbt-{target}")
    return [
        "--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT), "--target", target,
        "--target-path", str(folder / "target"), "--log-path", str(folder / "logs"),
    ]  # fmt: skip


class Dbt:
    """The project in this process; the caller holds the lock and has closed the file."""

    def __init__(self, places: Places, target: str = DUCKDB) -> None:
        self._places = places
        self._target = target
        self._manifest: Manifest | None = None
        self._prepared: set[SnapshotName] = set()
        """The snapshots whose seeds and views are in the warehouse as this project has them."""
        self._compared: set[SnapshotName] = set()
        """The snapshots whose increments have been compared with their contracts in this process."""

    def parse(self) -> Manifest:
        """Read the project, or give what was read before. Needs no warehouse."""
        if self._manifest is not None:
            return self._manifest
        manifest: Manifest = self._invoke(["parse"])
        self._manifest = manifest
        return manifest

    def run(
        self, names: Sequence[SnapshotName] = snapshots.NAMES, *, full_refresh: bool = False
    ) -> None:
        """Bring the models that these snapshots need up to what has landed. Errors: `DbtError`.

        `restricted` by itself is made of `general` as it stands.
        """
        is_prepared = self._prepared.issuperset(names)
        # A first build, and one from nothing, asks other questions than an increment does.
        is_increment = is_prepared and not full_refresh
        compared = is_increment and self._compared.issuperset(names)
        run = ["--vars", json.dumps(variables() | {"contracts_compared": compared})]
        if not self._prepared:
            self._invoke(["seed", *run])
        select = [] if "general" in names else ["--select", RULES]
        left_out = [] if "restricted" in names or select else [RULES]
        if is_prepared:
            left_out += UNCHANGING
        exclude = ["--exclude", *left_out] if left_out else []
        refresh = ["--full-refresh"] if full_refresh else []
        self._invoke(["run", *run, *refresh, *select, *exclude])
        self._prepared.update(names)
        if is_increment:
            self._compared.update(names)

    def operate(self, macro: str, **values: Any) -> None:
        """Call a macro by itself. Errors: `DbtError`."""
        self._invoke(["run-operation", macro, "--args", json.dumps(values)])

    def forget_warehouse(self) -> None:
        """The warehouse was dropped: seeds and views are to be made again."""
        self._prepared.clear()

    def test(self) -> None:
        """Run the data tests. Errors: `DbtError`."""
        self._invoke(["test", "--vars", json.dumps(variables())])

    def document(self) -> tuple[dict[str, Any], dict[str, Any], str]:
        """dbt's manifest and catalogue of the warehouse as it stands, and its page with places for
        both. Errors: `DbtError`.
        """
        from dbt.task.docs import DOCS_INDEX_FILE_PATH

        self._invoke(["docs", "generate", "--vars", json.dumps(variables())])
        target = self._places.warehouse / "dbt" / "target"
        manifest, catalog = (
            json.loads((target / f"{name}.json").read_bytes()) for name in ("manifest", "catalog")
        )
        return manifest, catalog, Path(DOCS_INDEX_FILE_PATH).read_text()

    def _invoke(self, command: Sequence[str]) -> Any:
        from dbt.cli.main import dbtRunner

        os.environ.update(environment_of(self._places))
        self._places.warehouse.mkdir(parents=True, exist_ok=True)
        runner = dbtRunner(manifest=self._manifest)
        # A run's artefacts, which nobody reads, take time as the log of statements does.
        written = [] if command[0] in ("parse", "docs") else ["--no-write-json"]
        outcome = runner.invoke(
            [*command, *QUIET, *written, *arguments(self._places, self._target)]
        )
        if outcome.exception is not None:
            raise DbtError(f"dbt {command[0]}: {outcome.exception}") from outcome.exception
        if not outcome.success:
            raise DbtError(f"dbt {command[0]}: {_failures(outcome.result)}")
        return outcome.result


def published_marts(manifest: Manifest) -> list[Mart]:
    """The models whose `meta` names a snapshot and what else `Mart` says of them.

    Errors: `DbtError` for a model that names a snapshot but no grain.
    """
    marts = []
    for node in manifest.nodes.values():
        meta = node.config.meta or {}
        if node.resource_type != "model" or "snapshot" not in meta:
            continue
        if meta["snapshot"] not in snapshots.NAMES or not meta.get("grain"):
            raise DbtError(f"{node.name}: meta needs snapshot (general, restricted) and grain")
        marts.append(
            Mart(
                node.name,
                meta["snapshot"],
                tuple(meta["grain"]),
                changing=tuple(meta.get("changing", ())),
                monthly=meta.get("monthly", ""),
            )
        )
    return sorted(marts, key=lambda mart: mart.name)


def release(adapter: Any) -> None:
    """Close the warehouse where dagster-dbt left it open in this process (for column metadata)."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager

    if adapter is not None:
        adapter.cleanup_connections()
    DuckDBConnectionManager.close_all_connections()
    # The connection closes when nothing refers to it any more; DuckDB allows no second one before.
    gc.collect()


def _failures(result: Any) -> str:
    failed = [one for one in result.results if one.status not in ("success", "pass", "skipped")]
    return "; ".join(f"{one.node.name}: {one.status}: {_message(one)}" for one in failed)


def _message(one: Any) -> str:
    """dbt's words, but of the rules none: they may quote a row, and runs are seen by analysts."""
    if "typology" not in one.node.tags:
        return one.message
    return f"its message is withheld here; `dbt run --select {one.node.name}` shows it"
