"""Reversals: asked for here, decided at /v1/approvals by another person, executed by the worker."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query, Request, Response
from pydantic import Field

from ledger_service.api.bodies import Body, ShortText
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract import environment
from ledger_service.contract.events import timestamp
from ledger_service.contract.identifiers import check_ledger
from ledger_service.contract.money import parse_minor
from ledger_service.payments import reversals
from ledger_service.payments.reversal_policy import ReversalRefusal, read_policy
from ledger_service.payments.reversal_requests import ReversalRequest, request_reversal
from ledger_service.payments.reversals import Reversal

PAGE_MAX = 500


@contextlib.asynccontextmanager
async def _with_policy(app: FastAPI) -> AsyncIterator[None]:
    """A policy that can't be used stops the service when it starts, not the first request."""
    app.state.reversal_policy = read_policy(environment.read("TALLYSTICK_REVERSAL_POLICY"))
    yield


router = APIRouter(tags=["reversals"], lifespan=_with_policy)


class ReversalBody(Body):
    """What to reverse, how much of it, and why."""

    transaction: Annotated[int, Field(ge=1, le=2**63 - 1)]
    """`seq` of the original."""
    amount: str | None = None
    """Minor units; left out: all that is left."""
    reason: ShortText
    """A code of the reversal policy."""
    idempotency_key: ShortText | None = None
    """Left out, each call is a request of its own."""


@router.post("/v1/ledgers/{ledger}/reversals", status_code=202)
async def ask_for_reversal(
    ledger: str,
    body: ReversalBody,
    who: Annotated[Principal, require("reversals.request")],
    request: Request,
    response: Response,
) -> dict[str, Any]:
    """Ask that a transaction be reversed; another person must approve it before anything moves."""
    asked = ReversalRequest(
        ledger=check_ledger(ledger),
        transaction=body.transaction,
        amount=None if body.amount is None else parse_minor(body.amount),
        reason=body.reason,
        idempotency_key=body.idempotency_key or secrets.token_hex(16),
        actor=who.actor,
        request_id=who.request_id,
    )
    try:
        async with request.app.state.pool.acquire() as connection:
            reversal, new = await request_reversal(
                connection, asked, request.app.state.reversal_policy
            )
    except ReversalRefusal as refusal:
        facts: dict[str, Any] = {"rule": refusal.rule} if refusal.rule else {}
        raise Problem(refusal.code, str(refusal), **facts) from None
    if not new:
        response.headers["Idempotent-Replayed"] = "true"
    return _shown(reversal)


@router.get("/v1/reversals")
async def list_reversals(
    _who: Annotated[Principal, require("reversals.read")],
    request: Request,
    ledger: str | None = None,
    status: reversals.Status | None = None,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """Reversals, newest first; `after` is the last id of the page before."""
    async with request.app.state.pool.acquire() as connection:
        found = await reversals.page(
            connection, ledger=ledger, status=status, after=after, limit=limit
        )
    return {"reversals": [_shown(one) for one in found]}


@router.get("/v1/reversals/{reversal_id}")
async def one_reversal(
    reversal_id: str, _who: Annotated[Principal, require("reversals.read")], request: Request
) -> dict[str, Any]:
    """One reversal with its history: who asked, what was tried, how it ended."""
    async with request.app.state.pool.acquire() as connection:
        found = await reversals.load(connection, reversal_id)
        if found is None:
            raise Problem("unknown_reversal", "There is no such reversal; see GET /v1/reversals.")
        steps = await reversals.history(connection, reversal_id)
    return {
        **_shown(found),
        "history": [
            {
                "recorded_at": timestamp(step.recorded_at),
                "step": step.step,
                "code": step.code,
                "actor": step.actor,
            }
            for step in steps
        ],
    }


def _shown(reversal: Reversal) -> dict[str, Any]:
    return {
        "reversal": reversal.reversal_id,
        "approval": reversal.approval_id,
        "status": reversal.status,
        "ledger": reversal.ledger,
        "transaction": reversal.transaction_seq,
        "amount": None if reversal.amount is None else str(reversal.amount),
        "reason": reversal.reason,
        "requested_by": reversal.requested_by,
        "requested_at": timestamp(reversal.requested_at),
        "policy": reversal.policy,
        "executed_seq": reversal.executed_seq,
        "last_error": reversal.last_error,
    }
