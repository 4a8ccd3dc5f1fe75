"""Writers as processes: stopped past the lease, killed under load, drained."""

from __future__ import annotations

import asyncio
import signal
import subprocess

import asyncpg
import msgspec
import psutil
import pytest

from ledger_service.engine import lease
from ledger_service.engine.client import LedgerClient
from ledger_service.engine.protocol import Committed, Refused, Unknown, proof_of_secret
from ledger_service.engine.verify import verify
from tests.integration.engine.conftest import (
    ACCOUNTS,
    LEDGER,
    SECRET,
    StartWriter,
    open_ledger,
    wait_until,
)
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase


def pay(key: str, number: int = 0):
    """A cent between two of the accounts."""
    payer, payee = ACCOUNTS[number % 20], ACCOUNTS[(number + 7) % 20]
    return posting(key, (payer, 1), (payee, -1))


async def holder_address(database: LedgerDatabase) -> str | None:
    connection = await asyncpg.connect(database.owner_url)
    try:
        return await lease.address_of(connection, LEDGER)
    finally:
        await connection.close()


async def test_a_writer_stopped_past_its_lease_never_acknowledges_again(
    ledger_database: LedgerDatabase, start_writer: StartWriter, client: LedgerClient
) -> None:
    """Two processes, one ledger; the first is frozen with a command on its way, then resumed."""
    first = start_writer()
    await open_ledger(client)
    (before,) = await client.submit(LEDGER, [pay("before")])
    old_address = await holder_address(ledger_database)
    assert old_address is not None
    start_writer()
    reader, to_first = await _line_to(old_address)
    first.send_signal(signal.SIGSTOP)
    # These two wait in the frozen process's socket: a payment, and a replay that rests on its book.
    to_first.write(_framed(1, pay("late")))
    to_first.write(_framed(2, pay("before")))
    await to_first.drain()
    (meanwhile,) = await client.submit(LEDGER, [pay("meanwhile")], deadline_s=60)
    assert isinstance(meanwhile, Committed)
    assert meanwhile.seq == before.seq + 1
    assert await holder_address(ledger_database) not in (None, old_address)
    first.send_signal(signal.SIGCONT)
    answers = await _answers(reader, 2)
    for verdicts in answers.values():
        assert verdicts is None or all(isinstance(verdict, Unknown) for verdict in verdicts)
    (after,) = await client.submit(LEDGER, [pay("after")])
    assert after.seq == meanwhile.seq + 1
    (late,) = await client.submit(LEDGER, [pay("late")])
    assert (late.seq, late.replayed) == (after.seq + 1, False)
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_ledger_is_found_open_whoever_writes_it(
    ledger_database: LedgerDatabase, start_writer: StartWriter, client: LedgerClient
) -> None:
    """The process that opens ledgers need not be the one that writes this one."""
    start_writer()
    await open_ledger(client)
    start_writer()
    connection = await asyncpg.connect(ledger_database.owner_url)
    opener = "select address from ledger.lease where ledger = '*'"
    async with asyncio.timeout(60):
        while await connection.fetchval(opener) == await holder_address(ledger_database):
            await connection.execute(
                "update ledger.lease set expires_at = now() where ledger = '*'"
            )
            await asyncio.sleep(0.3)
    await connection.close()
    await asyncio.sleep(1)  # until the first one has noticed
    again = await client.open_ledger(OPENING, deadline_s=5)
    assert (again.seq, again.replayed) == (1, True)
    other = msgspec.structs.replace(OPENING, time_zone="America/Chicago")
    assert (await client.open_ledger(other, deadline_s=5)).code == "ledger_exists"


async def _line_to(address: str):
    from ledger_service.engine.protocol import NONCE_BYTES

    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(proof_of_secret(SECRET, await reader.readexactly(NONCE_BYTES)) + bytes(16))
    return reader, writer


def _framed(number: int, command) -> bytes:
    from ledger_service.engine.protocol import Request, frame

    return frame(
        Request(
            number,
            LEDGER,
            [command],
            linked=False,
            deadline_ms=120_000,
            in_doubt=False,
            with_events=True,
        )
    )


async def _answers(reader: asyncio.StreamReader, count: int) -> dict:
    from ledger_service.engine.protocol import decode_reply

    found = {}
    while len(found) < count:
        size = int.from_bytes(await asyncio.wait_for(reader.readexactly(4), 30), "big")
        reply = decode_reply(await reader.readexactly(size))
        found[reply.number] = reply.verdicts
    return found


async def _killed(process: subprocess.Popen) -> None:
    process.kill()
    await asyncio.to_thread(process.wait)


async def _stopped_past_its_lease(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(3)
    process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize(("processes", "fate"), [(1, _killed), (2, _stopped_past_its_lease)])
async def test_a_holder_lost_under_load_loses_nothing_and_doubles_nothing(
    ledger_database: LedgerDatabase,
    start_writer: StartWriter,
    client: LedgerClient,
    processes: int,
    fate,
) -> None:
    """Judged by the client's own record of what was acknowledged."""
    started = [start_writer() for _ in range(processes)]
    await open_ledger(client)
    acknowledged: dict[str, int] = {}
    doubtful: set[str] = set()
    stop = asyncio.Event()

    async def load(worker: int) -> None:
        number = 0
        while not stop.is_set():
            keys = [f"{worker}-{number}-{item}" for item in range(20)]
            number += 1
            commands = [pay(key, index + worker) for index, key in enumerate(keys)]
            verdicts = await client.submit(LEDGER, commands, deadline_s=60)
            for key, verdict in zip(keys, verdicts, strict=True):
                if isinstance(verdict, Committed):
                    assert not verdict.replayed
                    acknowledged[key] = verdict.seq
                else:
                    doubtful.add(key)

    workers = [asyncio.create_task(load(worker)) for worker in range(4)]
    for _ in range(2):
        known = len(acknowledged)
        await asyncio.to_thread(wait_until, lambda known=known: len(acknowledged) > known + 200)
        holder = await _holder(ledger_database, started)
        await fate(holder)
        started = [process for process in started if process.poll() is None] or [start_writer()]
    known = len(acknowledged)
    await asyncio.to_thread(wait_until, lambda: len(acknowledged) > known + 200)
    stop.set()
    await asyncio.gather(*workers)
    report = verify(ledger_database.owner_url, None, full=True)
    assert report.findings == []
    assert len(set(acknowledged.values())) == len(acknowledged)
    for key in list(acknowledged)[::25] + sorted(doubtful)[:20]:
        (again,) = await client.submit(LEDGER, [pay_again(key)])
        if key in acknowledged:
            assert (again.seq, again.replayed) == (acknowledged[key], True)
    others = 1 + 1 + 1 + len(ACCOUNTS) + 1
    assert report.ledgers[LEDGER] >= len(acknowledged) + others
    assert report.ledgers[LEDGER] <= len(acknowledged) + len(doubtful) + others


async def _holder(database: LedgerDatabase, started: list[subprocess.Popen]) -> subprocess.Popen:
    """The process that holds the ledger's lease."""
    while True:
        address = await holder_address(database)
        for process in started:
            if any(
                f"{place.laddr.ip}:{place.laddr.port}" == address
                for place in psutil.Process(process.pid).net_connections("tcp")
                if place.status == psutil.CONN_LISTEN
            ):
                return process
        await asyncio.sleep(0.05)


def pay_again(key: str):
    """The command that `load` made under this key."""
    worker, _, item = (int(part) for part in key.split("-"))
    return pay(key, item + worker)


async def test_sigterm_answers_what_is_queued_and_gives_the_lease_back(
    ledger_database: LedgerDatabase, start_writer: StartWriter, client: LedgerClient
) -> None:
    process = start_writer()
    await open_ledger(client)
    pending = [asyncio.create_task(client.submit(LEDGER, [pay(f"p{n}")])) for n in range(50)]
    await asyncio.sleep(0.02)
    process.terminate()
    process.wait(20)
    assert process.returncode == 0
    assert await holder_address(ledger_database) is None
    start_writer()
    verdicts = [verdict for found in await asyncio.gather(*pending) for verdict in found]
    assert all(isinstance(verdict, Committed) for verdict in verdicts)
    assert len({verdict.seq for verdict in verdicts}) == 50


async def test_who_does_not_know_the_secret_is_cut_off_and_an_unknown_ledger_is_named(
    ledger_database: LedgerDatabase, start_writer: StartWriter, client: LedgerClient
) -> None:
    start_writer()
    await open_ledger(client)
    (missing,) = await client.submit("no_such_ledger", [pay("k")])
    assert isinstance(missing, Refused)
    assert missing.code == "ledger_not_open"
    stranger = LedgerClient(ledger_database.url("api"), "guess")
    (verdict,) = await stranger.submit(LEDGER, [pay("k")], deadline_s=1.5)
    assert isinstance(verdict, Unknown | Refused)
    await stranger.close()
    (mine,) = await client.submit(LEDGER, [pay("k")])
    assert not mine.replayed
    address = await holder_address(ledger_database)
    reader, writer = await _line_to_with(address or "", "guess")
    with pytest.raises(asyncio.IncompleteReadError):
        await asyncio.wait_for(reader.readexactly(1), 10)
    writer.close()


async def _line_to_with(address: str, secret: str):
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(proof_of_secret(secret, await reader.readexactly(32)) + bytes(16))
    return reader, writer
