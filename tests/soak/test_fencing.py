"""Two writers that both believe they hold the ledger: what one knows is worth nothing to the other."""

from __future__ import annotations

import asyncio

import asyncpg

from ledger_service.domain.commands import OpenAccount
from ledger_service.engine import store
from ledger_service.engine.protocol import Committed, Possible, Refused
from ledger_service.engine.verify import verify
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase
from tests.soak.test_standby import offer, writing

WALLET, FBO = "customer:1:wallet", "bank:fbo"


def pay(key: str, amount: int, **options):
    """Into the wallet; a negative amount takes out of it."""
    return posting(key, (FBO, amount), (WALLET, -amount), **options)


async def test_a_stale_writer_answers_nothing_from_its_own_memory(
    ledger_database: LedgerDatabase,
) -> None:
    """Money that another writer has acknowledged is there for every question sent afterwards."""
    url = ledger_database.url("writer")
    owner = await asyncpg.connect(ledger_database.owner_url)
    await store.create_head(owner, "simulated")
    await owner.close()
    async with writing(url) as old:
        wallet = OpenAccount(WALLET, "USD", "key_test", None, "0")
        await offer(old, OPENING, wallet, OpenAccount(FBO, "USD", "key_test"))
        (refused,) = await offer(old, pay("early", -5))
        assert isinstance(refused, Refused)
        async with writing(url) as new:
            for number in range(1, 4):
                (paid,) = await asyncio.wait_for(offer(new, pay(f"in-{number}", 5)), 30)
                assert isinstance(paid, Committed)
                # the old one believes the wallet to be empty, and needs no commit to say so
                answers = [
                    offer(old, pay(f"ask-{number}", -5, dry_run=True)),
                    offer(old, pay(f"out-{number}", -5)),
                ]
                ((possible,), (taken,)) = await asyncio.wait_for(asyncio.gather(*answers), 30)
                assert isinstance(possible, Possible)
                assert isinstance(taken, Committed)
                assert taken.seq == paid.seq + 1
    assert verify(ledger_database.owner_url, None, full=True).findings == []
