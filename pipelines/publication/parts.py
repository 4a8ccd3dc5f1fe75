"""A mart as immutable Parquet parts, each named by what is in it.

The content hash is of the rows, whatever their order and whatever wrote the file: a part whose rows
are those of the last publication is not written again. The sum and the exclusive or of the rows'
hashes stand for the set of rows; they guard against accident and waste, not against an attacker.
"""

from __future__ import annotations

import dataclasses
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


class MartTypeError(TypeError):
    """A mart has a column that can't be published, e.g. money as DOUBLE."""


@dataclasses.dataclass(frozen=True)
class Mart:
    """A published mart: which snapshot holds it, and the columns that name a row."""

    name: str
    snapshot: SnapshotName
    grain: tuple[str, ...]

    @property
    def bucket(self) -> str:
        """SQL: which part a row belongs to."""
        if self.grain[:2] == ("ledger", "seq"):
            return f"ledger || '/' || (seq // {PART_EVENTS})"
        return "'all'"


def write_parts(connection: duckdb.DuckDBPyConnection, mart: Mart, folder: Path) -> list[Part]:
    """Write the parts of `mart` that are not in `folder` yet; gives all of them, in order.

    Errors: `MartTypeError`.
    """
    parts = []
    for bucket, rows, content_hash in contents(connection, f"marts.{mart.name}", mart.bucket):
        part = Part(f"parts/{mart.name}-{content_hash}.parquet", rows, content_hash)
        if not (folder / part.path).exists():
            label = bucket.replace("'", "''")
            where = f"where {mart.bucket} = '{label}'"
            order = ", ".join(mart.grain)
            query = f"select * from marts.{mart.name} {where} order by {order}"
            _write(connection, query, folder / part.path)
        parts.append(part)
    return parts


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


def contents(
    connection: duckdb.DuckDBPyConnection, table: str, bucket: str = "'all'"
) -> list[tuple[str, int, str]]:
    """Bucket, number of rows and content hash, per bucket of `table`; one where it is empty.

    Errors: `MartTypeError`.
    """
    schema = _schema(connection, table)
    columns = ", ".join(f'"{name}"' for name, _ in schema)
    # hash() is UBIGINT and its sum HUGEINT: exact. The sum of UHUGEINTs would be a DOUBLE.
    found = connection.execute(
        "select bucket, count(*), sum(h), bit_xor(h) from ("
        f"select {bucket} as bucket, hash({columns}) as h from {table}) "
        "group by bucket order by bucket"
    ).fetchall()
    return [
        (str(name), int(rows), _digest(f"{schema}|{rows}|{total}|{mixed}"))
        for name, rows, total, mixed in found or [("all", 0, 0, 0)]
    ]


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
