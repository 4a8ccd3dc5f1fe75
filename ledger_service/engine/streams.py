"""The streams beside the journals: appended in the transaction of the fact they announce.

A stream's head row is locked from the numbering of an event to the commit, so `seq` is gapless and
in the order of commits; the relay publishes what it finds.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import asyncpg

from ledger_service.contract.events import StreamEvent, encode, event_type, timestamp

Maker = Callable[[int, str], StreamEvent]
"""Makes an event from its `seq` and `recorded_at`."""


async def append(
    connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy,
    stream: str,
    makers: Sequence[tuple[str, Maker]],
) -> list[int]:
    """Append events, each with its subject (the record's key); gives their `seq`.

    Must run inside the transaction that stores the facts. Errors: `LookupError` for an unknown
    stream.
    """
    head = await connection.fetchval(
        "select seq from stream.head where stream = $1 for update", stream
    )
    if head is None:
        raise LookupError(f"there is no stream {stream!r}")
    now = dt.datetime.now(dt.UTC)
    events = [
        (subject, make(head + index, timestamp(now)))
        for index, (subject, make) in enumerate(makers, 1)
    ]
    await connection.copy_records_to_table(
        "event",
        schema_name="stream",
        columns=["stream", "seq", "event_type", "subject", "recorded_at", "bytes"],
        records=[
            (stream, event.seq, event_type(event), subject, now, encode(event))
            for subject, event in events
        ],
    )
    await connection.execute(
        "update stream.head set seq = $2 where stream = $1", stream, head + len(events)
    )
    return [event.seq for _, event in events]
