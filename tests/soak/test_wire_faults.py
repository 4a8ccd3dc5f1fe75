"""The wire fails between writer and PostgreSQL, and between API node and writer: found, never doubled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import asyncpg
import pytest

from ledger_service.engine.client import LedgerClient
from ledger_service.engine.protocol import Committed
from ledger_service.engine.verify import verify
from tests.integration.engine.conftest import ACCOUNTS, LEDGER, StartWriter, open_ledger
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase
from tests.soak.proxy import Proxy, before_the_writer
from tests.soak.writers import offer, writing

SENT = {"one statement": b"transaction.posted", "several": b"COMMIT;\0"}
"""What the writer says last of a commit. A batch with an account to open takes several statements."""
DONE = {"one statement": b"D\0\0\0\x0b\0\x01\0\0\0\x01\x01", "several": b"C\0\0\0\x0bCOMMIT\0"}
"""How PostgreSQL says that it is durable: the row with true; the end of COMMIT."""


def pay(key: str):
    return posting(key, (ACCOUNTS[0], 1), (ACCOUNTS[1], -1))


async def count(database: LedgerDatabase) -> int:
    connection = await asyncpg.connect(database.owner_url)
    try:
        return await connection.fetchval(
            "select count(*) from ledger.journal where event_type = 'transaction.posted'"
        )
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def through(database: LedgerDatabase) -> AsyncIterator[tuple[Proxy, str]]:
    """A proxy before PostgreSQL, and the writer's address through it."""
    parts = urlsplit(database.url("writer"))
    async with Proxy("127.0.0.1", parts.port or 0) as proxy:
        netloc = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.port}"
        yield proxy, parts._replace(netloc=netloc).geturl()


@pytest.mark.parametrize("statements", SENT)
@pytest.mark.parametrize("cut", ["commit lost", "answer lost"])
async def test_an_ambiguous_commit_is_resolved_and_never_doubled(
    ledger_database: LedgerDatabase, cut: str, statements: str
) -> None:
    """The writer can't know which of the two it was; PostgreSQL can."""
    from ledger_service.domain.commands import OpenAccount
    from ledger_service.engine import store

    owner = await asyncpg.connect(ledger_database.owner_url)
    await store.create_head(owner, LEDGER)
    await owner.close()
    accounts = [OpenAccount(account, "USD", "key_test") for account in ACCOUNTS[:7]]
    async with through(ledger_database) as (proxy, url), writing(url) as writer:
        await offer(writer, OPENING, *accounts[:2])
        seqs = []
        for number in range(5):
            if cut == "answer lost":
                proxy.cut_answer = lambda data: DONE[statements] in data
            else:
                proxy.cut_request = lambda data: SENT[statements] in data
            answers = [offer(writer, pay(f"{number}-{item}")) for item in range(3)]
            if statements == "several":
                answers.append(offer(writer, accounts[2 + number]))
            for (verdict,) in await asyncio.wait_for(asyncio.gather(*answers), 30):
                assert isinstance(verdict, Committed), verdict
                assert not verdict.replayed
                seqs.append(verdict.seq)
        assert proxy.cuts == 5
        assert writer.epoch == 6
    assert sorted(seqs) == list(range(min(seqs), min(seqs) + len(seqs)))
    assert await count(ledger_database) == 15
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_answers_cut_delayed_and_dropped_on_the_way_to_the_api_are_found(
    ledger_database: LedgerDatabase,
    start_writer: StartWriter,
    client: LedgerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start_writer()
    await open_ledger(client)
    async with before_the_writer(client, LEDGER, monkeypatch) as proxy:
        seqs = []
        for number in range(12):
            match number % 4:
                case 0:
                    proxy.cut_answer = lambda data: len(data) > 40
                case 1:
                    proxy.cut_request = lambda data: len(data) > 100
                case 2:
                    proxy.delay_s = 0.05
                case 3:
                    proxy.delay_s = 0.0
                    proxy.open.clear()
                    asyncio.get_running_loop().call_later(0.3, proxy.cut)
                    asyncio.get_running_loop().call_later(0.3, proxy.open.set)
            commands = [pay(f"{number}-{item}") for item in range(3)]
            verdicts = await client.submit(LEDGER, commands, deadline_s=30)
            seqs += [verdict.seq for verdict in verdicts]
        assert proxy.cuts == 6
    assert len(set(seqs)) == 36
    assert seqs == sorted(seqs)
    assert await count(ledger_database) == 36
    assert verify(ledger_database.owner_url, None, full=True).findings == []
