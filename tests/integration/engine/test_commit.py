"""A commit is whole or not at all: only from where the writer left the ledger, and left its balances."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ledger_service.domain.book import Book
from ledger_service.domain.commands import OpenAccount
from ledger_service.domain.memory import lacks_of
from ledger_service.engine import reads, store
from ledger_service.engine.batch import Batch
from ledger_service.engine.charts import known_charts
from ledger_service.engine.deciding import Submission, deadline_in, decide_all
from tests.integration.engine.conftest import LEDGER, local_writer
from tests.integration.engine.test_writer import A, B, opened, submit
from tests.ledger_book import posting
from tests.servers import LedgerDatabase


@contextlib.asynccontextmanager
async def decided(
    database: LedgerDatabase,
) -> AsyncIterator[tuple[asyncpg.Connection, store.Rows, int]]:
    """A ledger with three transactions; its writer's connection, a fourth as rows, and the epoch."""
    async with local_writer(database) as writer:
        await opened(writer)
        await submit(writer, *(posting(f"k{n}", (A, 5), (B, -5)) for n in range(3)))
    connection = await asyncpg.connect(database.url("writer"))
    epoch, book, tree = await store.take_over(connection, LEDGER, known_charts())
    try:
        yield connection, await _rows(connection, book, tree), epoch
    finally:
        await connection.close()


async def _rows(connection: asyncpg.Connection, book: Book, tree) -> store.Rows:
    commands = [posting("k4", (A, 5), (B, -5))]
    await store.load(connection, book, lacks_of(book, commands))
    batch = Batch(book, tree)
    answer = asyncio.get_running_loop().create_future()
    asked = Submission(
        commands, linked=False, deadline=deadline_in(9), in_doubt=False, with_events=False,
        answer=answer,
    )  # fmt: skip
    await decide_all(book, batch, [asked], dt.datetime.now(dt.UTC))
    return store.Rows(batch)


async def state(connection: asyncpg.Connection) -> tuple[object, ...]:
    """Head, number of events and keys, sum of debits."""
    return tuple(
        await connection.fetchrow(
            "select h.seq, h.root, h.epoch, (select count(*) from ledger.journal), "
            "(select count(*) from ledger.idempotency), (select sum(debits) from ledger.balance) "
            "from ledger.head h"
        )
    )


async def test_it_is_written_whole_from_where_the_ledger_stands(
    ledger_database: LedgerDatabase,
) -> None:
    async with decided(ledger_database) as (connection, rows, epoch):
        before = await state(connection)
        await store.commit(connection, rows, epoch)
        after = await state(connection)
    assert (before[0], before[3:]) == (8, (8, 3, 15))
    assert (after[0], after[3:]) == (9, (9, 4, 20))


@pytest.mark.parametrize("behind", ["epoch", "seq"])
async def test_a_writer_that_was_passed_writes_nothing(
    ledger_database: LedgerDatabase, behind: str
) -> None:
    async with decided(ledger_database) as (connection, rows, epoch):
        before = await state(connection)
        if behind == "seq":
            rows.batch.first_seq -= 1
        with pytest.raises(store.Fenced):
            await store.commit(connection, rows, epoch - 1 if behind == "epoch" else epoch)
        assert await state(connection) == before


async def test_a_balance_that_others_moved_stops_the_whole_commit(
    ledger_database: LedgerDatabase,
) -> None:
    async with decided(ledger_database) as (connection, rows, epoch):
        await connection.execute("update ledger.balance set version = 2")
        before = await state(connection)
        with pytest.raises(asyncpg.RaiseError, match="0 of 2 balances"):
            await store.commit(connection, rows, epoch)
        assert await state(connection) == before


def meeting(digest: bytes, first: int) -> bytes:
    """Another digest, which agrees with one in all bytes that the index knows."""
    return bytes([first]) + digest[1:]


async def written_digest(connection: asyncpg.Connection) -> bytes:
    return bytes(await connection.fetchval("select max(digest) from ledger.idempotency") or b"")


async def test_a_key_that_was_written_before_stops_the_whole_commit(
    ledger_database: LedgerDatabase,
) -> None:
    """Whatever was overlooked when it was decided."""
    async with decided(ledger_database) as (connection, rows, epoch):
        rows.batch.digests[:] = [await written_digest(connection)]
        before = await state(connection)
        with pytest.raises(store.KeyStands):
            await store.commit(connection, rows, epoch)
        assert await state(connection) == before


async def test_keys_that_meet_in_the_index_are_two_keys(ledger_database: LedgerDatabase) -> None:
    """It holds six bytes of each digest: in a large ledger some agree in these by chance."""
    async with decided(ledger_database) as (connection, rows, epoch):
        first = await written_digest(connection)
        second = meeting(first, first[0] ^ 1)
        rows.batch.digests[:] = [second]
        await store.commit(connection, rows, epoch)
        found = await connection.fetch("select * from ledger.find_keys($1)", first + second)
        assert {row["digest"] for row in found} == {first, second}
        assert await reads.seq_of_key(connection, LEDGER, second) == rows.batch.last_seq
        assert await reads.seq_of_key(connection, LEDGER, meeting(first, first[0] ^ 2)) is None


@pytest.mark.parametrize("again", [0, 1, 2])
async def test_a_key_that_met_another_is_refused_again_all_the_same(
    ledger_database: LedgerDatabase, again: int
) -> None:
    async with decided(ledger_database) as (connection, _, _):
        first = await written_digest(connection)
        keys = [first, meeting(first, first[0] ^ 1), meeting(first, first[0] ^ 2)]
        insert = "insert into ledger.idempotency (digest, ledger, seq, request_hash) values "
        await connection.execute(f"{insert} ($1, $3, 90, $1), ($2, $3, 91, $2)", *keys[1:], LEDGER)
        for place in ("place, ", ""):
            into = insert.replace("(digest", f"({place}digest")
            values = '(0::"char", $1, $2, 92, $1)' if place else "($1, $2, 92, $1)"
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute(f"{into} {values}", keys[again], LEDGER)


async def test_a_key_twice_in_one_commit_stops_it(ledger_database: LedgerDatabase) -> None:
    async with decided(ledger_database) as (connection, rows, epoch):
        rows.batch.digests *= 2
        rows.batch.request_hashes *= 2
        rows.batch.key_seqs *= 2
        before = await state(connection)
        with pytest.raises(store.KeyStands):
            await store.commit(connection, rows, epoch)
        assert await state(connection) == before


async def test_a_commit_reads_no_balance_but_those_it_moves(
    ledger_database: LedgerDatabase,
) -> None:
    """And no key but those it asks for: plans are made while a ledger is small, and kept when it has
    grown."""
    names = [f"customer:{number}:wallet" for number in range(1000, 3000)]
    connection = await asyncpg.connect(ledger_database.owner_url)
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await submit(writer, posting("k", (A, 5), (B, -5)))
        await connection.execute("vacuum analyze ledger.balance, ledger.idempotency")
        for n in range(8):
            await submit(writer, posting(f"k{n}", (A, 5), (B, -5)))
        await submit(writer, *(OpenAccount(name, "USD", "key_test") for name in names))
        await submit(writer, *(posting(f"m{n}", (A, 5), (B, -5)) for n in range(1000)))
        for n in range(20):
            await submit(writer, posting(f"l{n}", (A, 5), (B, -5)))
    read = await connection.fetch(
        "select relname, seq_tup_read + idx_tup_fetch as rows from pg_stat_user_tables "
        "where relname in ('balance', 'idempotency')"
    )
    await connection.close()
    assert len(read) == 2
    assert all(row["rows"] < 5 * len(names) for row in read), read
