"""No configuration makes the ledger acknowledge what is not on disk."""

from __future__ import annotations

import asyncpg
import pytest

from ledger_service.contract.service import Health
from ledger_service.engine.checkpoints import Publisher
from ledger_service.engine.service import WriterService
from tests.integration.engine.conftest import SECRET
from tests.ledger_api import serving
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
