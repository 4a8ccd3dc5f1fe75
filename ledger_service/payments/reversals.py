"""Reversals in the database: the row, its history, and the steps that a row may take.

A step is conditional on where the row stands, so that it may be tried again after any crash; the
database refuses every other step by a trigger of its own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import msgspec

from ledger_service.security.identities import Connection

Status = Literal[
    "requested", "awaiting_approval", "approved", "executed", "refused", "expired", "failed"
]

OPEN: tuple[Status, ...] = ("requested", "awaiting_approval", "approved")
"""Statuses in which a workflow has still something to do."""

ATTEMPT = "attempt"
"""Step written before each call that may move money: who finds one asks before sending again."""

_COLUMNS = (
    "reversal_id, ledger, transaction_seq, amount, reason, requested_by, requested_at, policy, "
    "approval_id, status, executed_seq, last_error"
)


class Reversal(msgspec.Struct, frozen=True, kw_only=True):
    """One request to reverse a transaction, and how far it got."""

    reversal_id: str
    ledger: str
    transaction_seq: int
    amount: int | None
    """Minor units; None: all of the original."""
    reason: str
    requested_by: str
    requested_at: dt.datetime
    policy: str
    approval_id: str
    status: Status
    executed_seq: int | None
    """`seq` of the transaction that reversed the original."""
    last_error: str | None
    """Code of the last refusal or unknown answer."""


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a reversal's history."""

    recorded_at: dt.datetime
    step: str
    code: str | None
    actor: str


async def load(connection: Connection, reversal: str) -> Reversal | None:
    """The reversal of that id, or None."""
    row = await connection.fetchrow(
        f"select {_COLUMNS} from payments.reversal where reversal_id = $1", reversal
    )
    return Reversal(**row) if row else None


async def find_by_key(connection: Connection, ledger: str, key_digest: bytes) -> Reversal | None:
    """The reversal that was requested under this idempotency key, or None."""
    row = await connection.fetchrow(
        f"select {_COLUMNS} from payments.reversal where ledger = $1 and key_digest = $2",
        ledger,
        key_digest,
    )
    return Reversal(**row) if row else None


async def open_of(connection: Connection, ledger: str, transaction: int) -> Sequence[Reversal]:
    """The undecided and unexecuted reversals of one transaction."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from payments.reversal "
        "where ledger = $1 and transaction_seq = $2 and status = any($3)",
        ledger,
        transaction,
        OPEN,
    )
    return [Reversal(**row) for row in rows]


async def page(
    connection: Connection,
    *,
    ledger: str | None,
    status: str | None,
    after: str | None,
    limit: int,
) -> list[Reversal]:
    """Reversals, newest first; `after` is the last id of the page before."""
    rows = await connection.fetch(
        f"select {_COLUMNS} from payments.reversal "
        "where ($1::text is null or ledger = $1) and ($2::text is null or status = $2) "
        "and ($3::text is null or (requested_at, reversal_id) < "
        "    (select requested_at, reversal_id from payments.reversal where reversal_id = $3)) "
        "order by requested_at desc, reversal_id desc limit $4",
        ledger,
        status,
        after,
        limit,
    )
    return [Reversal(**row) for row in rows]


async def history(connection: Connection, reversal: str) -> list[Step]:
    """What happened to a reversal, in order."""
    rows = await connection.fetch(
        "select recorded_at, step, code, actor from payments.reversal_event "
        "where reversal_id = $1 order by number",
        reversal,
    )
    return [Step(**row) for row in rows]


async def note(
    connection: Connection, reversal: str, step: str, *, actor: str, code: str | None = None
) -> None:
    """Add a line to the history."""
    await connection.execute(
        "insert into payments.reversal_event (reversal_id, step, code, actor) "
        "values ($1, $2, $3, $4)",
        reversal,
        step,
        code,
        actor,
    )


async def advance(
    connection: Connection,
    reversal: str,
    status: Status,
    *,
    actor: str,
    code: str | None = None,
    executed_seq: int | None = None,
) -> None:
    """Move the reversal to `status` and say so in its history, in one commit; again is no-op.

    Errors: `asyncpg.IntegrityConstraintViolationError` for a step that the row can't take.
    """
    async with connection.transaction():
        moved = await connection.fetchval(
            "update payments.reversal set status = $2, last_error = $3, executed_seq = $4 "
            "where reversal_id = $1 and status <> $2 returning true",
            reversal,
            status,
            code,
            executed_seq,
        )
        if moved:
            await note(connection, reversal, status, actor=actor, code=code)
