"""Marts made by hand, and the snapshots published from them: no ledger, no Kafka, no dbt."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

from pipelines.publication import snapshot
from pipelines.publication.parts import KnownParts, Mart

MARTS = [
    Mart("entries", "general", ("ledger", "seq", "entry_no")),
    Mart("balances", "general", ("account",)),
    Mart("build", "general", ("ledger_or_stream",)),
    Mart("alerts", "restricted", ("alert",)),
]
BIG = 2**62
TABLES = f"""
    create schema marts;
    create table marts.entries as from (values
        ('main', 1::bigint, 0, 'cash', {BIG}::bigint, date '2026-07-01', 'rent', 1::bigint),
        ('main', 1, 1, '=1+1', {BIG}, date '2026-07-01', 'a "b", c', 1),
        ('main', 250001, 0, 'cash', 5, date '2026-07-02', null, 250001)
    ) as t (ledger, seq, entry_no, account, amount, effective_date, note, last_seq);
    create table marts.balances as from (values
        ('cash', {2 * BIG}::decimal(38, 0), timestamp '2026-07-01 12:00:00.000001', true, 1::bigint),
        ('+fees', -5, null, false, 1)
    ) as t (account, balance, moment, own, last_seq);
    create table marts.build as from (values ('main', 250001::bigint, 250001::bigint))
        as t (ledger_or_stream, as_of_seq, last_seq);
    create table marts.alerts as from (values ('someone structured', 1::bigint))
        as t (alert, last_seq);
"""


class Warehouse:
    """Marts made by hand, and the snapshots published from them."""

    def __init__(self, folder: Path) -> None:
        self.snapshots = folder / "snapshots"
        self.connection = duckdb.connect()
        self.connection.execute(TABLES)

    def publish(self, change: str = "") -> int:
        if change:
            self.connection.execute(change)
        found = snapshot.publish(
            self.connection, self.snapshots, MARTS, [], code_version="test", known=KnownParts()
        )
        return found["general"].version

    def kept(self, name: str = "general") -> list[int]:
        return sorted(int(p.stem) for p in (self.snapshots / name / "manifests").glob("*.json"))


@pytest.fixture
def warehouse(tmp_path, monkeypatch):
    monkeypatch.setenv("TALLYSTICK_SNAPSHOTS", str(tmp_path / "snapshots"))
    monkeypatch.setenv("TALLYSTICK_HOME", str(tmp_path))
    one = Warehouse(tmp_path)
    one.publish()
    return one
