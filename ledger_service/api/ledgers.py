"""Ledgers: opening, listing, how far each is, balances of all accounts, events."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, FastAPI, Path, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from ledger_service.api import posting_bodies
from ledger_service.api.clocks import AsOf, resolve_seq
from ledger_service.api.problems import Problem
from ledger_service.api.verdicts import rehearsed, settled
from ledger_service.api.who import Principal, require
from ledger_service.contract import environment
from ledger_service.contract.events import TrialLine
from ledger_service.domain.chart import Chart
from ledger_service.domain.trial_balance import roll_ups
from ledger_service.engine import as_of, reads, standing
from ledger_service.engine.charts import known_charts
from ledger_service.engine.client import LedgerClient
from ledger_service.engine.protocol import Possible

EVENTS_MAX = 100_000
"""Events in one answer."""
_CHUNK = 500
"""Lines sent at a time."""
NDJSON = "application/x-ndjson"


@contextlib.asynccontextmanager
async def _with_writer(app: FastAPI) -> AsyncIterator[None]:
    """The line to the writers, shared by all routes."""
    app.state.ledger = LedgerClient(app.state.pool, environment.read("TALLYSTICK_WRITER_SECRET"))
    try:
        yield
    finally:
        await app.state.ledger.close()


router = APIRouter(tags=["ledgers"], lifespan=_with_writer)


@router.post("/v1/ledgers", status_code=201)
async def open_ledger(
    who: Annotated[Principal, require("ledgers.open")], request: Request
) -> Response:
    """Open a ledger; the same again changes nothing."""
    body = await posting_bodies.read(request, posting_bodies.LedgerBody)
    command = body.command(who.actor, who.request_id)
    verdict = settled(await request.app.state.ledger.open_ledger(command))
    if isinstance(verdict, Possible):
        return rehearsed(verdict)
    opened = await reads.ledger(request.app.state.pool, body.ledger)
    return JSONResponse(opened, status_code=200 if verdict.replayed else 201)


@router.get("/v1/ledgers")
async def list_ledgers(
    _who: Annotated[Principal, require("ledgers.read")], request: Request
) -> dict[str, Any]:
    """Every ledger and where it stands."""
    return {"ledgers": await reads.ledgers(request.app.state.pool)}


@router.get("/v1/ledgers/{ledger}")
async def get_ledger(
    ledger: str, _who: Annotated[Principal, require("ledgers.read")], request: Request
) -> dict[str, Any]:
    """One ledger."""
    found = await reads.ledger(request.app.state.pool, ledger)
    if found is None:
        raise Problem("ledger_not_open")
    return found


@router.get("/v1/ledgers/{ledger}/chart")
async def get_chart(
    ledger: str, _who: Annotated[Principal, require("ledgers.read")], request: Request
) -> dict[str, Any]:
    """The general ledger of a ledger's chart of accounts: codes, names, what each rolls up into."""
    found = await reads.ledger(request.app.state.pool, ledger)
    if found is None:
        raise Problem("ledger_not_open")
    headings = known_charts()[found["chart"]].headings
    return {
        "ledger": ledger,
        "chart": found["chart"],
        "headings": msgspec.to_builtins(list(headings.values())),
    }


@router.get("/v1/ledgers/{ledger}/progress")
async def progress(
    ledger: str, _who: Annotated[Principal, require("ledgers.read")], request: Request
) -> dict[str, int]:
    """`seq` posted, followed by the history, and published to the topic."""
    found = await reads.progress(request.app.state.pool, ledger)
    if found is None:
        raise Problem("ledger_not_open")
    return found


@router.get("/v1/ledgers/{ledger}/balances")
async def balances(
    ledger: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    clocks: AsOf,
) -> Response:
    """Every account's debits and credits on both clocks, as NDJSON."""
    pool = request.app.state.pool
    seq = await clocks.known_seq(request, ledger)
    at = await clocks.resolve(request, ledger) if clocks.asks_when_effective else None

    async def lines() -> AsyncIterator[bytes]:
        async with pool.acquire() as connection:
            async for row in (
                as_of.balances(connection, ledger, at)
                if at
                else standing.balances(connection, ledger, seq)
            ):
                yield msgspec.json.encode(row)

    headers = {"X-Ledger-Seq": str(at.seq if at else seq)}
    return StreamingResponse(_chunked(lines()), media_type=NDJSON, headers=headers)


@router.get("/v1/ledgers/{ledger}/trial-balance")
async def trial_balance(
    ledger: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    clocks: AsOf,
) -> dict[str, Any]:
    """Debits and credits by gl_code on both clocks, rolled up by the chart's headings.

    `lines` are the accounts of each code; a roll-up is the sum of the lines and roll-ups whose
    parent it is.
    """
    pool = request.app.state.pool
    if clocks.asks_when_effective:
        at = await clocks.resolve(request, ledger)
        seq, rows = at.seq, await as_of.trial_balance(pool, ledger, at)
    else:
        seq = await clocks.known_seq(request, ledger)
        rows = await standing.trial_balance(pool, ledger, seq)
    lines = as_of.trial_lines(rows)
    sums: dict[str, int] = {}
    for line in lines:
        difference = int(line.debits) - int(line.credits)
        sums[line.currency] = sums.get(line.currency, 0) + difference
    opened = await reads.ledger(pool, ledger)
    if opened is None:
        raise Problem("ledger_not_open")
    chart = known_charts()[opened["chart"]]
    return {
        "ledger": ledger,
        **clocks.stated(seq),
        "lines": [_shown(chart, line) for line in lines],
        "roll_ups": msgspec.to_builtins(roll_ups(chart, lines)),
        "balanced": not any(sums.values()),
    }


def _shown(chart: Chart, line: TrialLine) -> dict[str, Any]:
    """A line with what the chart says of its code."""
    heading = chart.headings[line.gl_code]
    return {**msgspec.to_builtins(line), "name": heading.name, "parent": heading.parent}


@router.get("/v1/ledgers/{ledger}/events")
async def events(
    ledger: str,
    _who: Annotated[Principal, require("events.read")],
    request: Request,
    after_seq: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=EVENTS_MAX)] = 1000,
) -> Response:
    """Canonical bytes of the events after a `seq`, one a line."""
    await resolve_seq(request, ledger, None)
    pool = request.app.state.pool
    lines = reads.event_bytes(pool, ledger, after_seq=after_seq, limit=limit)
    return StreamingResponse(_chunked(lines), media_type=NDJSON)


@router.get("/v1/ledgers/{ledger}/events/{seq}")
async def event(
    ledger: str,
    seq: Annotated[int, Path(ge=1, le=reads.LAST_SEQ)],
    _who: Annotated[Principal, require("proofs.read")],
    request: Request,
) -> Response:
    """Canonical bytes of one event: what its leaf in the tree is the hash of."""
    pool = request.app.state.pool
    await resolve_seq(request, ledger, None)
    async for raw in reads.event_bytes(pool, ledger, after_seq=seq - 1, limit=1):
        return Response(raw, media_type="application/json")
    raise Problem("unknown_transaction", "The ledger has no event of this seq yet.")


async def _chunked(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines in chunks: one by one they cost more to send than to make."""
    chunk: list[bytes] = []
    async for line in lines:
        chunk.append(line)
        if len(chunk) >= _CHUNK:
            yield b"\n".join(chunk) + b"\n"
            chunk = []
    if chunk:
        yield b"\n".join(chunk) + b"\n"
