"""Accounts: opening one or many, listing, balances, entries, freezing."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse, Response

from ledger_service.api import posting_bodies
from ledger_service.api.clocks import recorded_range, resolve_seq
from ledger_service.api.json_bytes import JsonBytes
from ledger_service.api.problems import Problem
from ledger_service.api.verdicts import item, rehearsed, settled
from ledger_service.api.who import Principal, require
from ledger_service.domain.commands import ChangeAccount
from ledger_service.engine import entry_list, reads
from ledger_service.engine.protocol import Possible

router = APIRouter(tags=["accounts"])
BATCH_MAX_BYTES = 32 * 1024 * 1024


@router.post("/v1/ledgers/{ledger}/accounts", status_code=201)
async def open_account(
    ledger: str, who: Annotated[Principal, require("accounts.open")], request: Request
) -> Response:
    """Open an account; the same again changes nothing."""
    body = await posting_bodies.read(request, posting_bodies.AccountBody)
    command = body.command(who.actor, who.request_id)
    verdict = settled((await request.app.state.ledger.submit(ledger, [command]))[0])
    if isinstance(verdict, Possible):
        return rehearsed(verdict)
    found = await reads.account(request.app.state.pool, ledger, body.account)
    return JSONResponse(found, status_code=200 if verdict.replayed else 201)


@router.post("/v1/ledgers/{ledger}/accounts:batch", max_body_size=BATCH_MAX_BYTES)
async def open_accounts(
    ledger: str, who: Annotated[Principal, require("accounts.open")], request: Request
) -> dict[str, Any]:
    """Open many accounts; a verdict for each."""
    body = await posting_bodies.read(request, posting_bodies.AccountsBody)
    commands = [account.command(who.actor, who.request_id) for account in body.accounts]
    verdicts = await request.app.state.ledger.submit(ledger, commands, with_events=False)
    return {"results": [item(verdict) for verdict in verdicts]}


@router.get("/v1/ledgers/{ledger}/accounts")
async def list_accounts(
    ledger: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=reads.PAGE_MAX)] = 100,
    prefix: str = "",
) -> dict[str, Any]:
    """Accounts by id; `next` is the `after` of the next page, null at the end."""
    pool = request.app.state.pool
    if await reads.head_seq(pool, ledger) is None:
        raise Problem("ledger_not_open")
    found = await reads.accounts(pool, ledger, after=after, limit=limit, prefix=prefix)
    following = found[-1]["account"] if len(found) == limit else None
    return {"accounts": found, "next": following}


@router.get("/v1/ledgers/{ledger}/accounts/{account}")
async def get_account(
    ledger: str,
    account: str,
    who: Annotated[Principal, require("ledgers.read")],  # noqa: ARG001 - hot routes name it
    request: Request,
) -> Response:
    """An account with its balances; `seq` is that of the last transaction that moved it."""
    found = await reads.account(request.app.state.pool, ledger, account)
    if found is None:
        raise Problem("not_found", "There is no such account in this ledger.")
    return JsonBytes(msgspec.json.encode(found))


@router.patch("/v1/ledgers/{ledger}/accounts/{account}")
async def change_account(
    ledger: str,
    account: str,
    who: Annotated[Principal, require("accounts.freeze")],
    request: Request,
) -> Response:
    """Freeze, thaw or close an account, with the code of a reason."""
    body = await posting_bodies.read(request, posting_bodies.StatusBody)
    command = ChangeAccount(
        account, body.status, body.reason, who.actor, who.request_id, body.dry_run
    )
    verdict = settled((await request.app.state.ledger.submit(ledger, [command]))[0])
    if isinstance(verdict, Possible):
        return rehearsed(verdict)
    found = await reads.account(request.app.state.pool, ledger, account)
    if found is None:
        raise Problem("not_found", "There is no such account in this ledger.")
    return JSONResponse(found)


@router.get("/v1/ledgers/{ledger}/accounts/{account}/entries")
async def list_entries(
    *,
    ledger: str,
    account: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    side: Literal["debit", "credit"] | None = None,
    amount_min: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    amount_max: Annotated[int | None, Query(ge=1, lt=2**63)] = None,
    effective_date_from: dt.date | None = None,
    effective_date_to: dt.date | None = None,
    recorded_from: str | None = None,
    recorded_to: str | None = None,
    before_seq: Annotated[int, Query(ge=1, lt=2**63)] = reads.LAST_SEQ,
    limit: Annotated[int, Query(ge=1, le=reads.PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """An account's entries that fit every filter, newest first.

    Amounts (minor units) and days are from the first up to the second, with both; moments of
    recording without the second. `next_before_seq` asks for the next page, and null is the end: where
    few entries fit, a page may be short, or empty, before it.
    """
    pool = request.app.state.pool
    head = await resolve_seq(request, ledger, None)
    number = await reads.number_of(pool, ledger, account)
    if number is None:
        raise Problem("not_found", "There is no such account in this ledger.")
    recorded = await recorded_range(request, ledger, recorded_from, recorded_to)
    filters = entry_list.Filters(
        side, amount_min, amount_max, effective_date_from, effective_date_to, *recorded
    )
    page = await entry_list.find(
        pool, ledger, number, filters, before=before_seq, limit=limit, head=head
    )
    return {
        "account": account,
        "entries": [entry_list.entry_of(row) for row in page.rows],
        "next_before_seq": page.following,
    }
