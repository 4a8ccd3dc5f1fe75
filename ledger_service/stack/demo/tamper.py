"""Act 5: on a copy of the database, a superuser changes one cent; two verifiers find it.

The copy is a base backup on a server of its own, which is gone afterwards. The thief is thorough:
triggers are off, debits and credits still balance, and the account balances follow.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from ledger_service.stack import postgres, probes, settings
from ledger_service.stack.errors import StackError
from ledger_service.stack.home import Home, free_port

Say = Callable[[str], None]

_CHOSEN = """
select ledger, seq, bytes from ledger.journal
 where event_type = 'transaction.posted' and convert_from(bytes, 'UTF8')::json #>> '{entries,2}' is null
 order by ledger desc, seq limit 1
"""


@contextmanager
def copy_of_database(home: Home) -> Iterator[str]:
    """A running copy of the local PostgreSQL; gives its address as superuser, and ends it."""
    if settings.given(home, "postgres"):
        raise StackError(
            "not_local", "The copy is made of the local PostgreSQL; this home uses another."
        )
    folder = Path(tempfile.mkdtemp(prefix="tamper-", dir=home.path))
    port = free_port()
    backup = [
        str(postgres.binaries() / "pg_basebackup"), "-D", str(folder / "data"), "--checkpoint=fast",
        "-X", "stream", "-d", settings.admin_url(home),
    ]  # fmt: skip
    try:
        subprocess.run([*postgres.as_ordinary_user(), *backup], check=True, capture_output=True)
        command = [
            *postgres.as_ordinary_user(), str(postgres.binaries() / "postgres"), "-D", str(folder / "data"),
            "-p", str(port), "-h", "127.0.0.1", "-k", "", "-c", "fsync=off",
        ]  # fmt: skip
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        address = (
            f"postgresql://postgres:{home.secret('postgres')}@127.0.0.1:{port}/{settings.DATABASE}"
        )
        try:
            probes.wait("the copy", lambda: _not_up(address), 30)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=30)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _not_up(address: str) -> str | None:
    try:
        psycopg.connect(address, connect_timeout=2).close()
    except psycopg.OperationalError as error:
        return str(error)
    return None


def change_one_cent(address: str) -> tuple[str, int]:
    """As a superuser, make one transaction a cent larger, balances included; gives ledger and seq."""
    with psycopg.connect(address) as connection:
        connection.execute("set session_replication_role = replica")  # no trigger stands in the way
        row = connection.execute(_CHOSEN).fetchone()
        if row is None:
            raise StackError("nothing_posted", "There is no transaction to tamper with yet.")
        ledger, seq, raw = row
        event = json.loads(raw)
        first, *_ = event["entries"]
        old, new = f'"amount":"{first["amount"]}"', f'"amount":"{int(first["amount"]) + 1}"'
        changed = raw.replace(old.encode(), new.encode())
        connection.execute(
            "update ledger.journal set bytes = %s where ledger = %s and seq = %s",
            (changed, ledger, seq),
        )
        for entry in event["entries"]:
            column = "debits" if entry["side"] == "debit" else "credits"
            connection.execute(
                f"update ledger.balance b set {column} = {column} + 1 from ledger.account a "
                "where a.ledger = b.ledger and a.number = b.number and a.ledger = %s and a.account = %s",
                (ledger, entry["account"]),
            )
    return ledger, seq


def tally(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A `tally` command against the copy."""
    return subprocess.run(
        [sys.executable, "-m", "ledger_service.stack.cli", *arguments],
        env={**os.environ, "TALLYSTICK_DATABASE_URL": address},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def tamper(home: Home, say: Say) -> None:
    """Tamper with a copy and let both verifiers judge. Errors: `tampering_unnoticed`."""
    with copy_of_database(home) as address:
        before = tally(address, "verify", "--full", "--json")
        if before.returncode:
            raise StackError(
                "not_sound", f"The copy is not sound even before: {before.stdout[:500]}"
            )
        ledger, seq = change_one_cent(address)
        say(f"  On a copy, a superuser made transaction {seq} of {ledger} one cent larger.")
        report: dict[str, Any] = json.loads(tally(address, "verify", "--full", "--json").stdout)
        named = [f for f in report["findings"] if f["ledger"] == ledger and f["seq"] == seq]
        if report["sound"] or not named:
            raise StackError(
                "tampering_unnoticed", "`tally verify` did not name the changed event."
            )
        say(f"  tally verify: {ledger} seq {seq}: {named[0]['message']}")
        verdict = _offline(home, address, ledger)
        say(f"  The offline verifier, with the pack alone: {verdict}")


def _offline(home: Home, address: str, ledger: str) -> str:
    with tempfile.TemporaryDirectory(dir=home.path) as folder:
        packed = tally(address, "pack", "--ledger", ledger, "--out", folder)
        if packed.returncode:
            raise StackError("no_pack", packed.stderr.strip()[-500:])
        verifier = Path(__file__).parents[2] / "engine" / "offline_verifier.py"
        done = subprocess.run(
            [sys.executable, str(verifier), folder], capture_output=True, text=True, check=False
        )
        if done.returncode != 1:
            raise StackError("tampering_unnoticed", f"The offline verifier said: {done.stdout}")
        return (done.stdout + done.stderr).strip().splitlines()[-1]
