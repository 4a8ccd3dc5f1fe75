"""The overview: how far each room is, live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from ledger_service.contract.snapshots import Progress, read_progress
from monitoring.console.access import Forbidden, Person, Requirement, SignInNeeded, require
from monitoring.console.ledger import Ledger, LedgerAway, LedgerProblem
from monitoring.console.render import page
from monitoring.marts import NotPublished, Row

TICK_SECONDS = 1.0

router = APIRouter()
_permission = Requirement("ledgers.read")

ROOMS = [
    ("posted", "Ledger", "posted"),
    ("kafka", "Kafka", "published"),
    ("landed", "Landing", "landed"),
    ("marts", "Marts", "in marts"),
]
ALERTS_ROOM = ("alerts", "Alerts", "looked at")
"""Shown only to who may see alerts: not even their number tells the others anything."""


def _alerts(request: Request) -> dict[str, Any]:
    with request.app.state.pool.connection() as connection:
        counts = connection.execute(
            "select status, count(*) as alerts from alert group by status"
        ).fetchall()
        last = connection.execute(
            "select as_of from intake order by intake_id desc limit 1"
        ).fetchone()
    by_status = {row["status"]: row["alerts"] for row in counts}
    return {
        "as_of": last["as_of"] if last else {},
        "open": by_status.get("open", 0),
        "escalated": by_status.get("escalated", 0),
        "closed": by_status.get("closed", 0),
    }


def _positions(ledger: Ledger, name: str, progress: Progress | None) -> dict[str, int | None]:
    try:
        at_source = ledger.get(f"/v1/ledgers/{name}/progress")
    except LedgerProblem:
        at_source = {}
    return {
        "posted": at_source.get("posted_seq"),
        "kafka": at_source.get("published_seq"),
        "landed": progress.landed.get(name, 0) if progress else 0,
        "marts": progress.published.get(name, 0) if progress else 0,
    }


def figures(request: Request, person: Person) -> dict[str, Any]:
    """Everything that moves on the page. A ledger API that is away is a state, not an error."""
    ledger = Ledger(request.app.state.api, person.token)
    progress = read_progress(request.app.state.settings.snapshots)
    try:
        names = sorted(item["ledger"] for item in ledger.get("/v1/ledgers")["ledgers"])
        ledgers = {name: _positions(ledger, name, progress) for name in names}
        is_away = False
    except LedgerAway:
        is_away, ledgers = True, {}
    alerts = None
    if person.may("alerts.view"):
        alerts = _alerts(request)
        for name, positions in ledgers.items():
            positions["alerts"] = alerts["as_of"].get(name, 0)
    rooms = list(next(iter(ledgers.values()), {}))
    return {
        "ledgers": ledgers,
        "totals": {
            room: sum(positions[room] or 0 for positions in ledgers.values()) for room in rooms
        },
        "alerts": alerts,
        "quarantined": progress.quarantined if progress else 0,
        "blocked_by": progress.blocked_by if progress else [],
        "updated_at": progress.updated_at if progress else None,
        "is_away": is_away,
    }


@router.get("/")
def overview(request: Request, person: Annotated[Person, require("ledgers.read")]) -> Response:
    """The page; its figures are kept up by `/overview/live`."""
    rooms = [*ROOMS, ALERTS_ROOM] if person.may("alerts.view") else ROOMS
    days, breaks = _reconciliation(request) if person.may("reconciliation.view") else ([], [])
    return page(
        request,
        "overview.html",
        figures=figures(request, person),
        rooms=rooms,
        days=days,
        breaks=breaks,
    )


def _reconciliation(request: Request) -> tuple[list[Row], list[Row]]:
    """Each ledger's last FBO day and number of breaks; nothing before the first snapshot."""
    try:
        marts = request.app.state.marts.current("general")
        days = marts.rows(
            "select * from reconciliation_days where account = 'bank:fbo' "
            "qualify row_number() over (partition by ledger order by statement_date desc) = 1 "
            "order by ledger"
        )
        breaks = marts.rows(
            "select d.ledger, count(b.break_id) as breaks, min(b.opened_date) as oldest "
            "from (select distinct ledger from reconciliation_days) d "
            "left join reconciliation_breaks b on b.ledger = d.ledger and b.kind <> 'timing' "
            "group by d.ledger order by d.ledger"
        )
    except NotPublished:
        return [], []
    return days, breaks


@router.get("/overview/live")
def live(request: Request, person: Annotated[Person, require("ledgers.read")]) -> Response:
    """Server-sent events: the figures each second, as long as the session holds."""
    return StreamingResponse(_ticks(request, person), media_type="text/event-stream")


async def _ticks(request: Request, person: Person) -> AsyncIterator[str]:
    while not request.app.state.draining and not await request.is_disconnected():
        try:
            person = await run_in_threadpool(_permission, request)
            current = await run_in_threadpool(figures, request, person)
        except (SignInNeeded, Forbidden):
            yield "event: ended\ndata: {}\n\n"
            return
        except (LedgerAway, LedgerProblem):
            current = {"is_away": True}
        yield f"data: {json.dumps(current)}\n\n"
        await asyncio.sleep(TICK_SECONDS)
