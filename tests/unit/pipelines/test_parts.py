"""A mart's parts: only those are looked at again, and written, whose rows have changed."""

from __future__ import annotations

import duckdb
import pytest

from pipelines.publication import parts
from pipelines.publication.parts import KnownParts, Mart, content_of, write_parts

ENTRIES = Mart("entries", "general", ("ledger", "seq"), changing=("status",))
BALANCES = Mart("balances", "general", ("ledger", "day"), monthly="day")
FIRST, SECOND = 7, parts.PART_EVENTS + 7


@pytest.fixture
def marts():
    with duckdb.connect() as connection:
        connection.execute(f"""
            create schema marts;
            create table marts.entries as from (values
                ('it''s', {FIRST}::bigint, 'open', 10, {FIRST}::bigint),
                ('it''s', {SECOND}, 'open', 20, {SECOND}), ('main', {FIRST}, 'open', 30, {FIRST})
            ) as t (ledger, seq, status, amount, last_seq);
            create table marts.balances as from (values
                ('main', date '2026-06-30', 10, 1::bigint), ('main', date '2026-07-01', 20, 2),
                ('main', date '2026-07-31', 30, 3)
            ) as t (ledger, day, balance, last_seq);
        """)
        yield connection


@pytest.fixture
def looks(monkeypatch):
    """Conditions of the rows that were looked at."""
    found: list[str] = []
    look = parts._content

    def note(connection, table, schema, rows):
        found.append(rows)
        return look(connection, table, schema, rows)

    monkeypatch.setattr(parts, "_content", note)
    return found


def test_parts_are_by_ledger_and_by_seq_or_month(marts, tmp_path):
    of_entries = write_parts(marts, ENTRIES, tmp_path, KnownParts())
    of_balances = write_parts(marts, BALANCES, tmp_path, KnownParts())
    assert [part.rows for part in of_entries] == [1, 1, 1]
    assert [part.rows for part in of_balances] == [1, 2]
    for part in (*of_entries, *of_balances):
        table = f"read_parquet('{tmp_path / part.path}')"
        assert content_of(marts, table) == (part.rows, part.content_hash)
    marts.execute("delete from marts.entries")
    (empty,) = write_parts(marts, ENTRIES, tmp_path, KnownParts())
    assert (empty.rows, (tmp_path / empty.path).exists()) == (0, True)


@pytest.mark.parametrize(
    ("mart", "change"),
    [
        (ENTRIES, f"update marts.entries set amount = 21, last_seq = 99 where seq = {SECOND}"),
        (ENTRIES, f"update marts.entries set status = 'void' where seq = {SECOND}"),
        (ENTRIES, "insert into marts.entries values ('main', 8, 'open', 5, 8)"),
        (BALANCES, "update marts.balances set balance = 31, last_seq = 4 where balance = 30"),
        (BALANCES, "insert into marts.balances values ('main', date '2026-08-01', 5, 9)"),
    ],
)
def test_a_part_is_looked_at_again_where_its_rows_changed(marts, tmp_path, looks, mart, change):
    known = KnownParts()
    before = write_parts(marts, mart, tmp_path, known)
    looks.clear()
    assert write_parts(marts, mart, tmp_path, known) == before
    assert not looks, "nothing has changed"
    marts.execute(change)
    after = write_parts(marts, mart, tmp_path, known)
    assert len(looks) == 1
    assert after != before
    assert after == write_parts(marts, mart, tmp_path, KnownParts())
    known.forget()
    looks.clear()
    assert write_parts(marts, mart, tmp_path, known) == after
    assert len(looks) == len(after), "the marts were built anew: nothing is known of them"


def test_a_part_that_was_pruned_is_written_again(marts, tmp_path):
    known = KnownParts()
    first, *others = write_parts(marts, ENTRIES, tmp_path, known)
    (tmp_path / first.path).unlink()
    assert write_parts(marts, ENTRIES, tmp_path, known) == [first, *others]
    assert (tmp_path / first.path).exists()
