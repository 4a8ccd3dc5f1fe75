"""A mart as immutable Parquet parts, each named by what is in it.

The content hash is of the rows, whatever their order and whatever wrote the file: a part whose rows
are those of the last publication is not written again. The sum and the exclusive or of the rows'
hashes stand for the set of rows; they guard against accident and waste, not against an attacker.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import os
from pathlib import Path

import duckdb

from ledger_service.contract import failpoints
from ledger_service.contract.snapshots import Part, SnapshotName
from pipelines.ingestion.typed import write_parquet

PART_EVENTS = 250_000
"""Events of a ledger that share a part of a mart that grows with the journal."""
_NOT_MONEY = ("DOUBLE", "FLOAT", "HUGEINT", "UHUGEINT")
_Mark = tuple[int, ...]


class MartTypeError(TypeError):
    """A mart has a column that can't be published, e.g. money as DOUBLE."""


@dataclasses.dataclass(frozen=True)
class Mart:
    """A published mart: which snapshot holds it, and the columns that name a row.

    A row that becomes another gets another `last_seq`, or another value in one of `changing`.
    """

    name: str
    snapshot: SnapshotName
    grain: tuple[str, ...]
    changing: tuple[str, ...] = ()
    monthly: str = ""
    """The date by whose month it has parts, where it grows by days and not by `seq`."""

    @property
    def divided_by(self) -> str:
        """SQL: the first `seq`, or the first day, of what shares a part; empty for one part of all."""
        if self.grain[:2] == ("ledger", "seq"):
            return f"seq // {PART_EVENTS} * {PART_EVENTS}"
        return f"cast(date_trunc('month', {self.monthly}) as date)" if self.monthly else ""

    def condition(self, ledger: str, first: int | dt.date) -> str:
        """SQL: whether a row is in the part of a ledger that begins with `first`."""
        name = ledger.replace("'", "''")
        if isinstance(first, dt.date):
            month = f"date '{first}'"
            span = f"{self.monthly} >= {month} and {self.monthly} < {month} + interval 1 month"
        else:
            span = f"seq >= {first} and seq < {first + PART_EVENTS}"
        return f"ledger = '{name}' and {span}"


class KnownParts:
    """What each part held when it was looked at last: by far the most have not changed since.

    A part is looked at again, row by row, when the number of its rows, what they say of `last_seq` or
    their `changing` columns are others. Good for one warehouse that is only built on.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[_Mark, Part]] = {}

    def forget(self) -> None:
        """The marts were built anew."""
        self._known.clear()

    def get(self, mart: Mart, rows: str, mark: _Mark) -> Part | None:
        """The part of these rows, if they are as they were."""
        known, part = self._known.get((mart.name, rows), (None, None))
        return part if mark == known else None

    def set(self, mart: Mart, rows: str, mark: _Mark, part: Part) -> None:
        """These rows are in `part`."""
        self._known[mart.name, rows] = (mark, part)


def write_parts(
    connection: duckdb.DuckDBPyConnection, mart: Mart, folder: Path, known: KnownParts
) -> list[Part]:
    """Write the parts of `mart` that are not in `folder` yet; gives all of them, in order.

    Errors: `MartTypeError`.
    """
    table = f"marts.{mart.name}"
    schema = _schema(connection, table)
    parts = []
    for rows, mark in _marks(connection, mart) if mart.divided_by else [("true", None)]:
        part = known.get(mart, rows, mark) if mark else None
        if part is None:
            count, content_hash = _content(connection, table, schema, rows)
            part = Part(f"parts/{mart.name}-{content_hash}.parquet", count, content_hash)
            if mark:
                known.set(mart, rows, mark, part)
        if not (folder / part.path).exists():
            query = f"select * from {table} where {rows} order by {', '.join(mart.grain)}"
            _write(connection, query, folder / part.path)
        parts.append(part)
    return parts


def _marks(connection: duckdb.DuckDBPyConnection, mart: Mart) -> list[tuple[str, _Mark | None]]:
    """Conditions that name the rows of each part, and what changes whenever they do."""
    changing = ", ".join(("last_seq", *mart.changing))
    found = connection.execute(
        f"select ledger, {mart.divided_by} as first, "
        f"count(*), sum(hash({changing})), bit_xor(hash({changing})) "
        f"from marts.{mart.name} group by ledger, first order by ledger, first"
    ).fetchall()
    marks: list[tuple[str, _Mark | None]] = [
        (mart.condition(ledger, first), tuple(mark)) for ledger, first, *mark in found
    ]
    return marks or [("true", None)]


def _write(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """A draft, then a rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    failpoints.reach("part.before_write")
    draft = path.with_suffix(".draft")
    write_parquet(connection, query, draft)
    with draft.open("rb+") as file:
        os.fsync(file.fileno())
    failpoints.reach("part.before_name")
    draft.replace(path)
    failpoints.reach("part.after_name")


def content_of(connection: duckdb.DuckDBPyConnection, table: str) -> tuple[int, str]:
    """Number of rows and content hash of a table. Errors: `MartTypeError`."""
    return _content(connection, table, _schema(connection, table), "true")


def _content(
    connection: duckdb.DuckDBPyConnection, table: str, schema: list[tuple[str, str]], rows: str
) -> tuple[int, str]:
    columns = ", ".join(f'"{name}"' for name, _ in schema)
    # hash() is UBIGINT and its sum HUGEINT: exact. The sum of UHUGEINTs would be a DOUBLE.
    ((count, total, mixed),) = connection.execute(
        "select count(*), coalesce(sum(h), 0), coalesce(bit_xor(h), 0) "
        f"from (select hash({columns}) as h from {table} where {rows})"
    ).fetchall()
    return int(count), _digest(f"{schema}|{count}|{total}|{mixed}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _schema(connection: duckdb.DuckDBPyConnection, table: str) -> list[tuple[str, str]]:
    described = connection.execute(f"describe select * from {table}").fetchall()
    schema = [(str(row[0]), str(row[1])) for row in described]
    wrong = [f"{name} {kind}" for name, kind in schema if kind.startswith(_NOT_MONEY)]
    if wrong:
        raise MartTypeError(
            f"{table} has {', '.join(wrong)}: readers would take it as a float. Cast it "
            "to BIGINT or DECIMAL(38,0) in the model."
        )
    return schema
