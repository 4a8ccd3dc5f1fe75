"""Holds: set money aside, capture it wholly or in parts, give it back; and batches of any kind."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from ledger_service.api import posting_bodies
from ledger_service.api.accounts import BATCH_MAX_BYTES
from ledger_service.api.clocks import SeqInPath, resolve_seq
from ledger_service.api.command_items import CommandItem, CommandsBody, item_command
from ledger_service.api.posting_bodies import CaptureBody, HoldBody, VoidBody
from ledger_service.api.problems import Problem
from ledger_service.api.transactions import answer_batch, decode_each, post_one
from ledger_service.api.who import Principal, require
from ledger_service.domain.commands import Keyed
from ledger_service.engine import hold_reads, reads

router = APIRouter(tags=["holds"])

_Poster = Annotated[Principal, require("transactions.post")]
_Reader = Annotated[Principal, require("ledgers.read")]


@router.post("/v1/ledgers/{ledger}/holds", status_code=201)
async def place_hold(ledger: str, who: _Poster, request: Request) -> Response:
    """Set money aside until it is captured, voided or expires. The same key and content again: 200."""
    body = await posting_bodies.read(request, HoldBody)
    return await post_one(request, ledger, body.command(ledger, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/holds/{seq}:capture", status_code=201)
async def capture_hold(ledger: str, seq: SeqInPath, who: _Poster, request: Request) -> Response:
    """Post what was set aside, wholly or in part; a part ends the hold unless it says otherwise."""
    body = await posting_bodies.read(request, CaptureBody)
    return await post_one(request, ledger, body.command(ledger, seq, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/holds/{seq}:void", status_code=201)
async def void_hold(ledger: str, seq: SeqInPath, who: _Poster, request: Request) -> Response:
    """Give back what is left of a hold."""
    body = await posting_bodies.read(request, VoidBody)
    return await post_one(request, ledger, body.command(ledger, seq, who.actor, who.request_id))


@router.get("/v1/ledgers/{ledger}/holds/{seq}")
async def get_hold(ledger: str, seq: SeqInPath, _who: _Reader, request: Request) -> dict[str, Any]:
    """A hold as it was placed, what is left of it, the `seq` of its captures, and its release: the
    event that voided it or let it expire, null where there is none.
    """
    pool = request.app.state.pool
    found = await hold_reads.hold(pool, ledger, seq)
    if found is None:
        raise Problem("unknown_hold")
    found["release"] = None
    if found["state"] in ("voided", "expired"):
        last = reads.event_bytes(pool, ledger, after_seq=found["changed_by"] - 1, limit=1)
        async for raw in last:
            found["release"] = msgspec.json.decode(raw)
    return found


@router.get("/v1/ledgers/{ledger}/holds")
async def list_holds(
    *,
    ledger: str,
    _who: _Reader,
    request: Request,
    state: hold_reads.State | None = None,
    account: str | None = None,
    before: Annotated[int, Query(ge=1, le=reads.LAST_SEQ)] = reads.LAST_SEQ,
    limit: Annotated[int, Query(ge=1, le=reads.PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """Holds that fit both filters, newest first; `next_before` is the `before` of the next page.

    A page of ended holds looks at some twenty thousand at most, and may be short, or empty, before
    the last one, whose `next_before` is null.
    """
    pool = request.app.state.pool
    await resolve_seq(request, ledger, None)
    number = None if account is None else await reads.number_of(pool, ledger, account)
    if account is not None and number is None:
        raise Problem("unknown_account")
    page = await hold_reads.find(
        pool, ledger, state=state, number=number, before=before, limit=limit
    )
    return {"holds": page.holds, "next_before": page.following}


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

    `linked`: all of them or none. `dry_run`: nothing, each as if those before it were done.
    """
    body = await posting_bodies.read(request, CommandsBody)
    decoded = await decode_each(request, body.commands, lambda raw: _command(raw, ledger, who))
    return await answer_batch(request, ledger, decoded, linked=body.linked, dry_run=body.dry_run)


def _command(raw: msgspec.Raw, ledger: str, who: Principal) -> Keyed:
    body: Any = posting_bodies.decode(raw, CommandItem)  # type: ignore[arg-type]
    return item_command(body, ledger, who.actor, who.request_id)
