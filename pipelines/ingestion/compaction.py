"""Joins small files once there are many: a streaming run leaves one per table every few seconds.

The new file holds the rows of the old ones; the manifest names it in their place in one commit, and
the old ones go when no reader of this process needs them (`Landing.sweep`). Rows stand in the order
of `seq`, also those that came late (`rewriting`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import duckdb
import msgspec

from ledger_service.contract import failpoints
from pipelines.ingestion.manifest import DataFile, Landing
from pipelines.ingestion.typed import write_parquet

MANY_FILES = 50
"""Small ones of one table."""
LARGE_ROWS = 500_000
"""A joined file is no larger."""
SMALL_ROWS = LARGE_ROWS // 4
"""A file with more stays as it is: to write once more all that a catch-up landed would hold up what is
new."""


def compact(landing: Landing) -> int:
    """Join the small files of every source and table that has many; gives files joined."""
    manifest = landing.read()
    joined = 0
    for name, source in manifest.sources.items():
        joining = _Joining(landing, manifest.version)
        raw = joining.compact(f"raw/{name}", source.raw)
        typed = {
            table: joining.compact(f"typed/{table}/{name}", files)
            for table, files in source.typed.items()
        }
        count = joining.joined
        if count:
            joined += count
            changed = msgspec.structs.replace(source, raw=raw, typed=typed)
            failpoints.reach("compaction.before_commit")
            manifest = landing.commit(manifest.with_source(name, changed))
            failpoints.reach("compaction.after_commit")
    return joined


class _Joining:
    """The joining of one source's files under one version of the manifest, which names new ones."""

    def __init__(self, landing: Landing, version: int) -> None:
        self._landing = landing
        self._version = version
        self.joined = 0
        """Number of files that were joined."""

    def compact(self, folder: str, files: Sequence[DataFile]) -> list[DataFile]:
        """The files of one table, fewer where there are many; what is archived stays as it is."""
        result = [file for file in files if file.archived]
        here = [file for file in files if not file.archived]
        if sum(file.rows <= SMALL_ROWS for file in here) <= MANY_FILES:
            return list(files)
        for group in _groups(here):
            if len(group) == 1:
                result.append(group[0])
            else:
                result.append(self._join(folder, group))
                self.joined += len(group)
        return result

    def _join(self, folder: str, group: Sequence[DataFile]) -> DataFile:
        first, last = group[0].first_seq, max(file.last_seq for file in group)
        # By the version: a joined file may span the same events as one of those it replaces.
        path = f"{folder}/{first:012d}-{last:012d}-v{self._version}.parquet"
        files = [str(self._landing.local(file)) for file in group]
        query = (
            f"select * from read_parquet({files!r}, union_by_name = true) "
            "order by columns('^(seq|entry_no)$')"
        )
        with duckdb.connect(":memory:") as connection:
            write = functools.partial(write_parquet, connection, query)
            self._landing.add(path, write)
        return DataFile(path=path, first_seq=first, last_seq=last, rows=sum(f.rows for f in group))


def _groups(files: Sequence[DataFile]) -> list[list[DataFile]]:
    """Small neighbours that together stay below LARGE_ROWS."""
    groups: list[list[DataFile]] = []
    rows = LARGE_ROWS
    for file in files:
        stays = file.rows > SMALL_ROWS
        if stays or rows + file.rows > LARGE_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(file)
        rows = LARGE_ROWS if stays else rows + file.rows
    return groups
