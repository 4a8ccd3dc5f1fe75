"""No configuration makes the ledger acknowledge what is not on disk."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest
import uvloop

from ledger_service.contract.service import Health
from ledger_service.engine import lease
from ledger_service.engine.checkpoints import Publisher
from ledger_service.engine.client import LedgerClient, _Line
from ledger_service.engine.service import WriterService
from tests.integration.engine.conftest import (
    ACCOUNTS,
    LEDGER,
    SECRET,
    StartWriter,
    open_ledger,
)
from tests.ledger_api import serving
from tests.ledger_book import posting
from tests.servers import LedgerDatabase

WEAK = ("off", "local", "remote_write")


@pytest.mark.parametrize("weak", WEAK)
async def test_the_writers_sessions_wait_for_the_disk_whatever_is_configured(
    ledger_database: LedgerDatabase, weak: str
) -> None:
    owner = await asyncpg.connect(ledger_database.owner_url)
    name = await owner.fetchval("select current_database()")
    await owner.execute(f'alter database "{name}" set synchronous_commit = {weak}')
    await owner.close()
    for query in ("", f"?synchronous_commit={weak}", f"?options=-csynchronous_commit%3D{weak}"):
        url = ledger_database.url("writer") + query
        connection = await _connected(url)
        try:
            assert await connection.fetchval("show synchronous_commit") == "on", query
        finally:
            await connection.close()


async def _connected(url: str) -> asyncpg.Connection:
    publisher = Publisher(bytes(32), "test")
    return await WriterService(url, SECRET, publisher, Health())._connect()


async def test_the_apis_sessions_do_too_when_they_are_used_again(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = await asyncpg.connect(ledger_database.owner_url)
    name = await owner.fetchval("select current_database()")
    await owner.execute(f'alter database "{name}" set synchronous_commit = off')
    await owner.close()
    async with serving(ledger_database, monkeypatch) as api:
        for _ in range(3):
            assert await api.pool.fetchval("show synchronous_commit") == "on"


async def test_submitting_goes_on_when_the_database_is_back(
    ledger_database: LedgerDatabase,
    start_writer: StartWriter,
    client: LedgerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The client's own questions to the database fail too: an outcome in doubt stays in doubt."""
    start_writer()
    await open_ledger(client)
    address_of, answer = lease.address_of, _Line.ask
    gone = [asyncpg.CannotConnectNowError(), asyncpg.ConnectionDoesNotExistError()]
    heard = []

    async def ask_and_lose(*arguments):
        heard.append(await answer(*arguments))
        if len(heard) == 1:
            raise ConnectionResetError
        return heard[-1]

    async def not_yet(*arguments):
        if gone and heard:
            raise gone.pop()
        return await address_of(*arguments)

    monkeypatch.setattr(_Line, "ask", ask_and_lose)
    monkeypatch.setattr(lease, "address_of", not_yet)
    command = posting("once", (ACCOUNTS[0], 1), (ACCOUNTS[9], -1))
    (verdict,) = await client.submit(LEDGER, [command])
    assert not gone
    assert verdict.seq == heard[0][0].seq
    assert not verdict.replayed


def test_a_line_that_has_just_died_is_a_lost_connection_and_no_surprise() -> None:
    """uvloop raises RuntimeError for a write into a transport that is closed but not yet missed."""

    async def ask_into_the_void() -> None:
        async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(bytes(32))

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            host, port = server.sockets[0].getsockname()
            loop = asyncio.get_running_loop()
            for ticks in range(5):
                _, line = await loop.create_connection(
                    lambda: _Line(SECRET, bytes(16), lambda _: asyncio.sleep(0, result=True)),
                    host,
                    port,
                )
                await line.greeted
                line.transport.abort()
                for _ in range(ticks):
                    await asyncio.sleep(0)
                with pytest.raises(ConnectionResetError):
                    await line.ask(
                        LEDGER,
                        [posting("k", (ACCOUNTS[0], 1), (ACCOUNTS[9], -1))],
                        {"linked": False, "in_doubt": False, "with_events": True},
                        1.0,
                    )

    uvloop.run(ask_into_the_void())
