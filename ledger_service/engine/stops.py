"""Stopped ledgers: a violation of journal, chain or balance closes a ledger to writing.

The verifier stops, which fences the writer inside the database; the writer refuses everything as
`ledger_stopped` until two people have approved a resumption, which it spends in the transaction
that opens the ledger again. Reading goes on all the time.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, NamedTuple

from ledger_service.domain.approval import approval_digest

RESUMPTION = "ledger_resumption"
"""Kind of the approval."""


class LedgerStopped(Exception):
    """The ledger takes no commit: it has an open stop."""


class Stop(NamedTuple):
    """One stop. `found_in`: the table where the violation was; `seq`: the event, if one is known."""

    number: int
    ledger: str
    stopped_at: dt.datetime
    found_in: str
    code: str
    seq: int | None
    message: str
    resumed_at: dt.datetime | None
    approval_id: str | None


_COLUMNS = ", ".join(Stop._fields)


def subject(stop: Stop) -> str:
    """By what an approval names a stop."""
    return f"{stop.ledger}/stop/{stop.number}"


def content(stop: Stop, reason: str) -> dict[str, str | int | None]:
    """What two people approve when they let a ledger go on. `reason`: the maker's words."""
    return {
        "kind": RESUMPTION,
        "ledger": stop.ledger,
        "stop": stop.number,
        "found_in": stop.found_in,
        "code": stop.code,
        "seq": stop.seq,
        "reason": reason,
    }


async def stops_of(connection: Any, ledger: str) -> list[Stop]:
    """Every stop of a ledger, newest first."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from ledger.stop where ledger = $1 order by number desc", ledger
    )
    return [Stop(**row) for row in rows]


async def open_stop(connection: Any, ledger: str) -> Stop | None:
    """The stop under which a ledger stands, or None."""
    row = await connection.fetchrow(
        f"select {_COLUMNS} from ledger.stop where ledger = $1 and resumed_at is null", ledger
    )
    return Stop(**row) if row else None


async def resume_if_approved(connection: Any, ledger: str) -> bool:
    """Spend a resumption that was approved, and open the ledger with it; whether it is open."""
    stop = await open_stop(connection, ledger)
    if stop is None:
        return True
    rows = await connection.fetch(
        "select approval_id, facts ->> 'reason' as reason from security.approval "
        "where kind = $1 and subject = $2 and status = 'approved'",
        RESUMPTION,
        subject(stop),
    )
    for row in rows:
        # the digest comes from the stop itself, not from what the approval says of it
        digest = approval_digest(content(stop, row["reason"]))
        resumed = await connection.fetchval(
            "select ledger.resume_ledger($1, $2, $3)", stop.number, row["approval_id"], digest
        )
        if resumed:
            return True
    return False
