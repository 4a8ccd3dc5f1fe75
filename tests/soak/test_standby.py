"""One synchronous standby: what was acknowledged survives the loss of the primary; `make soak-standby`
is the long form."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import psycopg
import pytest

from ledger_service.domain.commands import OpenAccount
from ledger_service.engine import store
from ledger_service.engine.protocol import Committed, Refused, Unknown, Verdict
from tests.ledger_book import OPENING, posting
from tests.servers import LedgerDatabase
from tests.soak.standby import Pair, pair
from tests.soak.writers import offer, settled, writing

WALLET, FBO = "customer:1:wallet", "bank:fbo"


@pytest.fixture
def both(tmp_path: Path) -> Iterator[tuple[Pair, LedgerDatabase]]:
    with pair(tmp_path) as found:
        yield found


def pay(key: str, amount: int = 1):
    """Into the wallet; a negative amount takes out of it."""
    return posting(key, (FBO, amount), (WALLET, -amount))


async def stays_open(*answers: asyncio.Future[list[Verdict]], seconds: float = 1.0) -> None:
    """Nothing is answered for a while, and will not be by itself."""
    done, _ = await asyncio.wait(answers, timeout=seconds)
    assert not done, [answer.result() for answer in done]


def cancel_waiting(url: str, function: str) -> int:
    """Cancel or end every session that waits for the standby; how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        rows = connection.execute(
            f"select {function}(pid) from pg_stat_activity where wait_event = 'SyncRep'"
        ).fetchall()
    return len(rows)


async def test_nothing_acknowledged_is_lost_with_the_primary(
    both: tuple[Pair, LedgerDatabase],
) -> None:
    servers, database = both
    admin = servers.primary.server.admin_url
    admin_database = admin.rpartition("/")[0] + "/tallystick_template"
    owner = await asyncpg.connect(database.owner_url)
    await store.create_head(owner, "simulated")
    await owner.close()
    acknowledged: dict[str, int] = {}

    async def acknowledge(key: str, answer: asyncio.Future[list[Verdict]]) -> None:
        (verdict,) = await asyncio.wait_for(answer, 30)
        if isinstance(verdict, Unknown):
            (verdict,) = await settled(writer, pay(key))
        assert isinstance(verdict, Committed), verdict
        acknowledged[key] = verdict.seq

    async with writing(database.url("writer")) as writer:
        account = OpenAccount(WALLET, "USD", "key_test", None, "0")
        await offer(writer, OPENING, account, OpenAccount(FBO, "USD", "key_test"))
        await acknowledge("first", offer(writer, pay("first", 5)))

        # The standby hangs: a commit waits for it, and who cuts the wait short gets no answer.
        assert servers.standby.process is not None
        family = [psutil.Process(servers.standby.process.pid)]
        family += family[0].children(recursive=True)
        for process in family:
            process.send_signal(signal.SIGSTOP)
        waiting = offer(writer, pay("waiting"))
        for function in ("pg_cancel_backend", "pg_terminate_backend", "pg_cancel_backend"):
            await stays_open(waiting, seconds=0.5)
            assert await asyncio.to_thread(cancel_waiting, admin_database, function) > 0
            await stays_open(waiting, seconds=0.3)
        for process in family:
            process.send_signal(signal.SIGCONT)
        await acknowledge("waiting", waiting)

        # Two primaries: the old one can acknowledge nothing, nor refuse on what it knew.
        await asyncio.to_thread(servers.promote)
        late = offer(writer, pay("late", -100))
        await stays_open(late)
        alone = offer(writer, pay("alone"))
        await stays_open(alone)
        servers.primary.kill()
        assert isinstance((await asyncio.wait_for(late, 30))[0], Refused)
        await acknowledge("alone", alone)
        await acknowledge("after", offer(writer, pay("after")))

    journal = database.owner_url
    with psycopg.connect(journal) as connection:
        rows = connection.execute(
            "select i.seq from ledger.idempotency i join ledger.journal j using (ledger, seq)"
        ).fetchall()
    assert sorted(seq for (seq,) in rows) == sorted(acknowledged.values())
    assert len(set(acknowledged.values())) == 4

    await _old_primary_is_mute(servers, database)


async def _old_primary_is_mute(servers: Pair, database: LedgerDatabase) -> None:
    """It comes back as if nothing had been: even a writer that needs no lease gets nothing out of it."""
    await asyncio.to_thread(servers.primary.start)
    port = servers.primary.server.port
    place = database.url("writer").rpartition("@")[0]
    url = f"{place}@127.0.0.1:{port}/tallystick_template"
    async with writing(url) as stale:
        answers = [offer(stale, pay("stale")), offer(stale, pay("first", 5))]
        await stays_open(*answers, seconds=1.5)
