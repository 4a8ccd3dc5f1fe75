"""The steps of a reversal: what the workflow asks for, done in the tables and in the ledger.

Each may run any number of times, and be killed anywhere: where it stands is in the tables, and the
ledger knows its idempotency key, which follows from the reversal's id alone.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from ledger_service.payments import messages, reversals
from ledger_service.payments.ledger_http import LedgerHttp, Posted, Refused, UnknownAnswer
from ledger_service.payments.reversals import Reversal, Status
from ledger_service.security.identities import Connection

log = structlog.get_logger()

ACTOR = "payments_worker"
"""Who the history names for steps that no person took."""

_APPROVAL_STATUS: dict[str, Status] = {
    "pending": "awaiting_approval",
    "approved": "approved",
    "refused": "refused",
    # Spent: by an earlier attempt of ours, for nothing else holds the digest. Executing finds it.
    "consumed": "approved",
}


def idempotency_key(reversal: str) -> str:
    """The key under which the ledger posts this reversal, now and after any restart."""
    return f"reversal:{reversal}"


class ReversalActivities:
    """Activities of the reversal workflow, with their database and ledger."""

    def __init__(self, pool: asyncpg.Pool, ledger: LedgerHttp) -> None:
        self._pool = pool
        self._ledger = ledger

    @activity.defn(name=messages.FOLLOW_APPROVAL)
    async def follow_approval(self, reversal: str) -> messages.Review:
        """Bring the reversal to where its approval row stands, expiry included."""
        async with self._pool.acquire() as connection:
            row = await _load(connection, reversal)
            if row.status not in ("requested", "awaiting_approval"):
                return messages.Review(row.status, 0.0)
            approval = await connection.fetchrow(
                "select status, "
                "extract(epoch from expires_at - clock_timestamp())::float8 as left_s "
                "from security.approval where approval_id = $1",
                row.approval_id,
            )
            status, left_s = _APPROVAL_STATUS[approval["status"]], approval["left_s"]
            if status == "awaiting_approval" and left_s <= 0:
                status = "expired"
            await reversals.advance(connection, reversal, status, actor=ACTOR)
        return messages.Review(status, max(0.0, left_s) if status == "awaiting_approval" else 0.0)

    @activity.defn(name=messages.EXECUTE)
    async def execute(self, reversal: str) -> str:
        """Have the ledger post the approved reversal, once; gives the final status.

        Errors: `ApplicationError` of type UnknownOutcome where the answer did not arrive: the next
        attempt begins with a question.
        """
        async with self._pool.acquire() as connection:
            row = await _load(connection, reversal)
        if row.status != "approved":
            return row.status
        try:
            async with _alive():
                answer = await self._found(row) or await self._send(row)
        except UnknownAnswer as unknown:
            log.warning("reversal.outcome_unknown", reversal=reversal, code=unknown.code)
            await self._pool.execute(
                "update payments.reversal set last_error = $2 "
                "where reversal_id = $1 and status = 'approved'",
                reversal,
                unknown.code,
            )
            raise ApplicationError(unknown.code, type=messages.UNKNOWN_OUTCOME) from None
        return await self._record(reversal, answer)

    async def _found(self, row: Reversal) -> Posted | None:
        """What an earlier attempt posted; the ledger is asked only if there was one."""
        tried = await self._pool.fetchval(
            "select exists (select from payments.reversal_event "
            "where reversal_id = $1 and step = $2)",
            row.reversal_id,
            reversals.ATTEMPT,
        )
        if not tried:
            return None
        return await self._ledger.find(row.ledger, idempotency_key(row.reversal_id))

    async def _send(self, row: Reversal) -> Posted | Refused:
        """The command itself. That it is tried is on record, committed, before it leaves.

        The digest of what was approved is not sent: the ledger computes it from this command.
        """
        async with self._pool.acquire() as connection:
            await reversals.note(connection, row.reversal_id, reversals.ATTEMPT, actor=ACTOR)
        body = {
            "idempotency_key": idempotency_key(row.reversal_id),
            "approval": row.approval_id,
            "reason": row.reason,
            "reversal": row.reversal_id,
        }
        if row.amount is not None:
            body["amount"] = str(row.amount)
        return await self._ledger.reverse(row.ledger, row.transaction_seq, body)

    async def _record(self, reversal: str, answer: Posted | Refused) -> str:
        async with self._pool.acquire() as connection:
            if isinstance(answer, Posted):
                await reversals.advance(
                    connection, reversal, "executed", actor=ACTOR, executed_seq=answer.seq
                )
                log.info("reversal.executed", reversal=reversal, seq=answer.seq)
                return "executed"
            too_late = await connection.fetchval(
                "select a.status = 'approved' and a.expires_at <= clock_timestamp() "
                "from payments.reversal join security.approval a using (approval_id) "
                "where reversal_id = $1",
                reversal,
            )
            expired = answer.code == "approval_invalid" and too_late
            status: Status = "expired" if expired else "failed"
            await reversals.advance(connection, reversal, status, actor=ACTOR, code=answer.code)
            log.warning("reversal.not_executed", reversal=reversal, code=answer.code)
            return status


@contextlib.asynccontextmanager
async def _alive() -> AsyncIterator[None]:
    """Tell Temporal every second that we live, so that another takes over soon when we do not."""

    async def beat() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(1)

    beating = asyncio.create_task(beat())
    try:
        yield
    finally:
        beating.cancel()


async def _load(connection: Connection, reversal: str) -> Reversal:
    row = await reversals.load(connection, reversal)
    if row is None:
        raise ApplicationError("unknown_reversal", type="UnknownReversal", non_retryable=True)
    return row
