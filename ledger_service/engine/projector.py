"""What follows the journal: day sums and the index of transactions, brought up to date after commits.

A step moves them over some events: rows and position move in one commit, under a lock of the position.
So every event is counted once, whoever steps and whatever is killed when. A read waits until what it
reads has what was committed before it was asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from ledger_service.engine.projections import HISTORY

log = structlog.get_logger()

STEP_EVENTS = 10_000
"""Events of one step."""
PAUSE_S = 0.01
"""Between looks for news; what has come meanwhile is one step."""
WAIT_S = 2.0
"""How long a read waits."""


class ProjectionBehind(Exception):
    """What follows the journal has not come as far as a read must see, within WAIT_S."""

    code = "projection_behind"

    def __init__(self, at: int, wanted: int) -> None:
        super().__init__(f"The history is at event {at}, not yet at {wanted}; try again.")


async def step(connection: Any, ledger: str) -> int:
    """Take the history on, up to STEP_EVENTS events; gives the `seq` it stands at."""
    async with connection.transaction():
        at = await connection.fetchval(
            "select seq from ledger.projection where ledger = $1 and name = $2 for update",
            ledger,
            HISTORY.name,
        )
        if at is None:
            await connection.execute(
                "insert into ledger.projection values ($1, $2, 0) on conflict do nothing",
                ledger,
                HISTORY.name,
            )
            return 0
        head = await connection.fetchval("select seq from ledger.head where ledger = $1", ledger)
        until = min(head, at + STEP_EVENTS)
        if until > at:
            await connection.execute(HISTORY.step(), ledger, at, until)
            await connection.execute(
                "update ledger.projection set seq = $3 where ledger = $1 and name = $2",
                ledger,
                HISTORY.name,
                until,
            )
        return until


async def follow(
    ledger: str, connect: Callable[[], Awaitable[asyncpg.Connection]], committed: Callable[[], int]
) -> None:
    """Follow a ledger for ever. `committed`: `seq` of the last event, as its writer knows it."""
    while True:
        connection = None
        try:
            connection = await connect()
            at = 0
            while True:
                if at < committed():
                    at = await step(connection, ledger)
                await asyncio.sleep(PAUSE_S)
        except Exception as error:  # noqa: BLE001 - any surprise has the same remedy
            log.warning(
                "projector.surprised", ledger=ledger, error=type(error).__name__, detail=str(error)
            )
            await asyncio.sleep(1)
        finally:
            if connection is not None:
                connection.terminate()


async def caught_up(connection: Any, ledger: str, seq: int) -> None:
    """Wait until the history stands at `seq` or past it. Errors: `ProjectionBehind`."""
    until = time.monotonic() + WAIT_S
    pause = 0.002
    while True:
        at = await connection.fetchval(
            "select seq from ledger.projection where ledger = $1 and name = $2",
            ledger,
            HISTORY.name,
        )
        if at is not None and at >= seq:
            return
        if time.monotonic() > until:
            raise ProjectionBehind(at or 0, seq)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.02)
