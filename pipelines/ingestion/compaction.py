"""Joins small files once there are many: a streaming run leaves one per table every few seconds.

The new file holds the rows of the old ones; the manifest names it in their place in one commit, and
the old ones go when no reader of this process needs them (`Landing.sweep`).
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import msgspec

from pipelines.ingestion.manifest import DataFile, Landing
from pipelines.ingestion.typed import write_parquet

MANY_FILES = 50
LARGE_ROWS = 500_000
"""A file of this size stays as it is, and a joined one begins no larger."""


def compact(landing: Landing) -> int:
    """Join the small files of every source and table that has many; gives files joined."""
    manifest = landing.read()
    joined = 0
    for name, source in manifest.sources.items():
        raw, count = _compact_files(landing, f"raw/{name}", source.raw)
        typed = {}
        for table, files in source.typed.items():
            typed[table], more = _compact_files(landing, f"typed/{table}/{name}", files)
            count += more
        if count:
            joined += count
            changed = msgspec.structs.replace(source, raw=raw, typed=typed)
            manifest = landing.commit(manifest.with_source(name, changed))
    return joined


def _compact_files(
    landing: Landing, folder: str, files: Sequence[DataFile]
) -> tuple[list[DataFile], int]:
    if len(files) <= MANY_FILES:
        return list(files), 0
    result: list[DataFile] = []
    joined = 0
    for group in _groups(files):
        if len(group) == 1:
            result.append(group[0])
        else:
            result.append(_join(landing, folder, group))
            joined += len(group)
    return result, joined


def _groups(files: Sequence[DataFile]) -> list[list[DataFile]]:
    """Neighbours that together stay below LARGE_ROWS."""
    groups: list[list[DataFile]] = []
    rows = LARGE_ROWS
    for file in files:
        if rows + file.rows > LARGE_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(file)
        rows += file.rows
    return groups


def _join(landing: Landing, folder: str, group: Sequence[DataFile]) -> DataFile:
    first, last = group[0].first_seq, group[-1].last_seq
    path = f"{folder}/{first:012d}-{last:012d}.parquet"
    paths = [str(landing.root / file.path) for file in group]
    with duckdb.connect(":memory:") as connection:
        query = f"select * from read_parquet({paths!r}, union_by_name = true)"
        write_parquet(connection, query, landing.root / path)
    return DataFile(path=path, first_seq=first, last_seq=last, rows=sum(f.rows for f in group))
