"""A ledger leaves and arrives: the same root, balances on both clocks, and idempotency; or not at all."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import duckdb
import httpx
import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import given, settings

from ledger_service.contract.events import JournalEvent, TransactionPosted, encode
from ledger_service.engine import as_of, checkpoints, offline_verifier
from ledger_service.engine.arriving import arrive
from ledger_service.engine.leaving import LeavingError, Manifest, export, measure
from ledger_service.engine.merkle import Tree, leaf_hash
from ledger_service.engine.verify import verify
from tests import dated_histories
from tests.integration.engine.conftest import MEETING
from tests.integration.engine.test_as_of import QUICK, counted, points
from tests.integration.engine.test_ledger_routes import LEDGER as OPENING
from tests.integration.engine.test_ledger_routes import A, B, L, body, code
from tests.integration.engine.test_verification import LOG, LOG_PUBLIC, ORIGIN
from tests.ledger_api import processes
from tests.servers import LedgerDatabase, Postgres

_names = (f"leaving_{number}" for number in itertools.count())


@pytest.fixture
def elsewhere(postgres: Postgres, _migrated: str) -> Iterator[LedgerDatabase]:
    """The database of another installation."""
    name = "elsewhere"
    yield LedgerDatabase(postgres.create_database(name, template=_migrated))
    postgres.drop_database(name)


def store(owner_url: str, events: list[JournalEvent]) -> bytes:
    """A history with its tree and checkpoint, as the writer leaves them; gives the root."""
    dated_histories.store(owner_url, events)
    tree, ledger = Tree(), events[0].ledger
    with psycopg.connect(owner_url) as connection:
        for event in events:
            for tile in tree.extend([leaf_hash(encode(event))]):
                raise AssertionError(f"no history here fills a tile: {tile}")
        note = checkpoints.sign(
            checkpoints.Checkpoint(f"{ORIGIN}/{ledger}", tree.size, tree.root()), LOG
        )
        connection.execute(
            "insert into ledger.checkpoint (ledger, size, root, note) values (%s, %s, %s, %s)",
            (ledger, tree.size, tree.root(), note),
        )
    return tree.root()


def leave(database: LedgerDatabase, ledger: str, folder: Path) -> Manifest:
    return export(database.owner_url, ledger, folder, log_key=LOG_PUBLIC, witness_key="")


def rows(database: LedgerDatabase, sql: str, *arguments: Any) -> list[tuple]:
    with psycopg.connect(database.owner_url) as connection:
        return connection.execute(sql, arguments).fetchall()


KEYS = "select digest, seq, request_hash from ledger.idempotency where ledger = %s order by seq"


@settings(QUICK, max_examples=QUICK.max_examples // 2)
@given(data=st.data())
def test_what_arrives_is_what_left(
    data: st.DataObject,
    ledger_database: LedgerDatabase,
    elsewhere: LedgerDatabase,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    ledger = next(_names)
    events = data.draw(dated_histories.histories(ledger))
    root = store(ledger_database.owner_url, events)
    folder = tmp_path_factory.mktemp("leaving") / "out"
    manifest = leave(ledger_database, ledger, folder)
    assert (manifest.seq, manifest.root) == (len(events), root.hex())
    state = offline_verifier.verify(folder, {}, {"log": LOG_PUBLIC})
    assert state["size"] == len(events)
    assert arrive(elsewhere.owner_url, folder, log_key=LOG_PUBLIC) == manifest
    head = "select seq, root from ledger.head where ledger = %s"
    assert rows(elsewhere, head, ledger) == [(len(events), root)]
    assert rows(elsewhere, KEYS, ledger) == rows(ledger_database, KEYS, ledger)
    assert verify(elsewhere.owner_url, ledger, full=True).findings == []
    wanted = data.draw(st.lists(points(events), min_size=2, max_size=4))
    asyncio.run(_ask_both(ledger_database, elsewhere, events, wanted))
    amounts = duckdb.sql(
        f"select coalesce(sum(amount), 0)::hugeint from '{folder}/entries.parquet'"
    ).fetchall()
    posted = [event for event in events if isinstance(event, TransactionPosted)]
    assert amounts == [(sum(int(entry.amount) for event in posted for entry in event.entries),)]


async def _ask_both(here: LedgerDatabase, there: LedgerDatabase, events, wanted) -> None:
    ledger = events[0].ledger
    answers = []
    for database in (here, there):
        connection = await asyncpg.connect(database.owner_url)
        found = []
        for seq, moment, day in wanted:
            at = await as_of.resolve(
                connection, ledger, seq, effective_at=moment, effective_date=day
            )
            found.append([tuple(row) for row in await as_of.trial_balance(connection, ledger, at)])
            found.append([row async for row in as_of.balances(connection, ledger, at)])
            moved = sum(int(row["debits"]) for row in found[-1])
            due = counted(events, seq, moment, day)
            assert moved == sum(int(event.entries[0].amount) for event in due)
        answers.append(found)
        await connection.close()
    assert answers[0] == answers[1]


# --- refusals -----------------------------------------------------------------------------------


def _change_cent(folder: Path) -> None:
    file = folder / "events.ndjson"
    file.write_bytes(file.read_bytes().replace(b'"amount":"7"', b'"amount":"8"'))


def _change_one_side(folder: Path) -> None:
    file = folder / "events.ndjson"
    file.write_bytes(file.read_bytes().replace(b'"amount":"7"', b'"amount":"8"', 1))


def _cut(folder: Path) -> None:
    file = folder / "events.ndjson"
    file.write_bytes(file.read_bytes()[:-40])


def _lose_a_line(folder: Path) -> None:
    file = folder / "events.ndjson"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]))


def _swap_keys(folder: Path) -> None:
    import pyarrow.parquet as pq

    file = folder / "idempotency.parquet"
    table = pq.read_table(file)
    columns = [table["seq"], table["digest"].take([1, 0]), table["request_hash"]]
    pq.write_table(table.from_arrays(columns, names=table.column_names), file)


def _remove(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


CHANGES: list[tuple[Callable[[Path], None], bool, str]] = [
    # change, whether the manifest is made to fit, the refusal
    (_change_cent, False, "export_torn"),
    (_cut, False, "export_torn"),
    (_remove("idempotency.parquet"), False, "export_torn"),
    (_remove("manifest.json"), False, "not_an_export"),
    (_change_cent, True, "wrong_root"),
    (_lose_a_line, True, "wrong_root"),
    (_change_one_side, True, "export_unsound"),
    (_cut, True, "export_unsound"),
    (_swap_keys, True, "export_unsound"),
]


def _history() -> list[JournalEvent]:
    from tests.ledger_events import opening, posting

    events = list(opening("torn", 2))
    for _ in range(2):
        seq = len(events) + 1
        sides = {"debit": "customer:0:wallet", "credit": "customer:1:wallet"}
        events.append(posting("torn", seq, "transfer", amount=7, **sides))
    return events


def test_an_unsound_export_is_refused_by_name_and_nothing_is_half_done(
    ledger_database: LedgerDatabase, elsewhere: LedgerDatabase, tmp_path: Path
) -> None:
    store(ledger_database.owner_url, _history())
    whole = tmp_path / "whole"
    leave(ledger_database, "torn", whole)
    counts = (
        "select (select count(*) from ledger.head) + (select count(*) from ledger.journal) "
        "+ (select count(*) from ledger.idempotency) + (select count(*) from ledger.account)"
    )
    for number, (change, fits, expected) in enumerate(CHANGES):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        change(folder)
        if fits:
            manifest = json.loads((folder / "manifest.json").read_text())
            manifest["files"] = {name: measure(folder / name) for name in manifest["files"]}
            (folder / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(LeavingError) as error:
            arrive(elsewhere.owner_url, folder)
        assert error.value.code == expected, (change, str(error.value))
        assert rows(elsewhere, counts) == [(0,)]
    with pytest.raises(LeavingError) as error:
        arrive(elsewhere.owner_url, whole, log_key="bm90IHRoZSBrZXk9" * 3)
    assert error.value.code == "wrong_root"
    arrive(elsewhere.owner_url, whole)
    with pytest.raises(LeavingError) as error:
        arrive(elsewhere.owner_url, whole)
    assert error.value.code == "ledger_not_empty"
    with pytest.raises(LeavingError) as error:
        leave(ledger_database, "torn", whole)
    assert error.value.code == "folder_not_empty"
    assert sorted(path.name for path in tmp_path.iterdir() if "part" in path.name) == []


# --- on the real servers ------------------------------------------------------------------------


def test_a_key_finds_its_transaction_where_the_ledger_has_gone(
    ledger_database: LedgerDatabase, elsewhere: LedgerDatabase, tmp_path: Path
) -> None:
    with processes(ledger_database, tmp_path / "here") as here, here.client() as http:
        http.post("/v1/ledgers", json=OPENING)
        accounts = [{"account": account, "currency": "USD"} for account in (A, B)]
        http.post(f"{L}/accounts:batch", json={"accounts": accounts})
        first = http.post(f"{L}/transactions", json=body("k")).json()
        batch = {"transactions": [body(f"b{n}") for n in range(500)]}
        http.post(f"{L}/transactions:batch", json=batch)
        met = [http.post(f"{L}/transactions", json=body(key)).json() for key in MEETING[0]]
        head = http.get(f"{L}/progress").json()["posted_seq"]
        until = time.monotonic() + 20
        while _checkpoint(http) < head:
            assert time.monotonic() < until
            time.sleep(0.1)
        trial = http.get(f"{L}/trial-balance", params={"effective_date": "2999-01-01"}).json()
    manifest = export(
        ledger_database.owner_url, "simulated", tmp_path / "out", log_key="", witness_key=""
    )
    assert (manifest.seq, manifest.head_seq) == (head, head)
    with processes(elsewhere, tmp_path / "there") as there, there.client() as http:
        arrive(elsewhere.owner_url, tmp_path / "out")
        until = time.monotonic() + 20
        while (again := http.post(f"{L}/transactions", json=body("k"))).status_code >= 500:
            assert time.monotonic() < until, again.text
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
        assert again.json() == first
        assert met == [http.post(f"{L}/transactions", json=body(key)).json() for key in MEETING[0]]
        conflict = http.post(f"{L}/transactions", json=body("k", "6"))
        assert code(conflict) == (422, "idempotency_conflict")
        asked = {"effective_date": "2999-01-01"}
        assert http.get(f"{L}/trial-balance", params=asked).json() == trial
        new = http.post(f"{L}/transactions", json=body("new"))
        assert new.json()["seq"] == head + 1
        balance = http.get(f"{L}/accounts/{A}/balance").json()
        assert (balance["debits"], balance["at_seq"]) == (str(5 * 504), head + 1)
    assert [one for one in verify(elsewhere.owner_url).findings if one.ledger] == []


def _checkpoint(http: httpx.Client) -> int:
    answer = http.get(f"{L}/checkpoints/latest")
    return int(answer.text.split("\n")[1]) if answer.status_code == 200 else 0
