"""A writer in the test's own process that believes to hold every lease: the worst one there can be."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from ledger_service.domain.commands import Command
from ledger_service.engine.charts import known_charts
from ledger_service.engine.deciding import Submission, deadline_in
from ledger_service.engine.durability import SESSION
from ledger_service.engine.protocol import Unknown, Verdict
from ledger_service.engine.writer import LedgerWriter


@contextlib.asynccontextmanager
async def writing(url: str) -> AsyncIterator[LedgerWriter]:
    """It runs while the block does, and is cut off at the end."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=10, server_settings=SESSION)

    async def holds_lease() -> bool:
        return True

    writer = LedgerWriter("simulated", connect, known_charts(), holds_lease)
    running = asyncio.create_task(writer.run())
    try:
        yield writer
    finally:
        running.cancel()
        await asyncio.wait({running})


def offer(writer: LedgerWriter, *commands: Command) -> asyncio.Future[list[Verdict]]:
    """Queue commands; gives the future of their verdicts."""
    answer = asyncio.get_running_loop().create_future()
    submission = Submission(
        list(commands),
        linked=False,
        deadline=deadline_in(60),
        in_doubt=False,
        with_events=False,
        answer=answer,
    )
    writer.offer(submission)
    return answer


async def settled(writer: LedgerWriter, *commands: Command) -> list[Verdict]:
    """The verdicts, asked for again while they are unknown, as callers do."""
    while True:
        verdicts = await asyncio.wait_for(offer(writer, *commands), 30)
        if not isinstance(verdicts[0], Unknown):
            return verdicts
