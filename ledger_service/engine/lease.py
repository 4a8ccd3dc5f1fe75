"""Who writes a ledger: a row with an expiry, renewed while its holder lives.

The lease only says who should write. That two can't is the head's epoch (see store.take_over): a
holder that was stopped past its lease and resumes fails at its next commit.
"""

from __future__ import annotations

from typing import Any

LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0


async def acquire(connection: Any, ledger: str, holder: str, address: str) -> bool:
    """Take a lease that is free or has lapsed, or renew our own; whether we hold it now.

    One that runs on for longer than any lease was written by a clock that has been set back since.
    """
    done = await connection.fetchval(
        "insert into ledger.lease as l values ($1, $2, $3, now() + make_interval(secs => $4)) "
        "on conflict (ledger) do update set holder = excluded.holder, address = excluded.address, "
        "expires_at = excluded.expires_at "
        "where l.holder = excluded.holder or l.expires_at < now() "
        "or l.expires_at > now() + make_interval(secs => 2 * $4) returning 1",
        ledger,
        holder,
        address,
        LEASE_SECONDS,
    )
    return done is not None


async def release(connection: Any, ledger: str, holder: str) -> None:
    """Let a standby take the lease at once."""
    await connection.execute(
        "update ledger.lease set expires_at = '-infinity' where ledger = $1 and holder = $2",
        ledger,
        holder,
    )


async def address_of(connection: Any, ledger: str) -> str | None:
    """host:port of the ledger's writer; None while nobody holds the lease."""
    return await connection.fetchval(
        "select address from ledger.lease where ledger = $1 and expires_at > now()", ledger
    )


async def is_known(connection: Any, ledger: str) -> bool:
    """Whether there is such a ledger at all."""
    found = await connection.fetchval("select 1 from ledger.head where ledger = $1", ledger)
    return found is not None
