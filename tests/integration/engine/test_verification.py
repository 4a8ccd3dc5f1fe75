"""Tampering is found: by `tally verify`, by the offline verifier, by the publisher."""

from __future__ import annotations

import ast
import base64
import shutil
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger_service.engine import checkpoints, offline_verifier
from ledger_service.engine.checkpoints import Publisher
from ledger_service.engine.pack import write_pack
from ledger_service.engine.proofs import ProofError
from ledger_service.engine.verify import Keys, verify
from tests.integration.engine.conftest import LEDGER, local_writer
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
