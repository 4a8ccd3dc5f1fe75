"""The witness: every checkpoint cosigned, in order; what does not continue the last one, refused."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import httpx
import psycopg
import pytest

from ledger_service.domain.period_commands import ClosePeriod
from ledger_service.engine import checkpoints, offline_verifier, witness_service
from ledger_service.engine.checkpoints import Publisher
from ledger_service.engine.merkle import Tree, leaf_hash
from ledger_service.engine.pack import write_pack
from ledger_service.engine.protocol import Committed
from ledger_service.engine.verify import verify
from ledger_service.engine.witness_service import Witness
from tests.integration.engine.conftest import LEDGER, LOG_SEED, follow, local_writer
from tests.integration.engine.test_verification import (
    KEYS,
    LOG,
    LOG_PUBLIC,
    ORIGIN,
    WITNESS,
    WITNESS_PUBLIC,
    posted,
    tamper,
)
from tests.integration.engine.test_writer import A, B, submit
from tests.ledger_api import Api, serving
from tests.ledger_book import posting
from tests.servers import LedgerDatabase

NAME = f"{ORIGIN}/witness"
L = f"/v1/ledgers/{LEDGER}"


class Bridge(httpx.BaseTransport):
    """Lets the witness, which is not asynchronous, call the API in this loop, with its key."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self._loop = asyncio.get_running_loop()
        self.cosigned: list[int] = []
        """Sizes whose cosignatures the API was sent, in that order."""
        self.is_down = False

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            if self.is_down:
                return httpx.Response(503, request=request)
            self.cosigned.append(int(request.url.path.split("/")[-2]))
        call = self.api.call(
            "service", request.method, str(request.url.raw_path, "ascii"), content=request.read()
        )
        answer = asyncio.run_coroutine_threadsafe(call, self._loop).result(30)
        return httpx.Response(answer.status_code, content=answer.content, request=request)


@pytest.fixture
async def bridge(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Bridge]:
    """The API, as the witness reaches it."""
    settings = {"TALLYSTICK_WITNESS_PUBLIC_KEY": WITNESS_PUBLIC, "TALLYSTICK_LOG_KEY": LOG_SEED}
    async with serving(ledger_database, monkeypatch, **settings) as api:
        yield Bridge(api)


def started(bridge: Bridge, store: Path) -> Witness:
    """A witness as it begins, with what its folder remembers."""
    api = httpx.Client(transport=bridge, base_url="http://api")
    return Witness(api, WITNESS, checkpoints.public_bytes(LOG), ORIGIN, store)


async def look(witness: Witness) -> int:
    """Look until nothing is behind; gives how many looks that took."""
    looks = 1
    while await asyncio.to_thread(witness.look):
        looks += 1
    return looks


async def three_published(database: LedgerDatabase) -> list[int]:
    """Three checkpoints, the second of the closing of a period; gives their sizes."""
    publisher, sizes = Publisher(LOG, ORIGIN), []
    async with local_writer(database) as writer:
        for name in ("before", "close", "after"):
            await follow(database)
            command = posting(name, (A, 100), (B, -100))
            if name == "close":
                command = ClosePeriod("2026-02-04", "usr_1")
            [verdict] = await submit(writer, command)
            assert isinstance(verdict, Committed), verdict
            size = await publisher.publish(connecting(database), LEDGER)
            assert size == verdict.seq
            sizes.append(size)
    return sizes


def connecting(database: LedgerDatabase):
    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.url("writer"))

    return connect


def cosigned(database: LedgerDatabase) -> dict[int, int]:
    """When each checkpoint that the witness has cosigned was, by its size; signatures checked."""
    found: dict[int, int] = {}
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "select size, note, line from ledger.cosignature join ledger.checkpoint "
            "using (ledger, size) where witness = %s order by size",
            (NAME,),
        )
        for size, note, line in rows:
            stated = checkpoints.parse(note)
            assert KEYS.witness is not None
            found[size] = checkpoints.verify_cosignature(stated, line, NAME, KEYS.witness)
    return found


@pytest.mark.parametrize("page", [2, 100])
async def test_what_was_published_while_it_was_away_is_cosigned_in_order(
    ledger_database: LedgerDatabase,
    bridge: Bridge,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    page: int,
) -> None:
    monkeypatch.setattr(witness_service, "PAGE", page)
    await posted(ledger_database, 20)
    assert await look(started(bridge, tmp_path)) == 1
    sizes = await three_published(ledger_database)
    witness = started(bridge, tmp_path)
    looks = await look(witness)
    assert (looks > 1) == (page == 2)
    # the last one before is sent again, for all that a fresh process knows
    assert bridge.cosigned == [25, 25, *sizes]
    assert list(cosigned(ledger_database)) == [25, *sizes]
    assert verify(ledger_database.owner_url, LEDGER, keys=KEYS).findings == []
    await look(witness)
    assert bridge.cosigned == [25, 25, *sizes], "nothing is signed twice for nothing"


@pytest.mark.parametrize(
    ("change", "code", "found"),
    [
        ("note = '{note}', root = '\\x{root}'", "history_rewritten", "root_differs"),
        ("note = replace(note, '— log', '— gol')", "bad_checkpoint", "bad_signature"),
        ("note = (select note from ledger.checkpoint where size = {before})",
         "bad_checkpoint", "note_differs"),
    ],
)  # fmt: skip
async def test_one_that_was_altered_in_between_is_refused_and_so_is_what_follows(
    *,
    ledger_database: LedgerDatabase,
    postgres,
    bridge: Bridge,
    tmp_path: Path,
    change: str,
    code: str,
    found: str,
) -> None:
    await posted(ledger_database, 20)
    await look(started(bridge, tmp_path))
    before, closing, _after = await three_published(ledger_database)
    forged = checkpoints.sign(checkpoints.Checkpoint(f"{ORIGIN}/{LEDGER}", closing, bytes(32)), LOG)
    change = change.format(note=forged, root=bytes(32).hex(), before=before)
    tamper(
        postgres.admin_url,
        ledger_database,
        f"update ledger.checkpoint set {change} where size = {closing}",
    )
    witness = started(bridge, tmp_path)
    await look(witness)
    assert (witness.refused, witness.cosigned) == ({LEDGER: code}, {LEDGER: before})
    assert list(cosigned(ledger_database)) == [25, before]
    await look(started(bridge, tmp_path))
    assert list(cosigned(ledger_database)) == [25, before], "it does not go round it later"
    evidence = json.loads((tmp_path / f"{LEDGER}.refused.json").read_text())
    assert evidence["seen"]["size"] == before
    with psycopg.connect(ledger_database.owner_url) as owner:
        row = owner.execute("select note from ledger.checkpoint where size = %s", (closing,))
        assert row.fetchone() == (evidence["note"],)
    findings = verify(ledger_database.owner_url, LEDGER, keys=KEYS).findings
    assert (found, closing) in {(one.code, one.seq) for one in findings}


async def test_a_cosignature_that_the_api_did_not_take_is_sent_again_before_the_next(
    ledger_database: LedgerDatabase, bridge: Bridge, tmp_path: Path
) -> None:
    """The state is written first, so a crash between the two must not leave one out."""
    await posted(ledger_database, 20)
    bridge.is_down = True
    with pytest.raises(httpx.HTTPError):
        await look(started(bridge, tmp_path))
    assert json.loads((tmp_path / f"{LEDGER}.json").read_text())["size"] == 25
    sizes = await three_published(ledger_database)
    bridge.is_down = False
    await look(started(bridge, tmp_path))
    assert bridge.cosigned == [25, *sizes]


def test_two_processes_do_not_sign_from_one_folder(tmp_path: Path) -> None:
    (tmp_path / "witness").mkdir()
    with (tmp_path / "witness" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        settings = {"HOME": str(tmp_path), "API_URL": "http://127.0.0.1:9", "API_KEY": "k"}
        second = subprocess.run(
            [sys.executable, "-c", f"from {Witness.__module__} import main; main()"],
            env={**os.environ, **{f"TALLYSTICK_{name}": each for name, each in settings.items()}},
            capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
    assert (second.returncode, "another witness has" in second.stderr) == (1, True), second.stderr


async def test_two_that_publish_at_once_store_the_smaller_tree_first(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stored behind a larger one, it would be behind what the witness signed, for ever."""
    real, begun, going_on = checkpoints._demand_continuation, asyncio.Event(), asyncio.Event()
    published: list[int | None] = []

    async def held_up(*arguments) -> None:
        if not begun.is_set():
            begun.set()
            await going_on.wait()
        await real(*arguments)

    async def publish() -> None:
        published.append(await Publisher(LOG, ORIGIN).publish(connect, LEDGER))

    await posted(ledger_database, 20)
    connect = connecting(ledger_database)
    monkeypatch.setattr(checkpoints, "_demand_continuation", held_up)
    async with local_writer(ledger_database) as writer, asyncio.TaskGroup() as tasks:
        await submit(writer, posting("one", (A, 100), (B, -100)))
        tasks.create_task(publish())
        await begun.wait()
        await submit(writer, posting("two", (A, 100), (B, -100)))
        tasks.create_task(publish())
        await asyncio.sleep(0.3)  # time enough to overtake, if it could
        going_on.set()
    assert published == [26, 27]


# --- history rewritten ----------------------------------------------------------------------------


def rewrite_history(database: LedgerDatabase, admin_url: str) -> str:
    """As a superuser with the log's own key: change a cent, every hash above it, and sign again."""
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute("select bytes from ledger.journal order by seq").fetchall()
    contents = [raw for (raw,) in rows]
    contents[50] = contents[50].replace(b'"amount":"100"', b'"amount":"101"')
    tree, statements = Tree(), []
    for number, content in enumerate(contents, 1):
        hashed = leaf_hash(content)
        if number == 51:
            statements.append(
                f"update ledger.journal set bytes = '\\x{content.hex()}', "
                f"leaf_hash = '\\x{hashed.hex()}' where seq = {number}"
            )
        statements += [
            f"update ledger.tile set hashes = '\\x{tile.hashes.hex()}', "
            f"root = '\\x{tile.root.hex()}' "
            f"where level = {tile.level} and tile_index = {tile.index}"
            for tile in tree.extend([hashed])
        ]
    note = checkpoints.sign(
        checkpoints.Checkpoint(f"{ORIGIN}/{LEDGER}", tree.size, tree.root()), LOG
    )
    inserted = f"('{LEDGER}', {tree.size}, '\\x{tree.root().hex()}', '{note}')"
    statements += [
        f"update ledger.head set root = '\\x{tree.root().hex()}'",
        "delete from ledger.cosignature",
        "delete from ledger.checkpoint",
        f"insert into ledger.checkpoint values {inserted}",
    ]
    tamper(admin_url, database, *statements)
    return note


async def test_history_rewritten_with_the_signing_key_is_refused_by_witness_and_auditor(
    ledger_database: LedgerDatabase, postgres, bridge: Bridge, tmp_path: Path
) -> None:
    await posted(ledger_database, 600)
    pack, state, store = tmp_path / "pack", tmp_path / "state.json", tmp_path / "w"
    keys = {"log_key": LOG_PUBLIC, "witness_key": ""}
    write_pack(ledger_database.owner_url, LEDGER, pack, **keys)
    state.write_text(json.dumps(offline_verifier.verify(pack, {}, {"log": LOG_PUBLIC})))
    witness = started(bridge, store)
    await look(witness)
    assert (witness.refused, witness.cosigned) == ({}, {LEDGER: 605})
    async with local_writer(ledger_database) as writer:
        await submit(writer, *[posting(f"m{n}", (A, 100), (B, -100)) for n in range(300)])
    await Publisher(LOG, ORIGIN).publish(connecting(ledger_database), LEDGER)
    witness = started(bridge, store)
    await look(witness)
    assert (witness.refused, witness.cosigned) == ({}, {LEDGER: 905})
    note = (await bridge.api.call("auditor", "GET", f"{L}/checkpoints/latest")).text
    true_note, _, rest = note.rpartition(f"— {NAME} ")
    assert rest

    forged = rewrite_history(ledger_database, postgres.admin_url)
    await look(witness)
    assert witness.refused == {LEDGER: "tree_forked"}
    evidence = json.loads((store / f"{LEDGER}.refused.json").read_text())
    assert (evidence["note"], evidence["seen"]["note"]) == (forged, true_note)
    latest = await bridge.api.call("auditor", "GET", f"{L}/checkpoints/latest")
    assert "witness" not in latest.text
    async with local_writer(ledger_database) as writer:
        await submit(writer, *[posting(f"n{n}", (A, 100), (B, -100)) for n in range(10)])
    await Publisher(LOG, ORIGIN).publish(connecting(ledger_database), LEDGER)
    # neither a restart nor looking away makes it forget, nor that the forged one is gone
    fresh = started(bridge, store)
    assert fresh.refused == {LEDGER: "tree_forked"}
    await look(fresh)
    gone = "delete from ledger.checkpoint where size = 905"
    for change, code in (("select", "tree_forked"), (gone, "history_rewritten")):
        (store / f"{LEDGER}.refused.json").unlink()
        tamper(postgres.admin_url, ledger_database, change)
        fresh = started(bridge, store)
        await look(fresh)
        assert (fresh.refused, fresh.cosigned) == ({LEDGER: code}, {})
    write_pack(ledger_database.owner_url, LEDGER, pack, **keys)
    offline_verifier.verify(pack, {}, {"log": LOG_PUBLIC})
    with pytest.raises(offline_verifier.Failure, match="HISTORY WAS REWRITTEN"):
        offline_verifier.verify(pack, json.loads(state.read_text()), {"log": LOG_PUBLIC})


async def test_a_shrunk_tree_and_a_foreign_note_are_refused_by_name(
    ledger_database: LedgerDatabase, postgres, bridge: Bridge, tmp_path: Path
) -> None:
    await posted(ledger_database, 20)
    changes = {
        "tree_shrunk": "update ledger.checkpoint set size = 9, note = '{note}'",
        "bad_checkpoint": "update ledger.checkpoint set note = replace(note, '— log', '— gol')",
    }
    shorter = checkpoints.sign(checkpoints.Checkpoint(f"{ORIGIN}/{LEDGER}", 9, bytes(32)), LOG)
    for code, change in changes.items():
        await look(started(bridge, tmp_path / code))
        kept = await bridge.api.owner.fetchrow("select size, note from ledger.checkpoint")
        assert kept is not None
        tamper(postgres.admin_url, ledger_database, change.format(note=shorter))
        witness = started(bridge, tmp_path / code)
        await look(witness)
        assert (witness.refused, witness.cosigned) == ({LEDGER: code}, {})
        put_back = "update ledger.checkpoint set size = {size}, note = '{note}'"
        tamper(postgres.admin_url, ledger_database, put_back.format(**kept))
