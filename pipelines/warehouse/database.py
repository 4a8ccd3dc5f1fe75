"""The warehouse's file, and the landing as dbt sees it: views over the files the manifest names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from pipelines.ingestion.manifest import Landing
from pipelines.ingestion.tables import TABLES, Table


@contextlib.contextmanager
def opened(file: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, open while the block runs.

    Never at the same time as dbt, not even in this process: DuckDB refuses two connections to one
    file with different settings.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(str(file))
    try:
        yield connection
    finally:
        connection.close()


def make_landing_views(connection: duckdb.DuckDBPyConnection, landing: Landing) -> None:
    """Let schema `landing` show exactly what the manifest names now: all tables, empty or not."""
    manifest = landing.read()
    connection.execute("create schema if not exists landing")
    for table in TABLES:
        files = [str(landing.root / file.path) for file in manifest.typed_files(table.name)]
        query = _nothing(table)
        if files:
            # By name: a file that was written before a column existed has NULL there, though all were.
            landed = f"select * from read_parquet({files!r}, union_by_name = true)"
            query = f"{query} union all by name {landed}"
        connection.execute(f"create or replace view landing.{table.name} as {query}")


def _nothing(table: Table) -> str:
    columns = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in table.columns)
    return f"select {columns} where false"
