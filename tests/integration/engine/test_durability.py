"""No configuration makes the ledger acknowledge what is not on disk."""

from __future__ import annotations

import asyncpg
import pytest

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
