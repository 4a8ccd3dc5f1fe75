"""Filling a ledger without HTTP: by the writer itself, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Callable, Iterable, Iterator

import asyncpg

from ledger_service.contract.events import Entry
from ledger_service.domain.commands import (
    Command,
    OpenLedger,
    PostTransaction,
    post_transaction,
)
from ledger_service.engine import store
from ledger_service.engine.charts import known_charts
from ledger_service.engine.deciding import Submission, deadline_in
from ledger_service.engine.projector import ProjectionBehind, Projector, caught_up
from ledger_service.engine.protocol import Committed, Verdict
from ledger_service.engine.writer import LedgerWriter
from tests.bench.load import pairs
from tests.ledger_book import arrived
from tests.servers import LedgerDatabase

_BATCH = 8_000
_AHEAD = 3
"""Batches under way, so that deciding and committing overlap."""


def opening(ledger: str) -> OpenLedger:
    """The command that opens a ledger in US dollars."""
    return OpenLedger(
        ledger,
        ["USD"],
        "America/New_York",
        "17:00",
        "us_federal_reserve",
        "us_fintech_fbo/1",
        "bench",
    )


def transfers(
    ledger: str,
    count: int,
    accounts: int,
    effective_at: Callable[[int], str | None] = lambda _item: None,
    workload: str = "uniform",
) -> Iterator[PostTransaction]:
    """Transfers as the API makes them. `effective_at`: when each counts; None: as it is recorded."""
    choose = random.Random(0)
    between = pairs(workload, accounts, choose)
    for item in range(count):
        debited, credited = next(between)
        amount = str(choose.randint(1, 99_999))
        yield post_transaction(
            ledger,
            f"filling-{item}",
            kind="transfer",
            entries=[
                Entry(debited, "debit", amount, "USD"),
                Entry(credited, "credit", amount, "USD"),
            ],
            effective_at=effective_at(item),
            actor="bench",
        )


async def carry_out(database: LedgerDatabase, ledger: str, commands: Iterable[Command]) -> None:
    """Open the ledger and carry out commands. Errors: AssertionError for one that is refused."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.url("writer"))

    async def holds_lease() -> bool:
        return True

    connection = await connect()
    await store.create_head(connection, ledger)
    await connection.close()
    projector = Projector(ledger, connect)
    writer = LedgerWriter(ledger, connect, known_charts(), holds_lease, on_commit=projector.take)
    running = asyncio.create_task(writer.run())
    following = asyncio.create_task(projector.follow())

    def submit(batch: list[Command]) -> asyncio.Future[list[Verdict]]:
        answer = asyncio.get_running_loop().create_future()
        writer.offer(
            Submission(
                arrived(batch),
                linked=False,
                deadline=deadline_in(600),
                in_doubt=False,
                with_events=False,
                answer=answer,
            )
        )
        return answer

    under_way = [submit([opening(ledger)])]
    left = iter(commands)
    while batch := list(itertools.islice(left, _BATCH)):
        under_way.append(submit(batch))
        if len(under_way) > _AHEAD:
            _expect_committed(await under_way.pop(0))
    for answer in under_way:
        _expect_committed(await answer)
    writer.stop()
    await running
    connection = await connect()
    while True:
        with contextlib.suppress(ProjectionBehind):
            await caught_up(connection, ledger, writer.committed_seq)
            break
    await connection.close()
    following.cancel()


def _expect_committed(verdicts: list[Verdict]) -> None:
    refused = [verdict for verdict in verdicts if not isinstance(verdict, Committed)]
    assert not refused, refused[0]
