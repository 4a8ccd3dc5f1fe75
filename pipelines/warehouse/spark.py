"""The marts on a cluster: the same project and landing, with Spark in DuckDB's place.

Which cluster, and where its catalog `lake` keeps the tables, is Spark's own configuration
(docs/distributed.md).
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence

from sqlglot import exp

from ledger_service.contract.snapshots import write_atomically
from pipelines.ingestion.manifest import Landing
from pipelines.ingestion.tables import TABLES, Table
from pipelines.places import Places
from pipelines.warehouse.dbt import SPARK, Dbt, DbtError


def shown(table: Table, folder: str, files: Sequence[str]) -> dict[str, str]:
    """What `show_landing` takes of a table: its columns, and its files as one pattern.

    `folder` may be an address of object storage; `files` are paths in it.
    """
    columns = ", ".join(f"{name} {_type(kind)}" for name, kind in table.columns)
    pattern = f"{folder}/{{{','.join(files)}}}" if files else ""
    return {"columns": columns, "files": pattern}


def _type(kind: str) -> str:
    return exp.DataType.build(kind, dialect="duckdb").sql("spark")


class SparkMarts:
    """The marts on Spark; their catalog, not this machine, holds them."""

    def __init__(self, places: Places) -> None:
        if importlib.util.find_spec("dbt.adapters.spark") is None:
            raise DbtError("Spark is not installed: `make distributed` installs it.")
        self._folder = places.landing
        self._landing = Landing.at(places.landing, places.cache, places.archive)
        self._dbt = Dbt(places, SPARK)
        self._built = places.warehouse / "spark-built.json"
        """Which rewriting of each source the marts were built from."""

    def build(self, *, full_refresh: bool = False) -> dict[str, int]:
        """Bring the marts up to what the landing's manifest names; gives `seq` per source.

        Where rows came behind what the marts have, all is built anew. Errors: `DbtError`.
        """
        manifest = self._landing.read()
        files = {table.name: manifest.typed_files(table.name) for table in TABLES}
        self._dbt.operate(
            "show_landing",
            tables={
                table.name: shown(table, self._folder, [file.path for file in files[table.name]])
                for table in TABLES
            },
        )
        rewritten = {name: source.rewritten for name, source in manifest.sources.items()}
        self._dbt.run(full_refresh=full_refresh or self._is_behind(rewritten))
        write_atomically(self._built, json.dumps(rewritten).encode())
        return {name: source.typed_seq for name, source in manifest.sources.items()}

    def test(self) -> None:
        """Run the data tests. Errors: `DbtError`."""
        self._dbt.test()

    def _is_behind(self, rewritten: dict[str, int]) -> bool:
        if not self._built.exists():
            return True
        built = json.loads(self._built.read_bytes())
        return any(rewriting != built.get(name, 0) for name, rewriting in rewritten.items())
