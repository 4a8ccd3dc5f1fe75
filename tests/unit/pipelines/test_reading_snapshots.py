"""What analysts do with snapshots: ask, compare, export, cite; and what they can't do."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from xml.etree import ElementTree as ET

import click.testing
import pyarrow as pa
import pytest

from ledger_service.contract import snapshots as contract
from ledger_service.contract.snapshots import BadCitationError, NotPublishedError, held, pin, unpin
from pipelines.publication import difference, export, reading, snapshot, tables
from pipelines.publication.cli import snapshot as snapshot_command
from pipelines.publication.cli import sql as sql_command
from pipelines.publication.parts import Mart
from tests.unit.pipelines import conftest
from tests.unit.pipelines.conftest import BIG, MARTS


def run(command, *arguments: str, stdin: str | None = None):
    return click.testing.CliRunner().invoke(command, arguments, input=stdin)


# --- asking


def test_amounts_come_out_exact_in_every_format(warehouse):
    query = "select account, sum(amount) as total, max(last_seq) as seq from entries group by all order by all"
    text = run(sql_command, query).output.splitlines()
    assert text[0].split() == ["account", "total", "seq"]
    assert text[3].split() == ["cash", str(BIG + 5), "250001"]
    assert text[-1] == "(2 rows)"
    lines = list(csv.reader(io.StringIO(run(sql_command, query, "--format", "csv").output)))
    # a text is no formula in somebody's spreadsheet
    assert lines[1:] == [["'=1+1", str(BIG), "1"], ["cash", str(BIG + 5), "250001"]]
    found = json.loads(run(sql_command, query, "--format", "json").output)
    assert found[1] == {"account": "cash", "total": str(BIG + 5), "seq": "250001"}
    negative = "select balance, moment, own from balances order by account"
    assert run(sql_command, negative, "--format", "csv").output.splitlines() == [
        "balance,moment,own", "-5,,false", f"{2 * BIG},2026-07-01T12:00:00.000001Z,true",
    ]  # fmt: skip
    assert run(sql_command, "from entries where false", "--format", "json").output == "[]\n"


def test_a_terminal_is_not_steered_by_a_text(warehouse):
    warehouse.publish("update marts.entries set note = chr(27) || '[2J' where seq = 1")
    assert "\x1b" not in run(sql_command, "select note from entries").output


def test_queries_from_a_pipe_and_an_older_version(warehouse):
    warehouse.publish("update marts.entries set note = 'a;b' where seq = 1")
    piped = (
        "select ';' as one;\n-- a remark\nselect count(*) as two from entries where note = 'a;b';"
    )
    output = run(sql_command, "--format", "csv", stdin=piped).output
    assert output.splitlines() == ["one", ";", "two", "2"]
    older = run(sql_command, "--version", "1", "--format", "csv", stdin=piped).output
    assert older.splitlines()[-1] == "0"
    missing = run(sql_command, "--version", "77", "select 1")
    assert isinstance(missing.exception, NotPublishedError)
    assert "tally snapshot list" in str(missing.exception)


def test_parameters_are_values_and_never_sql(warehouse):
    query = "select count(*) as n from entries where account = $account"
    args = ("--format", "csv", "--value")
    assert run(sql_command, query, *args, "account==1+1").output.splitlines() == ["n", "1"]
    injected = run(sql_command, query, *args, "account=x' or 'a' = 'a")
    assert injected.output.splitlines() == ["n", "0"]
    with reading.opened(warehouse.snapshots, "general") as reader:
        with pytest.raises(reading.QueryError, match=r"needs \$account"):
            reader.query(query, {"other": 1})
        with pytest.raises(reading.NotAQueryError, match="one query"):
            reader.query("select 1; select 2")
    assert "NAME=VALUE" in run(sql_command, query, "--value", "account").output


def test_the_shell_takes_queries_until_it_is_left(warehouse):
    """In a terminal of its own: a query over two lines, one that fails, and one after it."""
    parent, child = pty.openpty()
    shell = subprocess.Popen(
        [sys.executable, "-c", "from pipelines.publication.cli import sql; sql()"],
        stdin=child, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ},
    )  # fmt: skip
    os.close(child)
    os.write(
        parent, b"select 40\n + 2 as answer;\nselect nothing from entries;\ndrop view entries;\n"
    )
    os.write(parent, b"select count(*) + 100 as still_there from entries;\n\x04")
    output = shell.communicate(timeout=60)[0].decode()
    os.close(parent)
    assert shell.returncode == 0, output
    assert "bad_query: " in output
    assert "not_a_query: DROP is not taken" in output
    assert re.search(r"answer\n-+\n +42\n", output), output
    assert re.search(r"still_there\n-+\n +103\n", output), output


def forbidden(folder: Path, part: Path) -> list[str]:
    outside = folder / "outside.csv"
    return [
        "insert into entries values (1)", "update entries set amount = 1", "delete from entries",
        "create table mine as select 1", "create view mine as select 1", "drop view entries",
        f"copy (select 1) to '{outside}'", f"copy (select 1 as a) to '{part}' (use_tmp_file false)",
        f"explain analyze copy (select 1 as a) to '{part}' (use_tmp_file false)",
        "with gone as (delete from entries returning 1) select * from gone",
        f"attach '{folder / 'mine.duckdb'}'", f"export database '{folder}'",
        f"select * from read_text('{outside}')", f"select * from '{outside}'",
        f"select * from glob('{folder}/*')", "select * from read_csv('/dev/stdin')",
        f"select * from read_blob('{folder}/snapshots/restricted/CURRENT')",
        f"select * from read_parquet('{folder}/snapshots/restricted/parts/*.parquet')",
        "set enable_external_access = true", "reset allowed_paths", "pragma enable_profiling",
        "set allowed_paths = ['/']", "install httpfs", "load httpfs", "checkpoint",
        "call enable_logging()", "select * from alerts", "select secret_of_the_process",
        "select * from secret_of_the_process", "begin", "select 1; drop view entries",
    ]  # fmt: skip


def test_nothing_is_written_and_nothing_else_is_read(warehouse, tmp_path, monkeypatch):
    # DuckDB would take a name that it does not know for one of Python's where it is called
    secret = pa.table({"secret": [42]})
    monkeypatch.setattr(reading, "secret_of_the_process", secret, raising=False)
    (tmp_path / "outside.csv").write_text("a\n1\n")
    with reading.opened(warehouse.snapshots, "general") as reader:
        (part, _) = contract.part_paths(warehouse.snapshots, reader.manifest, "entries")
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        for text in forbidden(tmp_path, part):
            with pytest.raises((reading.NotAQueryError, reading.QueryError)):
                print(text, [list(table.rows) for table in reader.queries(text)])
        assert list(reader.query("select count(*) from entries").rows) == [(3,)]
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert after == before


def test_general_knows_nothing_of_restricted(warehouse):
    for query in ("show all tables", "from duckdb_views()", "from duckdb_columns()",
                  "from information_schema.tables", "from duckdb_settings()"):  # fmt: skip
        found = run(sql_command, query, "--format", "json")
        assert found.exit_code == 0, found.output
        assert "alert" not in found.output, query
        assert "restricted" not in found.output, query
    restricted = run(sql_command, "--snapshot", "restricted", "select alert from alerts")
    assert "someone structured" in restricted.output


# --- staying whole


def test_what_is_read_stays_and_what_nobody_reads_goes(warehouse, monkeypatch):
    monkeypatch.setattr(snapshot, "KEEP_S", 0)
    monkeypatch.setattr(snapshot, "KEEP", 2)
    with reading.opened(warehouse.snapshots, "general") as reader:
        assert reader.manifest.version == 1
        for amount in range(4):
            warehouse.publish(f"update marts.entries set amount = {amount}")
        assert warehouse.kept() == [1, 4, 5]
        assert list(reader.query("select sum(amount) from entries").rows) == [(2 * BIG + 5,)]
    warehouse.publish("update marts.entries set amount = 9")
    assert warehouse.kept() == [5, 6]
    assert warehouse.kept("restricted") == [5, 6]


def test_a_pinned_snapshot_stays_until_nothing_cites_it(warehouse, monkeypatch):
    monkeypatch.setattr(snapshot, "KEEP_S", 0)
    monkeypatch.setattr(snapshot, "KEEP", 1)
    said = run(snapshot_command, "pin", "board-paper.q2")
    assert said.output == "board-paper.q2 keeps general 1.\n"
    assert "board-paper.q2" in run(snapshot_command, "list").output
    for amount in range(3):
        warehouse.publish(f"update marts.entries set amount = {amount}")
    assert warehouse.kept() == [1, 4]
    with held(warehouse.snapshots, "general", 1) as manifest:
        assert snapshot.verify(warehouse.snapshots, manifest) == 4
    # a citation that moves on lets go of what it named before
    run(snapshot_command, "pin", "board-paper.q2", "--version", "4")
    warehouse.publish("update marts.entries set amount = 8")
    assert warehouse.kept() == [4, 5]
    assert run(snapshot_command, "unpin", "board-paper.q2").exit_code == 0
    assert run(snapshot_command, "unpin", "board-paper.q2").exit_code == 1
    warehouse.publish("update marts.entries set amount = 9")
    assert warehouse.kept() == [6]


def test_a_citation_is_a_name_and_names_what_is_kept(warehouse):
    with held(warehouse.snapshots, "general") as manifest:
        for name in ("../CURRENT", "", ".hidden", "A b"):
            with pytest.raises(BadCitationError, match="citation"):
                pin(warehouse.snapshots, manifest, name)
            with pytest.raises(BadCitationError):
                unpin(warehouse.snapshots, "general", name)
    gone = contract.msgspec.structs.replace(manifest, version=77)
    with pytest.raises(NotPublishedError):
        pin(warehouse.snapshots, gone, "late")
    assert contract.pins(warehouse.snapshots, "general") == {}


def test_readers_see_one_snapshot_each_while_much_is_published(warehouse, monkeypatch):
    """Whoever opens the current snapshot sees all of it, never parts of two, never a gap."""
    monkeypatch.setattr(snapshot, "KEEP_S", 0)
    monkeypatch.setattr(snapshot, "KEEP", 1)
    warehouse.publish("update marts.entries set amount = 0; update marts.balances set balance = 0")
    failures, seen, over = [], set(), threading.Event()

    def read() -> None:
        while not over.is_set():
            try:
                with reading.opened(warehouse.snapshots, "general") as reader:
                    found = reader.query(
                        "select distinct amount, balance from entries, balances order by all"
                    )
                    ((amount, balance),) = found.rows
                    assert amount == balance
                    seen.add(amount)
            except Exception as failure:  # noqa: BLE001 - whatever it is, it is the test's answer
                failures.append(failure)
                return

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    until, number = time.monotonic() + 2, 0
    while time.monotonic() < until:
        number += 1
        warehouse.publish(
            f"update marts.entries set amount = {number};"
            f"update marts.balances set balance = {number}"
        )
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(seen) > 1


# --- comparing


CHANGES = """
    update marts.entries set note = 'late', last_seq = 250009 where seq = 250001;
    insert into marts.entries values
        ('main', 250009, 0, 'cash', 7, date '2026-07-02', 'new', 250009);
    delete from marts.balances where account = '+fees';
    update marts.build set as_of_seq = 250009;
"""


def test_a_difference_names_rows_values_and_the_seq(warehouse):
    warehouse.publish(CHANGES)
    output = run(snapshot_command, "diff", "1", "2").output
    assert output.splitlines()[0] == "general 1 to 2: main 250001 to 250009"
    said = run(snapshot_command, "diff", "1", "2", "--format", "csv").output
    assert said.splitlines() == [
        "mart,added,removed,changed,first_seq,last_seq",
        "balances,0,1,0,1,1",
        "build,0,0,1,250001,250001",
        "entries,1,0,1,250009,250009",
    ]
    rows = run(snapshot_command, "diff", "1", "2", "--mart", "entries", "--format", "csv").output
    assert rows.splitlines() == [
        "change,ledger,seq,entry_no,caused_by_seq,column_name,before,after",
        "changed,main,250001,0,250009,note,,late",
        "changed,main,250001,0,250009,last_seq,250001,250009",
        "added,main,250009,0,250009,account,,cash",
        "added,main,250009,0,250009,amount,,7",
        "added,main,250009,0,250009,effective_date,,2026-07-02",
        "added,main,250009,0,250009,note,,new",
        "added,main,250009,0,250009,last_seq,,250009",
    ]
    back = run(snapshot_command, "diff", "2", "1", "--mart", "balances", "--format", "json").output
    first = json.loads(back)[0]
    assert first == {"change": "added", "account": "+fees", "caused_by_seq": "1",
                     "column_name": "balance", "before": None, "after": "-5"}  # fmt: skip
    assert run(snapshot_command, "diff", "1", "1", "--format", "json").output == "[]\n"


def test_parts_that_both_name_are_not_read(warehouse):
    warehouse.publish(CHANGES)
    with held(warehouse.snapshots, "general") as manifest:
        (shared, _) = contract.part_paths(warehouse.snapshots, manifest, "entries")
    shared.unlink()
    with difference.compared(warehouse.snapshots, "general", 1, 2) as found:
        assert {row[0]: row[1:4] for row in found.summary().rows}["entries"] == (1, 0, 1)


def test_a_column_and_a_mart_that_are_new(warehouse, monkeypatch):
    warehouse.connection.execute("alter table marts.balances add column frozen boolean")
    warehouse.connection.execute("update marts.balances set frozen = true where own")
    warehouse.connection.execute(
        "create table marts.fees as select 'x' as fee, 3::bigint as last_seq"
    )
    monkeypatch.setattr(conftest, "MARTS", [*MARTS, Mart("fees", "general", ("fee",))])
    warehouse.publish()
    with difference.compared(warehouse.snapshots, "general", 1, 2) as found:
        assert list(found.summary().rows) == [
            ("balances", 0, 0, 1, 1, 1), ("fees", 1, 0, 0, 3, 3),
        ]  # fmt: skip
        assert list(found.rows("balances").rows) == [("changed", "cash", 1, "frozen", None, "true")]
        with pytest.raises(reading.UnknownMartError, match="balances"):
            found.rows("nothing")


def test_marts_published_before_they_named_their_grain_can_not_be_compared(warehouse):
    warehouse.publish(CHANGES)
    for path in (warehouse.snapshots / "general" / "manifests").iterdir():
        manifest = json.loads(path.read_bytes())
        del manifest["grain"]
        path.write_text(json.dumps(manifest))
    with (
        difference.compared(warehouse.snapshots, "general", 1, 2) as found,
        pytest.raises(difference.GrainUnknownError, match=r"balances"),
    ):
        list(found.summary().rows)


# --- exporting


def sheet_cells(path: Path) -> list[list[tuple[str, str]]]:
    """Type and raw text of each cell, read from the file's XML and not by a library of sheets."""
    space = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    with zipfile.ZipFile(path) as book:
        sheet = ET.fromstring(book.read("xl/worksheets/sheet1.xml"))
    assert not list(sheet.iter(f"{space}f")), "a formula"
    return [
        [(cell.get("t", "n"), "".join(cell.itertext())) for cell in row]
        for row in sheet.iter(f"{space}row")
    ]


def test_a_mart_as_csv_and_xlsx(warehouse, tmp_path):
    to_csv, to_xlsx = tmp_path / "e.csv", tmp_path / "e.xlsx"
    done = run(snapshot_command, "export", "entries", "--csv", str(to_csv), "--xlsx", str(to_xlsx))
    assert done.output.splitlines() == [
        f"{to_csv}: 3 rows of entries, general 1.", f"{to_xlsx}: 3 rows of entries, general 1.",
    ]  # fmt: skip
    content = to_csv.read_bytes().decode()
    assert content.split("\r\n")[:3] == [
        "ledger,seq,entry_no,account,amount,effective_date,note,last_seq",
        f"main,1,0,cash,{BIG},2026-07-01,rent,1",
        f'main,1,1,\'=1+1,{BIG},2026-07-01,"a ""b"", c",1',
    ]
    assert content.endswith("\r\n")
    head, first, second, third = sheet_cells(to_xlsx)
    assert [text for _, text in head][:3] == ["ledger", "seq", "entry_no"]
    # beyond 2^53 a spreadsheet would round: a text; so is what looks like a formula
    assert first[4] == ("inlineStr", str(BIG))
    assert second[3] == ("inlineStr", "=1+1")
    assert third[4] == ("n", "5")
    day = dt.date(1899, 12, 30) + dt.timedelta(days=int(third[5][1]))
    assert day == dt.date(2026, 7, 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.csv", "e.xlsx", "snapshots"]


@pytest.mark.parametrize(("value", "kind"), [
    (2**53, "n"), (2**53 + 1, "inlineStr"), (-(2**53), "n"), (-(2**53) - 1, "inlineStr"),
])  # fmt: skip
def test_a_sheet_rounds_no_number(warehouse, tmp_path, value, kind):
    warehouse.publish(f"update marts.balances set balance = {value} where account = 'cash'")
    with reading.opened(warehouse.snapshots, "general") as reader:
        export.export_xlsx(reader, "balances", tmp_path / "b.xlsx")
    cash = next(row for row in sheet_cells(tmp_path / "b.xlsx") if row[0][1] == "cash")
    assert cash[1] == (kind, str(value))
    assert cash[2] == ("inlineStr", "2026-07-01T12:00:00.000001Z")


def test_what_does_not_fit_is_named_and_leaves_the_file_alone(warehouse, tmp_path, monkeypatch):
    target = tmp_path / "e.xlsx"
    target.write_text("what was there")
    monkeypatch.setattr(export, "SHEET_ROWS", 4)
    with reading.opened(warehouse.snapshots, "general") as reader:
        assert export.export_xlsx(reader, "entries", tmp_path / "fits.xlsx") == 3
        monkeypatch.setattr(export, "SHEET_ROWS", 3)
        with pytest.raises(export.SheetTooLongError, match="--csv"):
            export.export_xlsx(reader, "entries", target)
        with pytest.raises(reading.UnknownMartError, match="balances"):
            export.export_csv(reader, "nothing", target)
    monkeypatch.undo()
    warehouse.publish("update marts.entries set note = repeat('x', 32768) where seq = 1")
    with (
        reading.opened(warehouse.snapshots, "general") as reader,
        pytest.raises(export.CellTooLongError, match="--csv"),
    ):
        export.export_xlsx(reader, "entries", target)
    assert target.read_text() == "what was there"
    assert not list(tmp_path.glob(".e*"))
    assert "--xlsx" in run(snapshot_command, "export", "entries").output


def test_json_and_tables_know_every_kind_of_value():
    moment = dt.datetime(2026, 7, 1, 14, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert tables.as_text(moment) == "2026-07-01T12:00:00.000000Z"
    assert tables.as_text([1, None, dt.date(2026, 7, 1)]) == '[1, null, "2026-07-01"]'
    assert [tables.no_formula(text) for text in ("-1", "@x", "\tx", "", "1-1")] == [
        "'-1", "'@x", "'\tx", "", "1-1",
    ]  # fmt: skip
