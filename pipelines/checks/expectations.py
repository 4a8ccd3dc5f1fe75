"""Runs the Great Expectations suites over windows of the marts, and keeps their Data Docs.

Its import alone takes many seconds, so all suites run in one step, and the streaming run gives that
step to a process of its own (`python -m pipelines.checks.expectations FRAMES WAREHOUSE`). It fails
closed: an expectation that raised, or was not evaluated, is a failed check. Each snapshot has its
own site, so that the general one shows nothing of the restricted marts.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from ledger_service.contract.snapshots import NAMES, SnapshotName
from pipelines.checks.declared import outcome
from pipelines.checks.suites import SUITES, Suite
from pipelines.ingestion.typed import write_parquet
from pipelines.publication.snapshot import Outcome

RESULTS = "results.json"
_KEPT_RUNS = 10
_LOOK_S = 0.2


def site(warehouse: Path, snapshot: SnapshotName) -> Path:
    """The folder of a snapshot's Data Docs; begin with its `index.html`."""
    return warehouse / ("data_docs" if snapshot == "general" else f"{snapshot}_data_docs")


def extract(connection: duckdb.DuckDBPyConnection, frames: Path) -> None:
    """Write the window of every suite to `frames`, for a process that can't open the warehouse."""
    frames.mkdir(parents=True, exist_ok=True)
    for suite in SUITES:
        write_parquet(connection, suite.window, frames / f"{suite.mart}.parquet")


def run(frames: Path, warehouse: Path, suites: Sequence[Suite] = SUITES) -> list[Outcome]:
    """Evaluate every suite over its extracted window; one result per suite.

    Their Data Docs are in `site`.
    """
    outcomes: list[Outcome] = []
    for snapshot in NAMES:
        mine = [suite for suite in suites if suite.snapshot == snapshot]
        try:
            outcomes += _run_site(
                mine, frames, warehouse / "expectations" / snapshot, site(warehouse, snapshot)
            )
        except Exception as failure:  # noqa: BLE001 - fails closed, whatever the library does
            detail = f"error, not evaluated: {type(failure).__name__}: {failure}"
            outcomes += [outcome(suite.check, detail) for suite in mine]
    return outcomes


def _run_site(suites: Sequence[Suite], frames: Path, project: Path, docs: Path) -> list[Outcome]:
    # Before the import: it decides there whether to phone home.
    os.environ["GX_ANALYTICS_ENABLED"] = "False"
    import great_expectations as gx
    import pandas as pd
    from great_expectations.data_context.types.base import ProgressBarsConfig

    project.mkdir(parents=True, exist_ok=True)
    context = gx.get_context(mode="file", project_root_dir=str(project))
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.update_data_docs_site("local_site", _site_at(docs))
    source = context.data_sources.add_or_update_pandas("marts")
    outcomes = []
    for suite in suites:
        expectations = [
            getattr(gx.expectations, kind)(**arguments) for kind, arguments in suite.expectations
        ]
        expected = gx.ExpectationSuite(name=suite.mart, expectations=expectations)
        definition = gx.ValidationDefinition(
            name=suite.mart,
            data=source.add_dataframe_asset(suite.mart).add_batch_definition_whole_dataframe(
                "window"
            ),
            suite=context.suites.add_or_update(expected),
        )
        definition = context.validation_definitions.add_or_update(definition)
        frame = pd.read_parquet(frames / f"{suite.mart}.parquet", dtype_backend="numpy_nullable")
        result = definition.run(batch_parameters={"dataframe": frame})
        outcomes.append(_judge(suite, result))
    _keep_recent(project / "gx" / "uncommitted" / "validations")
    context.build_data_docs()
    return outcomes


def _site_at(folder: Path) -> Any:
    return {
        "class_name": "SiteBuilder",
        "show_how_to_buttons": False,
        "store_backend": {
            "class_name": "TupleFilesystemStoreBackend",
            "base_directory": str(folder),
        },
        "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
    }


def _judge(suite: Suite, result: Any) -> Outcome:
    """Passed only if every expectation was evaluated, raised nothing and holds."""
    problems = []
    for one in result.results:
        name = one.expectation_config.type
        column = one.expectation_config.kwargs.get("column", "")
        if _raised(one.exception_info):
            problems.append(f"{name} {column}: error, not evaluated".strip())
        elif not one.success:
            problems.append(f"{name} {column}: does not hold".strip())
    evaluated = result.statistics["evaluated_expectations"]
    if evaluated != len(suite.expectations):
        problems.append(f"{evaluated} of {len(suite.expectations)} expectations evaluated")
    if not result.success and not problems:
        problems.append("the suite failed without saying where")
    figures = {"expected": len(suite.expectations), "evaluated": evaluated}
    return outcome(suite.check, "; ".join(problems[:5]), figures)


def _raised(info: Any) -> bool:
    """Whether an expectation raised: one record, or one per metric."""
    if not isinstance(info, dict):
        return False
    if "raised_exception" in info:
        return bool(info["raised_exception"])
    return any(_raised(one) for one in info.values())


def _keep_recent(validations: Path) -> None:
    for suite in validations.glob("*"):
        runs = sorted(
            (path for path in suite.rglob("*.json")), key=lambda path: path.stat().st_mtime
        )
        for path in runs[:-_KEPT_RUNS]:
            shutil.rmtree(path.parent, ignore_errors=True)


def main() -> None:
    """Evaluate the frames in the first argument; the results go beside them."""
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    frames, warehouse = (Path(argument) for argument in sys.argv[1:3])
    outcomes = run(frames, warehouse)
    (frames / RESULTS).write_bytes(msgspec.json.encode(outcomes))


def _end_with(parent: int) -> None:
    """What outlived its run would write among the frames and pages of the next one."""
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    os._exit(1)


def read_results(frames: Path) -> list[Outcome]:
    """What a finished process found; where it left nothing, every suite has failed."""
    try:
        return msgspec.json.decode((frames / RESULTS).read_bytes(), type=list[Outcome])
    except (FileNotFoundError, msgspec.DecodeError):
        detail = "error, not evaluated: the process of the expectations ended without results"
        return [outcome(suite.check, detail) for suite in SUITES]


if __name__ == "__main__":
    main()
