"""Approvals: what waits for a second person, and that person's decision."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import JSONResponse, Response

from ledger_service.api.bodies import Body, ShortText
from ledger_service.api.transactions import answer_one, post_one
from ledger_service.api.who import Principal, require
from ledger_service.contract.events import timestamp
from ledger_service.domain.commands import ByTwo, approved_content
from ledger_service.engine.protocol import Possible
from ledger_service.security import approvals
from ledger_service.security.approvals import Approval

router = APIRouter(tags=["approvals"])


class DecisionBody(Body):
    """`digest` is that of the approval as the decider saw it."""

    decision: approvals.Decision
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reason: ShortText


def _answer(approval: Approval) -> dict[str, Any]:
    facts = approval._asdict()
    return {
        "approval": facts.pop("approval_id"),
        **facts,
        "requested_at": timestamp(approval.requested_at),
        "expires_at": timestamp(approval.expires_at),
        "decided_at": timestamp(approval.decided_at) if approval.decided_at else None,
    }


async def by_two(
    request: Request,
    ledger: str,
    command: ByTwo,
    who: Principal,
    *,
    subject: object,
) -> Response:
    """Carry out what was approved. Where no approval is named, ask a second person for their word, and
    say what they will see (202).

    They are asked for what a dry run takes: never about what would be refused, or stands there already.
    """
    content = approved_content(ledger, command)
    if content is None or command.approval or command.dry_run:
        return await post_one(request, ledger, command)
    tried = msgspec.structs.replace(command, dry_run=True)
    [verdict] = await request.app.state.ledger.submit(ledger, [tried])
    if not isinstance(verdict, Possible):
        return answer_one(verdict)
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        found = await approvals.request_approval(
            connection, content, subject=f"{ledger}/{subject}", requested_by=who.actor
        )
    answer = {"approval": found.approval_id, "digest": found.digest, "facts": found.facts}
    return JSONResponse(answer, status_code=202)


@router.get("/v1/approvals")
async def browse(
    _who: Annotated[Principal, require("approvals.read")],
    request: Request,
    status: approvals.Status | None = None,
    after: Annotated[str, Query(pattern=r"^(apr_[0-9a-z]{26})?$")] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> dict[str, Any]:
    """Approvals in the order of their ids; of one status, if given."""
    async with request.app.state.pool.acquire() as connection:
        found = await approvals.browse(connection, status=status, after=after, limit=limit)
    return {
        "approvals": [_answer(approval) for approval in found],
        "next_after": found[-1].approval_id if len(found) == limit else None,
    }


@router.get("/v1/approvals/{approval}")
async def show(
    approval: str, _who: Annotated[Principal, require("approvals.read")], request: Request
) -> dict[str, Any]:
    """One approval with all the facts that are approved."""
    async with request.app.state.pool.acquire() as connection:
        return _answer(await approvals.find(connection, approval))


@router.post("/v1/approvals/{approval}/decisions")
async def decide(
    approval: str,
    body: DecisionBody,
    who: Annotated[Principal, require("approvals.decide")],
    request: Request,
) -> dict[str, Any]:
    """Approve or refuse, once, from a signed-in session; never one's own request."""
    async with request.app.state.pool.acquire() as connection:
        decided = await approvals.decide(
            connection,
            approval,
            body.decision,
            checker=who.identity,
            digest=body.digest,
            reason=body.reason,
        )
    return _answer(decided)
