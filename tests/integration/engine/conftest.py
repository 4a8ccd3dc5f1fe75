"""Writers for tests: one in the test's process, or processes of their own."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import msgspec
import psycopg
import pytest

from ledger_service.domain.commands import OpenAccount, approval_of
from ledger_service.domain.rule_commands import DeclareRule
from ledger_service.engine import projector, store
from ledger_service.engine.charts import known_charts
from ledger_service.engine.client import LedgerClient
from ledger_service.engine.writer import LedgerWriter, Limits
from tests.ledger_book import OPENING
from tests.servers import LedgerDatabase, end

LEDGER = "simulated"
MEETING = ("meets-97493", "meets-15625265"), ("meets-8369909", "meets-26197893")
"""Pairs of keys of this ledger whose digests agree in the six bytes that the index of keys holds."""
SECRET = "secret of the tests"
LOG_SEED = base64.b64encode(b"l" * 32).decode()
ACCOUNTS = [f"customer:{number}:wallet" for number in range(20)]

# A lease shorter than the product's: that it lapses is tested, not how long that takes. And no caution:
# retries here come soon after a take-over, and are to meet the index of keys.
WRITER = (
    "from ledger_service.engine import lease, service, writer; "
    "lease.LEASE_SECONDS = 2.0; writer.CAUTION_S = 0.0; service.main()"
)
StartWriter = Callable[..., subprocess.Popen]


@pytest.fixture
def start_writer(ledger_database: LedgerDatabase, tmp_path: Path) -> Iterator[StartWriter]:
    """A function that starts a writer process on the test's database."""
    started: list[subprocess.Popen] = []

    def start() -> subprocess.Popen:
        with (tmp_path / f"writer-{len(started)}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", WRITER],
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "TALLYSTICK_DATABASE_URL": ledger_database.url("writer"),
                    "TALLYSTICK_WRITER_SECRET": SECRET,
                    "TALLYSTICK_LOG_KEY": LOG_SEED,
                },
            )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        end(process)


@pytest.fixture
async def client(ledger_database: LedgerDatabase) -> AsyncIterator[LedgerClient]:
    """A line to whatever writers run."""
    line = LedgerClient(ledger_database.url("api"), SECRET)
    yield line
    await line.close()


async def open_ledger(client: LedgerClient, *, floor: str | None = None) -> None:
    """Open the ledger and its accounts through a writer process."""
    verdict = await client.open_ledger(OPENING, deadline_s=30)
    assert verdict.seq == 1
    commands = [OpenAccount(account, "USD", "key_test", None, floor) for account in ACCOUNTS]
    verdicts = await client.submit(LEDGER, [*commands, OpenAccount("bank:fbo", "USD", "key_test")])
    assert all(hasattr(verdict, "seq") for verdict in verdicts), verdicts


@contextlib.asynccontextmanager
async def local_writer(
    database: LedgerDatabase, ledger: str = LEDGER, **limits: int
) -> AsyncIterator[LedgerWriter]:
    """A writer without leases, in this process; the ledger's head is made first."""
    import asyncio

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.url("writer"))

    async def holds_lease() -> bool:
        return True

    connection = await connect()
    await store.create_head(connection, ledger)
    await connection.close()
    writer = LedgerWriter(ledger, connect, known_charts(), holds_lease, Limits(**limits))
    running = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        writer.stop()
        await asyncio.wait_for(running, 20)


async def follow(database: LedgerDatabase, ledger: str = LEDGER) -> None:
    """Bring the history to the head, as the writer's service does, with its role."""
    connection = await asyncpg.connect(database.url("writer"))
    head = await connection.fetchval("select seq from ledger.head where ledger = $1", ledger)
    while await projector.step(connection, ledger) < head:
        pass
    await connection.close()


def make_checker(owner: psycopg.Connection) -> None:
    """A person, signed in, who may approve what others ask for."""
    owner.execute(
        "insert into security.person (user_id, user_name, password_hash, roles, demo) "
        "values ('usr_1', 'checker', 'x', array['approver'], false) on conflict do nothing"
    )
    owner.execute(
        "insert into security.session (session_id, user_id, secret_hash, expires_at) "
        "values ('ses_1', 'usr_1', 'x', now() + interval '1 day') on conflict do nothing"
    )


def approve(owner: psycopg.Connection, approval: str, digest: str) -> None:
    """The checker's word for what has this digest; no effect where it was given before."""
    owner.execute(
        "insert into security.approval (approval_id, kind, subject, digest, facts, requested_by, "
        "requested_for, expires_at, status, decided_by, decided_at, session_id, reason) "
        "values (%s, 'tested', 'tested', %s, '{}', 'usr_2', 'usr_2', now() + interval '1 hour', "
        "'approved', 'usr_1', now(), 'ses_1', 'fine') on conflict do nothing",
        (approval, digest),
    )


def by_two(database: LedgerDatabase, command: DeclareRule) -> DeclareRule:
    """A rule's declaration with the checker's word for it."""
    command = msgspec.structs.replace(command, approval=f"apr_{command.rule}_{command.since}")
    needed = approval_of(LEDGER, command)
    assert needed is not None
    with psycopg.connect(database.owner_url) as owner:
        make_checker(owner)
        approve(owner, *needed)
    return command


def wait_until(check: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something to come true. Errors: AssertionError."""
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.05)
