"""What changed between two snapshots: rows by their grain, with the `seq` that caused it.

A part that both snapshots name holds the same rows in both and is not read; so the cost follows what
changed. DuckDB joins what remains within its memory limit, and spills beyond it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import duckdb

from ledger_service.contract.snapshots import Manifest, SnapshotName, held
from pipelines.publication.reading import QueryError, UnknownMartError, files_sql, locked, table_of
from pipelines.publication.tables import Table

SUMMARY = [
    ("mart", "VARCHAR"),
    ("added", "BIGINT"),
    ("removed", "BIGINT"),
    ("changed", "BIGINT"),
    ("first_seq", "BIGINT"),
    ("last_seq", "BIGINT"),
]


class GrainUnknownError(ValueError):
    """A snapshot was published before manifests said which columns name a row."""

    code = "grain_unknown"


class Difference:
    """Two snapshots of one name, opened together."""

    def __init__(
        self,
        before: Manifest,
        after: Manifest,
        connection: duckdb.DuckDBPyConnection,
        marts: list[str],
    ) -> None:
        self.before = before
        self.after = after
        self._connection = connection
        self._marts = marts

    def summary(self) -> Table:
        """How many rows of each mart that differs were added, removed and changed, and by which
        `seq`, from the first to the last of those that stand on the rows now.

        Errors: `GrainUnknownError`, `QueryError`.
        """
        return Table(SUMMARY, (self._count(mart) for mart in self._marts))

    def rows(self, mart: str) -> Table:
        """Every column that differs, a line each: what was done to the row, the columns that name
        it, its `last_seq`, the column, and its value before and after.

        Errors: `UnknownMartError`, `GrainUnknownError`, `QueryError`.
        """
        if mart not in self.before.marts and mart not in self.after.marts:
            have = sorted({*self.before.marts, *self.after.marts})
            raise UnknownMartError(f"Neither holds a mart {mart!r}; they hold {', '.join(have)}.")
        if mart not in self._marts:
            return Table([("change", "VARCHAR")], iter(()))
        grain = self._grain(mart)
        fields = ", ".join(
            f"{{'name': '{name}', 'before': cast({before} as varchar), "
            f"'after': cast({after} as varchar)}}"
            for name, before, after in self._compared(mart)
        )
        keys = ", ".join(f"coalesce(a.{name}, b.{name}) as {name}" for name in grain)
        return self._execute(
            "select * exclude (field), field.name as column_name, field.before, field.after "
            f"from (select {_CHANGE} as change, {keys}, {_SEQ} as caused_by_seq, "
            f"unnest(list_filter([{fields}], lambda one: one.before is distinct from one.after)) "
            f"as field {self._joined(mart)}) order by {', '.join(grain)}"
        )

    def _count(self, mart: str) -> tuple[str, int, int, int, int, int]:
        differs = " or ".join(
            f"{before} is distinct from {after}" for _, before, after in self._compared(mart)
        )
        found = self._execute(
            "select count(*) filter (where change = 'added'), "
            "count(*) filter (where change = 'removed'), "
            "count(*) filter (where change = 'changed'), min(seq), max(seq) from ("
            f"select {_CHANGE} as change, {_SEQ} as seq {self._joined(mart)} "
            f"where a.is_there is null or b.is_there is null or {differs or 'false'})"
        )
        return (mart, *next(found.rows))

    def _compared(self, mart: str) -> list[tuple[str, str, str]]:
        """The columns beside the grain: name, and SQL of the value before and after."""
        before, after = (
            [str(row[0]) for row in self._execute(f"describe {_view(side, mart)}").rows]
            for side in ("before", "after")
        )
        return [
            (
                name,
                f"b.{name}" if name in before else "null",
                f"a.{name}" if name in after else "null",
            )
            for name in dict.fromkeys([*after, *before])
            if name not in self._grain(mart)
        ]

    def _grain(self, mart: str) -> list[str]:
        grain = self.after.grain.get(mart) or self.before.grain.get(mart)
        if not grain:
            raise GrainUnknownError(
                f"{self.before.version} and {self.after.version} do not say which columns name a "
                f"row of {mart}: compare snapshots that were published since."
            )
        return grain

    def _joined(self, mart: str) -> str:
        same = " and ".join(f"a.{name} = b.{name}" for name in self._grain(mart))
        return (
            f"from (select *, true as is_there from {_view('after', mart)}) as a "
            f"full join (select *, true as is_there from {_view('before', mart)}) as b on {same}"
        )

    def _execute(self, sql: str) -> Table:
        try:
            return table_of(self._connection.cursor().execute(sql))
        except duckdb.Error as error:
            raise QueryError(str(error)) from None


_CHANGE = (
    "case when b.is_there is null then 'added' when a.is_there is null then 'removed' "
    "else 'changed' end"
)
_SEQ = "coalesce(a.last_seq, b.last_seq)"


@contextlib.contextmanager
def compared(snapshots: Path, name: SnapshotName, before: int, after: int) -> Iterator[Difference]:
    """Two versions of a snapshot, for as long as the block lasts. Errors: `NotPublishedError`."""
    with (
        held(snapshots, name, before) as earlier,
        held(snapshots, name, after) as later,
    ):
        folder, marts = snapshots / name, sorted({*earlier.marts, *later.marts})
        files = {
            mart: (_only(earlier, later, mart, folder), _only(later, earlier, mart, folder))
            for mart in marts
        }
        differing = {mart: both for mart, both in files.items() if any(both)}
        every = [path for both in differing.values() for paths in both for path in paths]
        with locked(every) as connection:
            for mart, (mine, others) in differing.items():
                connection.execute(f"create view {_view('before', mart)} as {_rows(mine, others)}")
                connection.execute(f"create view {_view('after', mart)} as {_rows(others, mine)}")
            yield Difference(earlier, later, connection, list(differing))


def _rows(files: list[Path], others: list[Path]) -> str:
    """SQL: the rows of `files`; where there are none, no rows in the columns of the others."""
    return f"from {files_sql(files)}" if files else f"from {files_sql(others)} where false"


def _only(one: Manifest, other: Manifest, mart: str, folder: Path) -> list[Path]:
    """Parts of a mart that only the first names."""
    named = {part.path for part in other.marts.get(mart, [])}
    return [folder / part.path for part in one.marts.get(mart, []) if part.path not in named]


def _view(side: str, mart: str) -> str:
    return f"{side}_{mart}"
