"""Reading one snapshot with SQL: a view for each mart, and nothing else within reach.

DuckDB may open the snapshot's own parts and no other file, no extension is loaded, no setting can be
changed, and only queries are taken. The snapshot is held: it stays whole while it is read, however
much is published meanwhile.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb

from ledger_service.contract.snapshots import Manifest, SnapshotName, held, part_paths
from pipelines.publication.tables import BATCH, Table

MEMORY_LIMIT = "2GB"
"""Of one reader; what needs more goes to a folder of its own, which ends with it."""
_QUERIES = {duckdb.StatementType.SELECT, duckdb.StatementType.MULTI}
"""What only reads: select, values, from, describe, show, summarize; MULTI is pivot."""


class QueryError(ValueError):
    """The text is no query that this snapshot can answer; the message is DuckDB's own."""

    code = "bad_query"


class NotAQueryError(ValueError):
    """A snapshot is read, never written: only queries are taken."""

    code = "not_a_query"


class UnknownMartError(LookupError):
    """The snapshot holds no such mart."""

    code = "unknown_mart"


class Reader:
    """One snapshot, opened. Not for several threads at a time."""

    def __init__(self, manifest: Manifest, connection: duckdb.DuckDBPyConnection) -> None:
        self.manifest = manifest
        self._connection = connection

    def query(self, sql: str, values: Mapping[str, Any] | None = None) -> Table:
        """Answer one query; `values` are those of its parameters, `$name` in the text.

        Errors: `NotAQueryError`, `QueryError`.
        """
        statements = _statements(sql)
        if len(statements) != 1:
            raise NotAQueryError(f"Give one query, not {len(statements)}.")
        return self._answer(statements[0], values)

    def queries(self, sql: str, values: Mapping[str, Any] | None = None) -> Iterator[Table]:
        """Answer queries one after the other; each is to be read before the next is asked for.

        Errors: `NotAQueryError`, `QueryError`.
        """
        for statement in _statements(sql):
            yield self._answer(statement, values)

    def _answer(self, statement: duckdb.Statement, values: Mapping[str, Any] | None) -> Table:
        if statement.type not in _QUERIES:
            raise NotAQueryError(
                f"{statement.type.name} is not taken: a snapshot is only read (select, from, "
                "describe, show, summarize, pivot)."
            )
        asked = {name: (values or {}).get(name) for name in statement.named_parameters}
        if missing := [f"${name}" for name in asked if name not in (values or {})]:
            raise QueryError(f"The query needs {', '.join(sorted(missing))}: give each a value.")
        try:
            return table_of(self._connection.execute(statement, asked or None))
        except duckdb.Error as error:
            raise QueryError(str(error)) from None

    def interrupt(self) -> None:
        """End the query that runs; from any thread."""
        with contextlib.suppress(duckdb.ConnectionException):  # closed meanwhile: nothing runs
            self._connection.interrupt()

    def mart(self, mart: str) -> Table:
        """All rows of a mart, in the order of its grain. Errors: `UnknownMartError`, `QueryError`."""
        if mart not in self.manifest.marts:
            raise UnknownMartError(
                f"{self.manifest.name} {self.manifest.version} holds no mart {mart!r}; it holds "
                f"{', '.join(sorted(self.manifest.marts))}."
            )
        grain = ", ".join(self.manifest.grain.get(mart, ["all"]))
        return self.query(f"select * from {mart} order by {grain}")


def split(sql: str) -> list[str]:
    """The statements of a text. Errors: `QueryError`."""
    return [statement.query for statement in _statements(sql)]


def _statements(sql: str) -> list[duckdb.Statement]:
    try:
        return duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise QueryError(str(error)) from None


@contextlib.contextmanager
def opened(
    snapshots: Path,
    name: SnapshotName,
    version: int | None = None,
    memory: str = MEMORY_LIMIT,
) -> Iterator[Reader]:
    """The current snapshot, or that of `version`, for as long as the block lasts.

    Errors: `NotPublishedError`.
    """
    with held(snapshots, name, version) as manifest:
        files = {mart: part_paths(snapshots, manifest, mart) for mart in manifest.marts}
        with locked([one for paths in files.values() for one in paths], memory) as connection:
            for mart, paths in files.items():
                connection.execute(f"create view {mart} as from {files_sql(paths)}")
            yield Reader(manifest, connection)


@contextlib.contextmanager
def locked(
    files: Sequence[Path], memory: str = MEMORY_LIMIT
) -> Iterator[duckdb.DuckDBPyConnection]:
    """DuckDB in memory that can open these files and no others, and keeps its settings."""
    with tempfile.TemporaryDirectory(prefix="tallystick-") as spill:
        connection = duckdb.connect(
            ":memory:",
            config={
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "memory_limit": memory,
                "python_enable_replacements": "false",
                "temp_directory": spill,
                "threads": "2",
            },
        )
        with connection:
            connection.execute("set timezone = 'UTC'")
            allowed = ", ".join(_quoted(path) for path in files)
            connection.execute(f"set allowed_paths = [{allowed}]")
            connection.execute("set enable_external_access = false")
            connection.execute("set lock_configuration = true")
            yield connection


def files_sql(paths: Sequence[Path]) -> str:
    """SQL: the rows of Parquet files."""
    return f"read_parquet([{', '.join(_quoted(path) for path in paths)}])"


def _quoted(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def table_of(connection: duckdb.DuckDBPyConnection) -> Table:
    """What the connection has just executed. Errors, when it is read: `QueryError`."""
    described = connection.description or []
    return Table([(str(name), str(kind)) for name, kind, *_ in described], _rows(connection))


def _rows(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[Any, ...]]:
    try:
        while rows := connection.fetchmany(BATCH):
            yield from rows
    except duckdb.Error as error:
        raise QueryError(str(error)) from None
