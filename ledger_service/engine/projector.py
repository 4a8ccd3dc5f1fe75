"""What follows the journal: day sums and the index of transactions, brought up to date after commits.

A step moves one projection over some events: its rows and its position move in one commit, under a
lock of the position. So every event is counted once, whoever steps and whatever is killed when. A
read waits until the projection has what was committed before it was asked.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import structlog

from ledger_service.engine.projections import FOLLOWED, Projection

log = structlog.get_logger()

STEP_EVENTS = 10_000
"""Events of one step."""
PAUSE_S = 0.01
"""Between looks for news; what has come meanwhile is one step."""
WAIT_S = 2.0
"""How long a read waits."""


class ProjectionBehind(Exception):
    """A projection has not come as far as a read must see, within WAIT_S."""

    code = "projection_behind"

    def __init__(self, name: str, at: int, wanted: int) -> None:
        super().__init__(f"The projection {name} is at {at}, not yet at {wanted}; try again.")


async def step(connection: Any, ledger: str, projection: Projection) -> int:
    """Take a projection on, up to STEP_EVENTS events; gives the `seq` it stands at."""
    async with connection.transaction():
        at = await connection.fetchval(
            "select seq from ledger.projection where ledger = $1 and name = $2 for update",
            ledger,
            projection.name,
        )
        if at is None:
            await connection.execute(
                "insert into ledger.projection values ($1, $2, 0) on conflict do nothing",
                ledger,
                projection.name,
            )
            return 0
        head = await connection.fetchval("select seq from ledger.head where ledger = $1", ledger)
        until = min(head, at + STEP_EVENTS)
        if until > at:
            await connection.execute(projection.step(), ledger, at, until)
            await connection.execute(
                "update ledger.projection set seq = $3 where ledger = $1 and name = $2",
                ledger,
                projection.name,
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
            positions = dict.fromkeys((projection.name for projection in FOLLOWED), -1)
            while True:
                for projection in FOLLOWED:
                    if positions[projection.name] < committed():
                        positions[projection.name] = await step(connection, ledger, projection)
                await asyncio.sleep(PAUSE_S)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            log.warning("projector.surprised", ledger=ledger, error=type(error).__name__)
            await asyncio.sleep(1)
        finally:
            if connection is not None:
                connection.terminate()


async def caught_up(connection: Any, ledger: str, names: Sequence[str], seq: int) -> None:
    """Wait until projections stand at `seq` or past it. Errors: `ProjectionBehind`."""
    until = time.monotonic() + WAIT_S
    pause = 0.002
    while True:
        rows = await connection.fetch(
            "select name, seq from ledger.projection where ledger = $1 and name = any($2)",
            ledger,
            list(names),
        )
        positions = dict.fromkeys(names, 0) | {row["name"]: row["seq"] for row in rows}
        name, at = min(positions.items(), key=lambda position: position[1])
        if at >= seq:
            return
        if time.monotonic() > until:
            raise ProjectionBehind(name, at, seq)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.02)
