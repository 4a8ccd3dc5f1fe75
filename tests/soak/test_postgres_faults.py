"""PostgreSQL restarts, cancels, runs out of room; clocks jump: nothing is lost, every answer has a name."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest

from ledger_service.domain.commands import OpenAccount
from ledger_service.engine import lease, store
from ledger_service.engine import writer as engine_writer
from ledger_service.engine.protocol import Committed, Unknown
from ledger_service.engine.verify import verify
from ledger_service.engine.writer import LedgerWriter
from tests import servers
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase
from tests.soak.durable_postgres import DurablePostgres
from tests.soak.writers import offer, writing

WALLETS = [f"customer:{number}:wallet" for number in range(8)]


@pytest.fixture(scope="module")
def durable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DurablePostgres]:
    """A PostgreSQL of this module's own, with fsync."""
    server = DurablePostgres(tmp_path_factory.mktemp("durable"))
    server.start()
    yield server
    if server.process is not None:
        servers.end(server.process, signal.SIGQUIT)


@pytest.fixture(scope="module")
def _template(durable: DurablePostgres) -> LedgerDatabase:
    return durable.ledger_database()


@pytest.fixture
def database(
    durable: DurablePostgres, _template: LedgerDatabase, request: pytest.FixtureRequest
) -> LedgerDatabase:
    name = f"faults_{abs(hash(request.node.name))}"
    server = servers.Postgres(durable.server.admin_url)
    return LedgerDatabase(server.create_database(name, template=servers.TEMPLATE))


@contextlib.asynccontextmanager
async def opened(database: LedgerDatabase) -> AsyncIterator[LedgerWriter]:
    """A writer with a ledger and accounts."""
    owner = await asyncpg.connect(database.owner_url)
    await store.create_head(owner, "simulated")
    await owner.close()
    async with writing(database.url("writer")) as writer:
        await offer(writer, OPENING, *(OpenAccount(one, "USD", "key_test") for one in WALLETS))
        yield writer


class Load:
    """Posts until it is stopped, and asks again what was left open: nothing may stay so."""

    def __init__(self, writer: LedgerWriter) -> None:
        self.seqs: dict[str, int] = {}
        self.unknown = 0
        self._writer = writer
        self._stop = False
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(4)]

    async def _work(self, worker: int) -> None:
        number = 0
        while not self._stop:
            number += 1
            key = f"{worker}-{number}"
            while key not in self.seqs:
                command = posting(key, (WALLETS[worker], 1), (WALLETS[worker + 4], -1))
                (verdict,) = await asyncio.wait_for(offer(self._writer, command), 60)
                if isinstance(verdict, Committed):
                    self.seqs[key] = verdict.seq
                else:
                    assert isinstance(verdict, Unknown), verdict
                    self.unknown += 1
                    await asyncio.sleep(0.05)

    async def more(self, transactions: int) -> None:
        """Until so many more are acknowledged."""
        until = len(self.seqs) + transactions
        async with asyncio.timeout(60):
            while len(self.seqs) < until:
                await asyncio.sleep(0.01)
                for task in self._tasks:
                    if task.done():
                        task.result()

    async def end(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


def assert_exact(database: LedgerDatabase, load: Load) -> None:
    """Everything acknowledged is there once, nothing else is, and all of it verifies."""
    with psycopg.connect(database.owner_url) as connection:
        rows = connection.execute(
            "select seq from ledger.journal where event_type = 'transaction.posted' order by seq"
        ).fetchall()
    assert [seq for (seq,) in rows] == sorted(load.seqs.values())
    assert verify(database.owner_url, None, full=True).findings == []


async def test_restarts_under_load(durable: DurablePostgres, database: LedgerDatabase) -> None:
    async with opened(database) as writer:
        load = Load(writer)
        fast, immediate = signal.SIGINT, signal.SIGQUIT
        for how in (fast, immediate):
            await load.more(30)
            assert durable.process is not None
            durable.process.send_signal(how)
            await asyncio.to_thread(durable.process.wait)
            await asyncio.to_thread(durable.start)
        await load.more(30)
        await load.end()
    assert_exact(database, load)


@pytest.mark.parametrize("function", ["pg_cancel_backend", "pg_terminate_backend"])
async def test_the_writers_sessions_are_cancelled_and_ended_under_load(
    durable: DurablePostgres, database: LedgerDatabase, function: str
) -> None:
    name = database.owner_url.rpartition("/")[2]
    admin = await asyncpg.connect(durable.server.admin_url)
    async with opened(database) as writer:
        load = Load(writer)
        for _ in range(20):
            await load.more(5)
            await admin.execute(
                f"select {function}(pid) from pg_stat_activity where datname = $1", name
            )
        await load.more(20)
        await load.end()
    await admin.close()
    assert_exact(database, load)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, small enough to be filled."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here: run as root to fill a disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_full_disk_is_named_and_loses_nothing(small_disk: Path) -> None:
    server = DurablePostgres(small_disk / "postgres")
    server.start("-c", "max_wal_size=48MB", "-c", "shared_buffers=16MB")
    ballast = small_disk / "ballast"
    try:
        database = server.ledger_database()
        async with opened(database) as writer:
            load = Load(writer)
            await load.more(30)
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while file.write(bytes(1 << 16)):
                    pass
            # what was begun before is finished, until PostgreSQL itself needs room
            (verdict, *_) = await _fill(writer)
            assert isinstance(verdict, Unknown), verdict
            ballast.unlink()
            if server.process is not None and server.process.poll() is not None:
                await asyncio.to_thread(server.start)
            await load.more(30)
            await load.end()
        with psycopg.connect(database.owner_url) as connection:
            rows = connection.execute("select seq from ledger.idempotency").fetchall()
        assert {seq for (seq,) in rows} >= set(load.seqs.values())
        assert verify(database.owner_url, None, full=True).findings == []
    finally:
        if server.process is not None:
            servers.end(server.process, signal.SIGQUIT)


async def _fill(writer: LedgerWriter):
    for number in range(400):
        commands = [
            posting(f"fill-{number}-{item}", (WALLETS[0], 1), (WALLETS[1], -1))
            for item in range(1000)
        ]
        verdicts = await asyncio.wait_for(offer(writer, *commands), 60)
        if not isinstance(verdicts[0], Committed):
            return verdicts
    raise AssertionError("the disk was never full")


class SteppingClock(dt.datetime):
    """The machine's clock, and how far it was set wrong."""

    off = dt.timedelta()

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
        return dt.datetime.now(tz) + cls.off


async def test_recorded_at_never_goes_back_when_the_clock_does(
    database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        engine_writer, "dt", type("dt", (), {"datetime": SteppingClock, "UTC": dt.UTC})
    )
    async with opened(database) as writer:
        load = Load(writer)
        for hours in (0, 3, -2, 0, -48, 1):
            monkeypatch.setattr(SteppingClock, "off", dt.timedelta(hours=hours))
            await load.more(10)
        await load.end()
    # a writer that begins anew must not go back behind its predecessor either
    monkeypatch.setattr(SteppingClock, "off", dt.timedelta(hours=-5))
    async with writing(database.url("writer")) as writer:
        again = Load(writer)
        again.seqs = load.seqs
        await again.more(10)
        await again.end()
    assert_exact(database, again)
    with psycopg.connect(database.owner_url) as connection:
        row = connection.execute(
            "select max(recorded_at) - min(recorded_at) from ledger.journal"
        ).fetchone()
    assert row is not None
    assert row[0] >= dt.timedelta(hours=3)


async def test_a_lease_from_a_clock_that_ran_ahead_lapses_all_the_same(
    database: LedgerDatabase,
) -> None:
    """The holder died, the server's clock was set back a day: the standby waits for no tomorrow."""
    connection = await asyncpg.connect(database.url("writer"))
    assert await lease.acquire(connection, "simulated", "dead", "127.0.0.1:1")
    assert not await lease.acquire(connection, "simulated", "standby", "127.0.0.1:2")
    await connection.execute("update ledger.lease set expires_at = now() + interval '1 day'")
    assert await lease.acquire(connection, "simulated", "standby", "127.0.0.1:2")
    assert await lease.address_of(connection, "simulated") == "127.0.0.1:2"
    await connection.close()
