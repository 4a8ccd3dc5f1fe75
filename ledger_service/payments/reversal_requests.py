"""Asking for a reversal: checks, then row, approval request and start, in one commit."""

from __future__ import annotations

import datetime as dt
import hashlib

import asyncpg
import msgspec

from ledger_service.contract.identifiers import random_id, refuse_personal
from ledger_service.domain.approval import reversal_content
from ledger_service.payments import messages, originals, reversals
from ledger_service.payments.originals import Original
from ledger_service.payments.reversal_policy import ReversalPolicy, ReversalRefusal
from ledger_service.payments.reversals import Reversal
from ledger_service.security.approvals import request_approval
from ledger_service.security.identities import Connection


class ReversalRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the maker asks for. `amount` is minor units, None for all that is left."""

    ledger: str
    transaction: int
    amount: int | None
    reason: str
    idempotency_key: str
    actor: str
    request_id: str


async def request_reversal(
    connection: Connection, request: ReversalRequest, policy: ReversalPolicy
) -> tuple[Reversal, bool]:
    """The reversal, and whether it is new (False: the key was used for the same request before).

    Errors: `ReversalRefusal` with `idempotency_conflict`, `unknown_transaction`,
    `partial_needs_one_currency`, `reversal_exceeds`, `reversal_pending` or
    `reversal_refused_by_policy`; `IdentifierError` `personal_data_refused`.
    """
    digest = hashlib.sha256(f"{request.ledger}\0{request.idempotency_key}".encode()).digest()
    refuse_personal(request.reason, "reason")
    async with connection.transaction():
        # Requests for one transaction queue up here, so that two can't both take what is left.
        await connection.execute(
            "select pg_advisory_xact_lock(hashtextextended($1, 0))",
            f"reversal of {request.ledger}/{request.transaction}",
        )
        if earlier := await reversals.find_by_key(connection, request.ledger, digest):
            _check_same(earlier, request)
            return earlier, False
        lifetime = await _check(connection, request, policy)
        try:
            reversal = await _write(connection, request, digest, policy.reference, lifetime)
        except asyncpg.UniqueViolationError:
            # The same key, at the same moment, for another transaction.
            raise _conflict("transaction") from None
    return reversal, True


def _check_same(earlier: Reversal, request: ReversalRequest) -> None:
    asked = (request.transaction, request.amount, request.reason)
    stands = (earlier.transaction_seq, earlier.amount, earlier.reason)
    for name, one, other in zip(("transaction", "amount", "reason"), asked, stands, strict=True):
        if one != other:
            raise _conflict(name)


def _conflict(name: str) -> ReversalRefusal:
    return ReversalRefusal(
        "idempotency_conflict",
        f"The idempotency key was used for a reversal with another {name}; use a new key.",
    )


async def _check(
    connection: Connection, request: ReversalRequest, policy: ReversalPolicy
) -> dt.timedelta:
    """How long the approver has. The ledger checks again what may have changed when it executes."""
    original = await originals.read(connection, request.ledger, request.transaction)
    if original is None:
        raise ReversalRefusal(
            "unknown_transaction", "No transaction has this seq; look it up by its idempotency key."
        )
    if request.amount is not None and len(original.left) > 1:
        raise ReversalRefusal(
            "partial_needs_one_currency",
            "Only a transaction in one currency can be reversed in part; leave the amount out.",
        )
    amount = await _amount(connection, request, original)
    return policy.time_for_approval(
        kind=original.kind,
        imposed=original.imposed,
        age_days=original.age_days(dt.datetime.now(dt.UTC)),
        amount=amount,
        reason=request.reason,
    )


async def _amount(connection: Connection, request: ReversalRequest, original: Original) -> int:
    """Minor units that would be reversed; what waits for a decision or execution counts as gone."""
    left = max(original.left.values())
    amount = left if request.amount is None else request.amount
    if amount > left or left <= 0:
        raise ReversalRefusal(
            "reversal_exceeds",
            f"{max(0, left)} minor units of this transaction are left to reverse.",
        )
    pending = await reversals.open_of(connection, request.ledger, request.transaction)
    taken = sum(left if one.amount is None else one.amount for one in pending)
    if amount + taken > left:
        raise ReversalRefusal(
            "reversal_pending",
            f"Reversals of {taken} of the {left} minor units that are left wait already; have them "
            "refused first, or ask for less. GET /v1/reversals lists them.",
        )
    return amount


async def _write(
    connection: Connection,
    request: ReversalRequest,
    key_digest: bytes,
    policy: str,
    lifetime: dt.timedelta,
) -> Reversal:
    reversal_id = random_id("rev")
    approval = await request_approval(
        connection,
        reversal_content(
            ledger=request.ledger,
            transaction=request.transaction,
            amount=None if request.amount is None else str(request.amount),
            reason=request.reason,
            reversal=reversal_id,
        ),
        subject=reversal_id,
        requested_by=request.actor,
        lifetime=lifetime,
    )
    await connection.execute(
        "insert into payments.reversal (reversal_id, ledger, transaction_seq, amount, reason, "
        "requested_by, request_id, policy, key_digest, approval_id) "
        "values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        reversal_id,
        request.ledger,
        request.transaction,
        request.amount,
        request.reason,
        request.actor,
        request.request_id,
        policy,
        key_digest,
        approval.approval_id,
    )
    await reversals.note(connection, reversal_id, "requested", actor=request.actor)
    await connection.execute(
        "insert into payments.start_outbox (workflow_id, workflow_type, argument) "
        "values ($1, $2, $3)",
        messages.reversal_workflow_id(reversal_id),
        messages.REVERSAL_WORKFLOW,
        msgspec.json.encode(messages.ReversalStart(reversal_id, approval.approval_id)).decode(),
    )
    written = await reversals.load(connection, reversal_id)
    if written is None:
        raise LookupError("the reversal just written is not there")
    return written
