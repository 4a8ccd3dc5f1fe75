"""What follows the journal: posting lists, day sums and the index of transactions.

The writer hands over what it has committed, so that nothing is read back and decoded a second time.
Whatever is not handed over (it was committed by another process, or nobody knew that it was) is
derived from the journal by the projections' own SQL, which is what the rows are verified by too. Rows
and position move in one commit, from where the position stood: so every event is counted once,
whoever steps and whatever is killed when. A read waits until what it reads has what was committed
before it was asked, and says so: while nobody waits, more is written in one step.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import structlog

from ledger_service.contract import failpoints
from ledger_service.engine import history
from ledger_service.engine.batch import Batch
from ledger_service.engine.projections import HISTORY

log = structlog.get_logger()

STEP_EVENTS = 10_000
"""Events of one step that are derived from the journal."""
TOGETHER_EVENTS = 40_000
"""Events of one step that are written as they were handed over: the further behind it is, the more of
them move the same account, and the less each costs."""
TAKEN_EVENTS = 200_000
"""Events that are kept; what comes after them is derived from the journal."""
PAUSE_S = 0.05
"""After each step: what comes meanwhile is one step ..."""
REST_S = 0.3
"""... and so is what comes until so long after the step began, unless a read waits for some of it. A
step that took as long, because there was much to write, is followed by the next at once."""
IDLE_S = 1.0
"""After which the journal is asked for news that nobody handed over."""
WAIT_S = 2.0
"""How long a read waits."""
_ASKED = "tallystick_history"
"""Channel on which a read says which event of which ledger it waits for."""


class ProjectionBehind(Exception):
    """What follows the journal has not come as far as a read must see, within WAIT_S."""

    code = "projection_behind"

    def __init__(self, at: int, wanted: int) -> None:
        super().__init__(f"The history is at event {at}, not yet at {wanted}; try again.")


class Projector:
    """Takes the history of one ledger on, beside its writer."""

    def __init__(self, ledger: str, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._ledger = ledger
        self._connect = connect
        self._taken: deque[Batch] = deque()
        self._news = asyncio.Event()
        self._asked = asyncio.Event()
        self._wanted = 0
        """Last event that a read has asked for."""

    def take(self, batch: Batch) -> None:
        """Follow a batch that is committed."""
        if not self._taken or batch.last_seq - self._taken[0].first_seq <= TAKEN_EVENTS:
            self._taken.append(batch)
        self._news.set()

    def _hear(self, _connection: Any, _process: int, _channel: str, said: object) -> None:
        ledger, _, seq = str(said).rpartition(" ")
        if ledger == self._ledger and seq.isdigit():
            self._wanted = max(self._wanted, int(seq))
            self._asked.set()
            self._news.set()

    async def follow(self) -> None:
        """Follow for ever."""
        while True:
            connection = None
            try:
                connection = await self._connect()
                await connection.add_listener(_ASKED, self._hear)
                at = await step(connection, self._ledger)
                while True:
                    self._news.clear()
                    rested = time.monotonic() + REST_S
                    before, at = at, await self._go_on(connection, at)
                    if at == before and not self._taken:
                        await _within(IDLE_S, self._news)
                        continue
                    await asyncio.sleep(PAUSE_S)
                    if at >= self._wanted:
                        self._asked.clear()
                        await _within(rested - time.monotonic(), self._asked)
            except Exception as error:  # noqa: BLE001 - whatever it is, reads wait until it goes on
                log.warning("projector.surprised", ledger=self._ledger, error=type(error).__name__)
                await asyncio.sleep(1)
            finally:
                if connection is not None:
                    connection.terminate()

    async def _go_on(self, connection: asyncpg.Connection, at: int) -> int:
        """One step from `at`, where the history is thought to stand; gives where it stands then."""
        while self._taken and self._taken[0].first_seq < at:
            self._taken.popleft()  # also one that the journal has given in part: it gives the rest
        if not self._taken or self._taken[0].first_seq != at:
            until = self._taken[0].first_seq if self._taken else None
            return await step(connection, self._ledger, until)
        batches = self._contiguous()
        until = batches[-1].last_seq
        async with connection.transaction():
            was_there = await _move(connection, self._ledger, at, until)
            if was_there:
                await history.write(connection, batches)
                failpoints.reach("follow.before_commit")
        if not was_there:
            return await step(connection, self._ledger, at)
        failpoints.reach("follow.after_commit")
        return until

    def _contiguous(self) -> list[Batch]:
        """Batches that one step can write: one after the other, recorded on one day."""
        found = [self._taken[0]]
        for batch in list(self._taken)[1:]:
            if (
                batch.first_seq != found[-1].last_seq
                or batch.recorded_date != found[0].recorded_date
                or batch.last_seq - found[0].first_seq > TOGETHER_EVENTS
            ):
                break
            found.append(batch)
        return found


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, but no longer than that."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # wait_for can lose a cancellation
            await event.wait()


async def step(connection: Any, ledger: str, until: int | None = None) -> int:
    """Derive from the journal up to STEP_EVENTS events more, none past `until`; gives the `seq` at
    which the history stands."""
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
        end = min(head, at + STEP_EVENTS, head if until is None else until)
        if end <= at:
            return at
        await connection.execute(HISTORY.step(), ledger, at, end)
        await _move(connection, ledger, at, end)
        return end


async def _stands_at(connection: Any, ledger: str) -> int:
    """`seq` of the last event that the history follows; 0 before the first."""
    at = await connection.fetchval(
        "select seq from ledger.projection where ledger = $1 and name = $2", ledger, HISTORY.name
    )
    return at or 0


async def _move(connection: Any, ledger: str, at: int, until: int) -> bool:
    """Move the history's position; gives whether it stood where it was thought to stand."""
    done = await connection.execute(
        "update ledger.projection set seq = $4 where ledger = $1 and name = $2 and seq = $3",
        ledger,
        HISTORY.name,
        at,
        until,
    )
    return done == "UPDATE 1"


async def caught_up(connection: Any, ledger: str, seq: int) -> None:
    """Wait until the history stands at `seq` or past it. Errors: `ProjectionBehind`."""
    if await _stands_at(connection, ledger) >= seq:
        return
    await connection.execute("select pg_notify($1, $2)", _ASKED, f"{ledger} {seq}")
    until = time.monotonic() + WAIT_S
    pause = 0.002
    while (at := await _stands_at(connection, ledger)) < seq:
        if time.monotonic() > until:
            raise ProjectionBehind(at, seq)
        await asyncio.sleep(pause)
        pause = min(pause * 2, 0.02)
