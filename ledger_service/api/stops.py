"""Stopped ledgers: what verification found, and the request that two people let it go on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request

from ledger_service.api.bodies import Body, ShortText
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract.events import timestamp
from ledger_service.engine import stops
from ledger_service.engine.stops import Stop
from ledger_service.security import approvals

router = APIRouter(tags=["stops"])


class ResumptionBody(Body):
    """Why the ledger may go on: what was found, and how it was mended."""

    reason: ShortText


@router.get("/v1/ledgers/{ledger}/stops")
async def list_stops(
    ledger: str, _who: Annotated[Principal, require("ledgers.read")], request: Request
) -> dict[str, Any]:
    """Every stop of a ledger, newest first; one without `resumed_at` is open."""
    found = await stops.stops_of(request.app.state.pool, ledger)
    return {"stops": [_shown(stop) for stop in found]}


@router.post("/v1/ledgers/{ledger}/resumptions", status_code=202)
async def ask_for_resumption(
    ledger: str,
    body: ResumptionBody,
    who: Annotated[Principal, require("ledgers.resume")],
    request: Request,
) -> dict[str, Any]:
    """Ask that a stopped ledger go on; once another person has approved, the writer resumes it."""
    async with request.app.state.pool.acquire() as connection, connection.transaction():
        stop = await stops.open_stop(connection, ledger)
        if stop is None:
            raise Problem("ledger_not_stopped")
        approval = await approvals.request_approval(
            connection,
            stops.content(stop, body.reason),
            subject=stops.subject(stop),
            requested_by=who.actor,
        )
    return {"approval": approval.approval_id, "digest": approval.digest, "stop": _shown(stop)}


def _shown(stop: Stop) -> dict[str, Any]:
    return {
        **stop._asdict(),
        "stopped_at": timestamp(stop.stopped_at),
        "resumed_at": timestamp(stop.resumed_at) if stop.resumed_at else None,
    }
