"""The books' periods: closing, reopening by two people, attesting days; and corrections."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ledger_service.api import posting_bodies
from ledger_service.api.approvals import by_two
from ledger_service.api.posting_bodies import (
    AttestationBody,
    DayBody,
    ReopeningBody,
    TransactionBody,
)
from ledger_service.api.problems import Problem
from ledger_service.api.transactions import post_one
from ledger_service.api.who import Principal, require
from ledger_service.domain.period_commands import (
    AttestDay,
    ClosePeriod,
    ReopenPeriod,
    SoftClosePeriod,
)
from ledger_service.engine import period_reads

router = APIRouter(tags=["periods"])

_Closer = Annotated[Principal, require("periods.close")]


@router.get("/v1/ledgers/{ledger}/periods")
async def get_periods(
    ledger: str, _who: Annotated[Principal, require("ledgers.read")], request: Request
) -> dict[str, Any]:
    """How far the books are closed, which days are attested, and every event that made it so."""
    found = await period_reads.periods(request.app.state.pool, ledger)
    if found is None:
        raise Problem("ledger_not_open")
    return found


@router.post("/v1/ledgers/{ledger}/periods:soft-close", status_code=201)
async def soft_close(ledger: str, who: _Closer, request: Request) -> Response:
    """From now on take only approved corrections up to the day `through`."""
    body = await posting_bodies.read(request, DayBody)
    command = SoftClosePeriod(body.through, who.actor, who.request_id, body.dry_run)
    return await post_one(request, ledger, command)


@router.post("/v1/ledgers/{ledger}/periods:close", status_code=201)
async def close(ledger: str, who: _Closer, request: Request) -> Response:
    """Take nothing more up to the day `through`; the answer states the trial balance and the root."""
    body = await posting_bodies.read(request, DayBody)
    command = ClosePeriod(body.through, who.actor, who.request_id, body.dry_run)
    return await post_one(request, ledger, command)


@router.post("/v1/ledgers/{ledger}/days/{day}:attest", status_code=201)
async def attest(ledger: str, day: str, who: _Closer, request: Request) -> Response:
    """Take nothing more for one day, which was compared with the bank."""
    body = await posting_bodies.read(request, AttestationBody)
    command = AttestDay(day, body.reference, who.actor, who.request_id, body.dry_run)
    return await post_one(request, ledger, command)


@router.post("/v1/ledgers/{ledger}/periods:reopen", status_code=201)
async def reopen(ledger: str, who: _Closer, request: Request) -> Response:
    """Without an approval: ask a second person for it (202). With it: take corrections again."""
    body = await posting_bodies.read(request, ReopeningBody)
    command = ReopenPeriod(
        body.since, body.reason, body.approval or "", who.actor, who.request_id, body.dry_run
    )
    return await by_two(request, ledger, command, who, subject=body.since)


@router.post("/v1/ledgers/{ledger}/corrections", status_code=202)
async def ask_for_correction(
    ledger: str, who: Annotated[Principal, require("transactions.post")], request: Request
) -> Response:
    """Ask a second person to approve a correction, which is then posted like any transaction, with
    the same content and the `approval` given here.
    """
    body = await posting_bodies.read(request, TransactionBody)
    if body.corrects is None or body.effective_at is None or body.imposed:
        raise Problem(
            "invalid_request",
            "A correction names the transaction that it corrects and its own effective_at.",
        )
    command = body.command(ledger, who.actor, who.request_id)
    return await by_two(request, ledger, command, who, subject=body.corrects)
