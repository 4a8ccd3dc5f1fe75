"""What follows the journal, as the writer hands it over: the same rows as the journal gives."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import types
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import pytest

from ledger_service.domain.commands import ChangeAccount, OpenAccount
from ledger_service.engine import deciding, projector
from ledger_service.engine.batch import Batch
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.projector import Projector
from ledger_service.engine.protocol import Refused
from ledger_service.engine.rebuild import drift
from tests.integration.engine.conftest import LEDGER, local_writer
from tests.integration.engine.test_writer import A, B, opened, submit
from tests.ledger_book import capturing, holding, posting
from tests.servers import LedgerDatabase


@contextlib.asynccontextmanager
async def following(database: LedgerDatabase) -> AsyncIterator[Projector]:
    """A projector with the writer's role, as its service runs it."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.url("writer"))

    found = Projector(LEDGER, connect)
    task = asyncio.create_task(found.follow())
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.wait({task})


async def caught_up(database: LedgerDatabase) -> None:
    connection = await asyncpg.connect(database.url("api"))
    head = await connection.fetchval("select seq from ledger.head")
    await projector.caught_up(connection, LEDGER, head)
    await connection.close()


def differing(database: LedgerDatabase) -> dict[str, int]:
    """Rows of the history that are not what the journal says, by table."""
    with psycopg.connect(database.owner_url) as connection:
        return drift(connection, LEDGER, HISTORY).differing


def facts(database: LedgerDatabase) -> tuple[int, ...]:
    """How many rows each table has: none of them is empty."""
    with psycopg.connect(database.owner_url) as connection:
        return tuple(
            connection.execute(f"select count(*) from ledger.{table.name}".encode()).fetchone()[0]
            for table in HISTORY.tables
        )


def busy_day(day: int, choose: random.Random) -> list:
    """Every kind of command that leaves a trace in the history."""
    earlier = f"2026-0{choose.randint(1, 6)}-1{day}T12:00:00Z"
    return [
        posting(f"{day}.1", (A, 50), (B, -50), metadata={"invoice": f"{day % 2}"}),
        posting(f"{day}.2", (A, 30), (A, 20), (B, -50), effective_at=earlier),
        posting(f"{day}.3", (B, 7), (A, -7)),
        posting(f"{day}.4", (B, 10**9), (A, -(10**9)), imposed=True),
        posting(f"{day}.5", (A, 1), (B, -2)),
        holding(f"{day}.6", (A, 20), (B, -20)),
        OpenAccount(f"customer:{90 + day}:wallet", "USD", "key_test"),
    ]


async def test_what_is_handed_over_becomes_the_rows_that_the_journal_gives(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several days, which begin in the ledger's time zone, not at midnight UTC."""
    moment = dt.datetime(2026, 7, 1, 3, 58, tzinfo=dt.UTC)

    class Clock(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return moment

    monkeypatch.setattr(deciding, "dt", types.SimpleNamespace(datetime=Clock, UTC=dt.UTC))
    choose = random.Random(7)
    async with following(ledger_database) as followed, local_writer(ledger_database) as writer:
        writer._on_commit = followed.take
        await opened(writer)
        for day in range(6):
            moment += dt.timedelta(hours=9, minutes=choose.randint(0, 59))
            verdicts = await submit(writer, *busy_day(day, choose))
            assert [v.code for v in verdicts if isinstance(v, Refused)] == ["unbalanced"]
            placed = verdicts[5].seq
            await submit(writer, capturing(f"{day}.7", placed, 5, ends_hold=False))
            await submit(writer, ChangeAccount(A, "open", "review", "usr_1"))
            if day % 2:
                await caught_up(ledger_database)
        await caught_up(ledger_database)
    assert differing(ledger_database) == {}
    assert all(facts(ledger_database)), facts(ledger_database)


async def test_what_is_not_handed_over_is_derived_and_nothing_is_counted_twice(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the batches are handed over, some of them twice, while another one follows too; and
    what the journal gave has ended in the midst of a batch by the time it is handed over."""
    monkeypatch.setattr(projector, "STEP_EVENTS", 4)
    monkeypatch.setattr(projector, "PAUSE_S", 0.001)
    monkeypatch.setattr(projector, "IDLE_S", 0.01)
    monkeypatch.setattr(projector, "WAIT_S", 30)  # steps of few events are many
    choose = random.Random(3)
    async with (
        following(ledger_database) as one,
        following(ledger_database) as other,
        local_writer(ledger_database) as writer,
    ):

        def take(batch: Batch) -> None:
            for followed in choose.choices((one, other), k=choose.randint(0, 3)):
                followed.take(batch)

        def take_late(batch: Batch) -> None:
            asyncio.get_running_loop().call_later(0.02, take, batch)

        writer._on_commit = take_late
        await opened(writer)
        for batch in range(100):
            together = [
                posting(f"k{batch}.{number}", (A, 5), (B, -5), metadata={"invoice": "1"})
                for number in range(choose.randint(1, 9))
            ]
            await submit(writer, *together)
        await caught_up(ledger_database)
    assert differing(ledger_database) == {}


async def test_a_read_does_not_wait_until_the_history_has_rested(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "REST_S", 60)
    monkeypatch.setattr(projector, "IDLE_S", 60)
    async with following(ledger_database) as followed, local_writer(ledger_database) as writer:
        writer._on_commit = followed.take
        await opened(writer)
        for number in range(3):
            await submit(writer, posting(f"k{number}", (A, 5), (B, -5)))
            await caught_up(ledger_database)
    assert differing(ledger_database) == {}


async def test_what_nobody_waits_for_is_written_in_one_step(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "REST_S", 60)
    async with following(ledger_database) as followed, local_writer(ledger_database) as writer:
        writer._on_commit = followed.take
        await opened(writer)
        await caught_up(ledger_database)
        for number in range(5):
            await submit(writer, posting(f"k{number}", (A, 5), (B, -5)))
            await asyncio.sleep(2 * projector.PAUSE_S)
        await caught_up(ledger_database)
    with psycopg.connect(ledger_database.owner_url) as connection:
        rows = connection.execute("select cardinality(seqs) from ledger.posting_list").fetchall()
    assert max(row[0] for row in rows) >= 4
    assert differing(ledger_database) == {}


async def test_a_ledger_whose_position_is_lost_is_followed_from_its_first_event_on(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "IDLE_S", 60)
    async with following(ledger_database) as followed, local_writer(ledger_database) as writer:
        writer._on_commit = followed.take
        await opened(writer)
        connection = await asyncpg.connect(ledger_database.owner_url)
        await caught_up(ledger_database)
        await asyncio.sleep(10 * projector.PAUSE_S)  # now it waits for what is handed over
        await connection.execute("truncate ledger.projection")
        for table in HISTORY.tables:
            await connection.execute(f"truncate ledger.{table.name}")
        await connection.close()
        await submit(writer, posting("k", (A, 5), (B, -5)))
        await caught_up(ledger_database)
    assert differing(ledger_database) == {}


async def test_a_projector_that_can_keep_no_more_goes_on_by_the_journal(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projector, "TAKEN_EVENTS", 10)
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        async with following(ledger_database) as followed:
            writer._on_commit = followed.take
            await submit(writer, *(posting(f"k{n}", (A, 5), (B, -5)) for n in range(30)))
            await submit(writer, *(posting(f"l{n}", (A, 5), (B, -5)) for n in range(30)))
            assert len(followed._taken) <= 1
            await caught_up(ledger_database)
    assert differing(ledger_database) == {}


async def test_what_is_newer_than_the_statistics_is_not_held_against_every_account(
    ledger_database: LedgerDatabase,
) -> None:
    """PostgreSQL takes the newest events for one, and twenty million accounts for a few."""
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        names = [f"customer:{number}:wallet" for number in range(1000, 3000)]
        await submit(writer, *(OpenAccount(name, "USD", "key_test") for name in names))
        connection = await asyncpg.connect(ledger_database.owner_url)
        await connection.execute("vacuum analyze ledger.account, ledger.journal")
        await submit(writer, *(posting(f"k{n}", (A, 5), (B, -5)) for n in range(50)))
    head = await connection.fetchval("select seq from ledger.head")
    for table in HISTORY.tables:
        plan = await connection.fetch("explain " + HISTORY.due(table), LEDGER, head - 50, head)
        assert "Seq Scan on account" not in "\n".join(line[0] for line in plan), table.name
    await connection.close()
