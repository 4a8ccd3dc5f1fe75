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
    """Let schema `landing` show exactly what the manifest names now: all tables, empty or not.

    Its table `shown` says which rewriting of each source that is.
    """
    manifest = landing.read()
    connection.execute("create schema if not exists landing")
    for table in TABLES:
        parts = [_nothing(table)]
        for name, source in manifest.sources.items():
            if files := [str(landing.local(file)) for file in source.typed.get(table.name, [])]:
                # The source is written out, so that a condition on it and on `seq` becomes one on
                # `seq` alone, by which files and their parts are left out unread. By name: a file
                # that was written before a column existed has NULL there, though all were.
                parts.append(
                    f"select * replace ('{name}' as {table.columns[0][0]}) "
                    f"from read_parquet({files!r}, union_by_name = true)"
                )
        query = " union all by name ".join(parts)
        connection.execute(f"create or replace view landing.{table.name} as {query}")
    connection.execute("create or replace table landing.shown (source varchar, rewritten bigint)")
    for name, source in manifest.sources.items():
        connection.execute("insert into landing.shown values (?, ?)", [name, source.rewritten])


def is_rewritten(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether the landing shows rows behind the `seq` that the marts were built up to."""
    connection.execute("create table if not exists landing.built as from landing.shown limit 0")
    found = connection.execute(
        "select count(*) from landing.shown left join landing.built using (source) "
        "where shown.rewritten <> coalesce(built.rewritten, 0)"
    ).fetchone()
    return found is not None and found[0] > 0


def note_built(connection: duckdb.DuckDBPyConnection) -> None:
    """The marts are built from all that the landing shows."""
    connection.execute("create or replace table landing.built as from landing.shown")


def _nothing(table: Table) -> str:
    columns = ", ".join(f"cast(null as {kind}) as {name}" for name, kind in table.columns)
    return f"select {columns} where false"
