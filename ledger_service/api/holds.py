"""Holds: set money aside, capture it wholly or in parts, give it back; and batches of any kind."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger_service.api import posting_bodies
from ledger_service.api.accounts import BATCH_MAX_BYTES
from ledger_service.api.command_items import CommandItem, CommandsBody, item_command
from ledger_service.api.posting_bodies import CaptureBody, HoldBody, VoidBody
from ledger_service.api.problems import Problem
from ledger_service.api.transactions import answer_batch, decode_each, post_one
from ledger_service.api.who import Principal, require
from ledger_service.domain.commands import Keyed
from ledger_service.engine import hold_reads

router = APIRouter(tags=["holds"])

_Poster = Annotated[Principal, require("transactions.post")]
_Reader = Annotated[Principal, require("ledgers.read")]


@router.post("/v1/ledgers/{ledger}/holds", status_code=201)
async def place_hold(ledger: str, who: _Poster, request: Request) -> Response:
    """Set money aside until it is captured, voided or expires. The same key and content again: 200."""
    body = await posting_bodies.read(request, HoldBody)
    return await post_one(request, ledger, body.command(ledger, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/holds/{seq}:capture", status_code=201)
async def capture_hold(ledger: str, seq: int, who: _Poster, request: Request) -> Response:
    """Post what was set aside, wholly or in part; a part ends the hold unless it says otherwise."""
    body = await posting_bodies.read(request, CaptureBody)
    return await post_one(request, ledger, body.command(ledger, seq, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/holds/{seq}:void", status_code=201)
async def void_hold(ledger: str, seq: int, who: _Poster, request: Request) -> Response:
    """Give back what is left of a hold."""
    body = await posting_bodies.read(request, VoidBody)
    return await post_one(request, ledger, body.command(ledger, seq, who.actor, who.request_id))


@router.get("/v1/ledgers/{ledger}/holds/{seq}")
async def get_hold(ledger: str, seq: int, _who: _Reader, request: Request) -> dict[str, Any]:
    """A hold as it was placed, what is left of it, and the `seq` of its captures."""
    found = await hold_reads.hold(request.app.state.pool, ledger, seq)
    if found is None:
        raise Problem("unknown_hold")
    return found


@router.get("/v1/ledgers/{ledger}/accounts/{account}/holds")
async def open_holds(
    ledger: str,
    account: str,
    _who: _Reader,
    request: Request,
    after: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """The open holds that touch an account, oldest first; `after` is the last `seq` of a page."""
    found = await hold_reads.open_holds(
        request.app.state.pool, ledger, account, after=after, limit=limit
    )
    if found is None:
        raise Problem("unknown_account")
    return {"holds": found, "next_after": found[-1]["seq"] if len(found) == limit else None}


@router.post("/v1/ledgers/{ledger}/commands:batch", max_body_size=BATCH_MAX_BYTES)
async def batch(ledger: str, who: _Poster, request: Request) -> Response:
    """Several commands in order, each `do`: post, hold, capture, void, charge, accrue or
    capitalize; a verdict for each.

    `linked`: all of them or none.
    """
    body = await posting_bodies.read(request, CommandsBody)
    decoded = await decode_each(body.commands, lambda raw: _command(raw, ledger, who))
    return await answer_batch(request, ledger, decoded, linked=body.linked)


def _command(raw: msgspec.Raw, ledger: str, who: Principal) -> Keyed:
    body: Any = posting_bodies.decode(raw, CommandItem)  # type: ignore[arg-type]
    return item_command(body, ledger, who.actor, who.request_id)
