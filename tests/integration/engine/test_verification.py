"""Tampering is found: by `tally verify`, by the offline verifier, by the witness."""

from __future__ import annotations

import ast
import base64
import json
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger_service.engine import checkpoints, offline_verifier
from ledger_service.engine.checkpoints import Publisher
from ledger_service.engine.merkle import Tree, leaf_hash
from ledger_service.engine.pack import write_pack
from ledger_service.engine.proofs import ProofError
from ledger_service.engine.verify import Keys, verify
from tests.integration.engine.conftest import LEDGER, LOG_SEED, local_writer
from tests.integration.engine.test_writer import A, B, opened, submit
from tests.ledger_book import posting
from tests.servers import LedgerDatabase

LOG, WITNESS = (Ed25519PrivateKey.from_private_bytes(seed * 32) for seed in (b"l", b"w"))
ORIGIN = "log.test"
KEYS = Keys(checkpoints.public_bytes(LOG), checkpoints.public_bytes(WITNESS))
LOG_PUBLIC = base64.b64encode(checkpoints.public_bytes(LOG)).decode()
WITNESS_PUBLIC = base64.b64encode(checkpoints.public_bytes(WITNESS)).decode()


async def posted(database: LedgerDatabase, count: int, *, name: str = "k") -> None:
    """Post `count` transactions and publish a checkpoint after them, cosigned."""
    import asyncpg

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.url("writer"))

    async with local_writer(database) as writer:
        await opened(writer)
        await submit(writer, *[posting(f"{name}{n}", (A, 100), (B, -100)) for n in range(count)])
    size = await Publisher(LOG, ORIGIN).publish(connect, LEDGER)
    with psycopg.connect(database.owner_url) as connection:
        row = connection.execute(
            "select note from ledger.checkpoint where size = %s", (size,)
        ).fetchone()
        assert row is not None
        line = checkpoints.cosign(checkpoints.parse(row[0]), "w.test", WITNESS, 1_780_000_000)
        connection.execute(
            "insert into ledger.cosignature values (%s, %s, 'w.test', %s)", (LEDGER, size, line)
        )


def tamper(admin_url: str, database: LedgerDatabase, *statements: str) -> None:
    """As a superuser who switches every guard off."""
    url = database.owner_url
    name = url.rsplit("/", 1)[1].split("?")[0]
    head = admin_url.rsplit("/", 1)[0]
    with psycopg.connect(f"{head}/{name}") as connection:
        connection.execute("set session_replication_role = replica")
        for statement in statements:
            connection.execute(statement)


ONE_CENT = (
    "update ledger.journal set bytes = convert_to(replace(convert_from(bytes, 'UTF8'), "
    '\'"amount":"100"\', \'"amount":"101"\'), \'UTF8\') where seq = {seq}'
)


async def test_one_cent_changed_by_a_superuser_is_named_by_both_verifiers(
    ledger_database: LedgerDatabase, postgres, tmp_path: Path
) -> None:
    await posted(ledger_database, 600)
    assert verify(ledger_database.owner_url, None, full=True, keys=KEYS).findings == []
    pack, state = tmp_path / "pack", tmp_path / "state.json"
    keys = {"log_key": LOG_PUBLIC, "witness_key": WITNESS_PUBLIC}
    size = write_pack(ledger_database.owner_url, LEDGER, pack, **keys)
    assert size == 605
    alone = tmp_path / "elsewhere" / "verifier.py"
    alone.parent.mkdir()
    shutil.copy(offline_verifier.__file__, alone)
    # -I: nothing of this checkout or of the environment is on its path
    command = [sys.executable, "-I", str(alone), str(pack), "--state", str(state)]
    sound = await _run(command)
    assert (sound.returncode, "SOUND: 605 events" in sound.stdout) == (0, True), sound.stdout
    tamper(postgres.admin_url, ledger_database, ONE_CENT.format(seq=300))
    report = verify(ledger_database.owner_url, LEDGER, full=False)
    assert ("ledger.journal", 300, "bytes_changed") in {
        (f.table, f.seq, f.code) for f in report.findings
    }
    write_pack(ledger_database.owner_url, LEDGER, pack, **keys)
    older = await _run([*command, "--log-key", base64.b64encode(bytes(32)).decode()])
    assert "the key of the log is not the one remembered" in older.stdout
    unsound = await _run(command)
    assert unsound.returncode == 1
    assert "NOT SOUND" in unsound.stdout


async def test_one_hash_changed_with_its_bytes_is_named_by_its_tile(
    ledger_database: LedgerDatabase, postgres
) -> None:
    await posted(ledger_database, 600)
    tamper(
        postgres.admin_url,
        ledger_database,
        ONE_CENT.format(seq=300),
        "update ledger.journal set leaf_hash = sha256('\\x00'::bytea || bytes) where seq = 300",
    )
    found = verify(ledger_database.owner_url, LEDGER, full=False).findings
    assert ("ledger.tile", 300, "tile_differs") in {(f.table, f.seq, f.code) for f in found}
    assert "ledger.checkpoint" in {f.table for f in found}


def _both_sides(line: bytes) -> bytes:
    return line.replace(b'"amount":"100"', b'"amount":"101"')


PACK_CHANGES = {
    "both_sides_by_one_cent": (
        lambda lines: [*lines[:11], _both_sides(lines[11]), *lines[12:]],
        "the events are not those whose root was signed",
    ),
    "one_side_by_one_cent": (
        lambda lines: [*lines[:11], lines[11].replace(b'"100"', b'"101"', 1), *lines[12:]],
        "seq 12: debits and credits differ",
    ),
    "two_events_in_each_others_place": (
        lambda lines: [*lines[:11], lines[12], lines[11], *lines[13:]],
        "line 12 holds the event with seq 13",
    ),
    "last_event_left_out": (lambda lines: lines[:-1], "states 25 events, the pack holds 24"),
}


def test_the_verifier_imports_the_standard_library_and_one_library_for_signatures() -> None:
    tree = ast.parse(Path(offline_verifier.__file__).read_text())
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else alias.name or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert names - sys.stdlib_module_names == {"cryptography"}


async def test_an_older_pack_is_not_taken_for_a_newer_one(
    ledger_database: LedgerDatabase, tmp_path: Path
) -> None:
    await posted(ledger_database, 20)
    keys = {"log_key": LOG_PUBLIC, "witness_key": WITNESS_PUBLIC}
    write_pack(ledger_database.owner_url, LEDGER, tmp_path, **keys)
    given = {"log": LOG_PUBLIC, "witness": WITNESS_PUBLIC}
    state = offline_verifier.verify(tmp_path, {}, given)
    assert offline_verifier.verify(tmp_path, state, given) == state
    with pytest.raises(offline_verifier.Failure, match=r"26 events were seen before, .* states 25"):
        offline_verifier.verify(tmp_path, {**state, "size": 26}, given)


async def test_a_changed_pack_is_refused_for_what_was_changed(
    ledger_database: LedgerDatabase, tmp_path: Path
) -> None:
    await posted(ledger_database, 20)
    keys = {"log_key": LOG_PUBLIC, "witness_key": WITNESS_PUBLIC}
    write_pack(ledger_database.owner_url, LEDGER, tmp_path, **keys)
    events = tmp_path / "events.ndjson"
    lines = events.read_bytes().splitlines(keepends=True)
    given = {"log": LOG_PUBLIC, "witness": WITNESS_PUBLIC}
    assert offline_verifier.verify(tmp_path, {}, given)["size"] == 25
    for change, reason in PACK_CHANGES.values():
        events.write_bytes(b"".join(change(lines)))
        with pytest.raises(offline_verifier.Failure, match=reason):
            offline_verifier.verify(tmp_path, {}, given)


EVENT_CHANGES = {
    "not_canonical": "bytes = bytes || ' '",
    "wrong_ledger": """bytes = convert_to(replace(convert_from(bytes, 'UTF8'),
        '"ledger":"simulated"', '"ledger":"imitated"'), 'UTF8')""",
    "wrong_seq": """bytes = convert_to(replace(convert_from(bytes, 'UTF8'),
        '"seq":12', '"seq":13'), 'UTF8')""",
    "wrong_type": "event_type = 'account.opened'",
    "wrong_time": "recorded_at = recorded_at + interval '1 microsecond'",
    "unbalanced": """bytes = convert_to(regexp_replace(convert_from(bytes, 'UTF8'),
        '"amount":"100"', '"amount":"101"'), 'UTF8')""",
    "not_an_event": "bytes = '{}'",
}


async def test_an_event_changed_with_its_hash_is_named_for_what_is_wrong_in_it(
    ledger_database: LedgerDatabase, postgres
) -> None:
    await posted(ledger_database, 20)
    keep = "create table monitoring.kept as select * from ledger.journal where seq = 12"
    tamper(postgres.admin_url, ledger_database, keep)
    for code, change in EVENT_CHANGES.items():
        tamper(
            postgres.admin_url,
            ledger_database,
            f"update ledger.journal set {change} where seq = 12",
            "update ledger.journal set leaf_hash = sha256('\\x00'::bytea || bytes) where seq = 12",
        )
        found = verify(ledger_database.owner_url, LEDGER, full=False).findings
        assert ("ledger.journal", 12, code) in {(f.table, f.seq, f.code) for f in found}
        tamper(
            postgres.admin_url,
            ledger_database,
            "update ledger.journal j set bytes = k.bytes, leaf_hash = k.leaf_hash,"
            " event_type = k.event_type, recorded_at = k.recorded_at"
            " from monitoring.kept k where j.seq = k.seq",
        )
    assert verify(ledger_database.owner_url, LEDGER, full=False).findings == []


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
    ledger_database: LedgerDatabase, postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncpg

    from ledger_service.engine.witness_service import Witness
    from tests.ledger_api import serving

    await posted(ledger_database, 600)
    pack, state = tmp_path / "pack", tmp_path / "state.json"
    keys = {"log_key": LOG_PUBLIC, "witness_key": ""}
    write_pack(ledger_database.owner_url, LEDGER, pack, **keys)
    state.write_text(json.dumps(offline_verifier.verify(pack, {}, {"log": LOG_PUBLIC})))
    settings = {"TALLYSTICK_WITNESS_PUBLIC_KEY": WITNESS_PUBLIC, "TALLYSTICK_LOG_KEY": LOG_SEED}
    async with serving(ledger_database, monkeypatch, **settings) as api:
        bridge = httpx.Client(transport=_Bridge(api), base_url="http://api")
        witness = Witness(bridge, WITNESS, checkpoints.public_bytes(LOG), ORIGIN, tmp_path / "w")
        await _in_thread(witness.look)
        assert (witness.refused, witness.cosigned) == ({}, {LEDGER: 605})

        async def connect() -> asyncpg.Connection:
            return await asyncpg.connect(ledger_database.url("writer"))

        async with local_writer(ledger_database) as writer:
            await submit(writer, *[posting(f"m{n}", (A, 100), (B, -100)) for n in range(300)])
        await Publisher(LOG, ORIGIN).publish(connect, LEDGER)
        witness = Witness(bridge, WITNESS, checkpoints.public_bytes(LOG), ORIGIN, tmp_path / "w")
        await _in_thread(witness.look)
        assert (witness.refused, witness.cosigned) == ({}, {LEDGER: 905})
        note = (await api.call("auditor", "GET", f"/v1/ledgers/{LEDGER}/checkpoints/latest")).text
        assert "— log.test/witness " in note

        true_note = note.rpartition("— log.test/witness ")[0]
        forged = rewrite_history(ledger_database, postgres.admin_url)
        await _in_thread(witness.look)
        assert witness.refused == {LEDGER: "tree_forked"}
        evidence = json.loads((tmp_path / "w" / f"{LEDGER}.refused.json").read_text())
        assert (evidence["note"], evidence["seen"]["note"]) == (forged, true_note)
        latest = await api.call("auditor", "GET", f"/v1/ledgers/{LEDGER}/checkpoints/latest")
        assert "witness" not in latest.text
        async with local_writer(ledger_database) as writer:
            await submit(writer, *[posting(f"n{n}", (A, 100), (B, -100)) for n in range(10)])
        await Publisher(LOG, ORIGIN).publish(connect, LEDGER)
        # neither a restart nor looking away makes it forget
        fresh = Witness(bridge, WITNESS, checkpoints.public_bytes(LOG), ORIGIN, tmp_path / "w")
        assert fresh.refused == {LEDGER: "tree_forked"}
        await _in_thread(fresh.look)
        (tmp_path / "w" / f"{LEDGER}.refused.json").unlink()
        fresh = Witness(bridge, WITNESS, checkpoints.public_bytes(LOG), ORIGIN, tmp_path / "w")
        await _in_thread(fresh.look)
        assert (fresh.refused, fresh.cosigned) == ({LEDGER: "history_rewritten"}, {})
    write_pack(ledger_database.owner_url, LEDGER, pack, **keys)
    offline_verifier.verify(pack, {}, {"log": LOG_PUBLIC})
    with pytest.raises(offline_verifier.Failure, match="HISTORY WAS REWRITTEN"):
        offline_verifier.verify(pack, json.loads(state.read_text()), {"log": LOG_PUBLIC})


async def test_a_shrunk_tree_and_a_foreign_note_are_refused_by_name(
    ledger_database: LedgerDatabase, postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ledger_service.engine.witness_service import Witness
    from tests.ledger_api import serving

    await posted(ledger_database, 20)
    settings = {"TALLYSTICK_WITNESS_PUBLIC_KEY": WITNESS_PUBLIC}
    changes = {
        "tree_shrunk": "update ledger.checkpoint set size = 9, note = '{note}'",
        "bad_checkpoint": "update ledger.checkpoint set note = replace(note, '— log', '— gol')",
    }
    shorter = checkpoints.sign(checkpoints.Checkpoint(f"{ORIGIN}/{LEDGER}", 9, bytes(32)), LOG)
    async with serving(ledger_database, monkeypatch, **settings) as api:
        bridge = httpx.Client(transport=_Bridge(api), base_url="http://api")
        for code, change in changes.items():
            store = tmp_path / code
            key = checkpoints.public_bytes(LOG)
            await _in_thread(Witness(bridge, WITNESS, key, ORIGIN, store).look)
            kept = await api.owner.fetchrow("select size, note from ledger.checkpoint")
            tamper(postgres.admin_url, ledger_database, change.format(note=shorter))
            witness = Witness(bridge, WITNESS, key, ORIGIN, store)
            await _in_thread(witness.look)
            assert (witness.refused, witness.cosigned) == ({LEDGER: code}, {})
            put_back = "update ledger.checkpoint set size = {size}, note = '{note}'"
            tamper(postgres.admin_url, ledger_database, put_back.format(**kept))


async def test_the_publisher_signs_only_what_continues_what_it_signed(
    ledger_database: LedgerDatabase, postgres
) -> None:
    """Tables rewritten by one who does not hold the key: no signature is got for them either."""
    import asyncpg

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(ledger_database.url("writer"))

    await posted(ledger_database, 20)
    publisher = Publisher(LOG, ORIGIN)
    assert await publisher.publish(connect, LEDGER) is None
    rewrite = "update ledger.journal set leaf_hash = sha256(leaf_hash) where seq = 7"
    tamper(postgres.admin_url, ledger_database, rewrite)
    async with local_writer(ledger_database) as writer:
        await submit(writer, posting("more", (A, 100), (B, -100)))
    for one in (publisher, Publisher(LOG, ORIGIN)):
        with pytest.raises(ProofError):
            await one.publish(connect, LEDGER)
    tamper(postgres.admin_url, ledger_database, "update ledger.head set seq = 5")
    with pytest.raises(checkpoints.CheckpointError, match="shrunk from 25 to 5"):
        await publisher.publish(connect, LEDGER)


async def _run(command: list[str]) -> subprocess.CompletedProcess:
    import asyncio

    return await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )


async def _in_thread(work) -> None:
    import asyncio

    await asyncio.to_thread(work)


class _Bridge(httpx.BaseTransport):
    """Lets the witness, which is not asynchronous, call the API in this loop, with its key."""

    def __init__(self, api) -> None:
        import asyncio

        self._api = api
        self._loop = asyncio.get_running_loop()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        import asyncio

        call = self._api.call(
            "service", request.method, str(request.url.raw_path, "ascii"), content=request.read()
        )
        answer = asyncio.run_coroutine_threadsafe(call, self._loop).result(30)
        return httpx.Response(answer.status_code, content=answer.content, request=request)
