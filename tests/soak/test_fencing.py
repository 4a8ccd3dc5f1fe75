"""Two writers that both believe they hold the ledger: what one knows is worth nothing to the other."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from ledger_service.domain.commands import OpenAccount
from ledger_service.engine import store
from ledger_service.engine.client import LedgerClient
from ledger_service.engine.protocol import Committed, Possible, Refused, Unknown
from ledger_service.engine.verify import verify
from ledger_service.engine.writer import LedgerWriter
from tests.integration.engine.conftest import ACCOUNTS, LEDGER, StartWriter, open_ledger
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase
from tests.soak.proxy import before_the_writer
from tests.soak.writers import offer, settled, writing

WALLET, FBO = "customer:1:wallet", "bank:fbo"


def pay(key: str, amount: int, **options):
    """Into the wallet; a negative amount takes out of it."""
    return posting(key, (FBO, amount), (WALLET, -amount), **options)


async def open_wallet(database: LedgerDatabase, writer: LedgerWriter) -> None:
    """A ledger, and a wallet without money that may not fall below zero."""
    owner = await asyncpg.connect(database.owner_url)
    await store.create_head(owner, "simulated")
    await owner.close()
    wallet = OpenAccount(WALLET, "USD", "key_test", None, "0")
    await settled(writer, OPENING)
    await offer(writer, wallet, OpenAccount(FBO, "USD", "key_test"))


async def test_a_stale_writer_answers_nothing_from_its_own_memory(
    ledger_database: LedgerDatabase,
) -> None:
    """Money that another writer has acknowledged is there for every question sent afterwards."""
    url = ledger_database.url("writer")
    async with writing(url) as old:
        await open_wallet(ledger_database, old)
        (refused,) = await offer(old, pay("early", -5))
        assert isinstance(refused, Refused)
        async with writing(url) as new:
            for number in range(1, 4):
                (paid,) = await settled(new, pay(f"in-{number}", 5))
                assert isinstance(paid, Committed)
                # the old one believes the wallet to be empty, and needs no commit to say so
                (possible,) = await settled(old, pay(f"ask-{number}", -5, dry_run=True))
                (taken,) = await settled(old, pay(f"out-{number}", -5))
                assert isinstance(possible, Possible)
                assert isinstance(taken, Committed)
                assert taken.seq == paid.seq + 1
    assert verify(ledger_database.owner_url, None, full=True).findings == []


async def test_a_copy_that_reaches_a_stale_writer_late_is_not_carried_out(
    ledger_database: LedgerDatabase,
) -> None:
    """Its sender asked the new writer meanwhile, and was told that nothing happened."""
    url = ledger_database.url("writer")
    async with writing(url) as old:
        await open_wallet(ledger_database, old)
        async with writing(url) as new:
            (refused,) = await settled(new, pay("taken-out", -5))
            assert isinstance(refused, Refused)
            (paid,) = await settled(new, pay("paid-in", 5))
            (late,) = await asyncio.wait_for(offer(old, pay("taken-out", -5)), 30)
            assert isinstance(late, Unknown), late
            (after,) = await settled(old, pay("after", 1))
    assert after.seq == paid.seq + 1


async def test_a_copy_left_behind_on_a_lost_line_is_not_carried_out(
    ledger_database: LedgerDatabase,
    start_writer: StartWriter,
    client: LedgerClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The network held it back; on its new line the client was told that nothing happened."""
    start_writer()
    await open_ledger(client, floor="0")
    payer, payee = ACCOUNTS[0], ACCOUNTS[1]
    withdrawal = posting("taken-out", (payer, 5), (payee, -5))
    async with before_the_writer(client, LEDGER, monkeypatch) as proxy:
        await client.submit(LEDGER, [posting("by-proxy", (FBO, 1), (payee, -1))])
        proxy.linger_s = 1.0
        proxy.open.clear()
        proxy.is_named = False
        asyncio.get_running_loop().call_later(0.2, proxy.lose_callers)
        (refused,) = await client.submit(LEDGER, [withdrawal])
        assert isinstance(refused, Refused), refused
        (paid,) = await client.submit(LEDGER, [posting("paid-in", (FBO, 5), (payer, -5))])
        proxy.open.set()
        await asyncio.sleep(0.5)
        (after,) = await client.submit(LEDGER, [posting("after", (FBO, 1), (payee, -1))])
    assert after.seq == paid.seq + 1
