"""The audit logs: the ledger's, and monitoring's own."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from monitoring import audit
from monitoring.console.access import Person, require
from monitoring.console.ledger import Ledger
from monitoring.console.render import page

router = APIRouter()

PAGE_ROWS = 100


@router.get("/audit")
def log(
    request: Request,
    person: Annotated[Person, require("audit.read")],
    room: str = "ledger",
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
) -> Response:
    """Rows after `after`, oldest first. What was done to alerts, only to who may see alerts."""
    rooms = ["ledger", "monitoring"] if person.may("alerts.view") else ["ledger"]
    room = room if room in rooms else "ledger"
    if room == "monitoring":
        rows, next_after, broken_at = _own(request, after)
    else:
        api = Ledger(request.app.state.api, person.token)
        answer = api.get("/v1/audit-log", after=after, limit=PAGE_ROWS)
        rows, next_after, broken_at = answer["rows"], answer["next_after"], None
    return page(
        request,
        "audit.html",
        room=room,
        rooms=rooms,
        rows=rows,
        after=after,
        next_after=next_after,
        broken_at=broken_at,
    )


def _own(request: Request, after: int) -> tuple[list[dict[str, Any]], int | None, int | None]:
    with request.app.state.pool.connection() as connection:
        rows = connection.execute(
            "select *, encode(digest, 'hex') as hash from audit "
            "where seq > %s order by seq limit %s",
            (after, PAGE_ROWS),
        ).fetchall()
        broken_at = audit.broken_at(connection)
    shown = [row | {"details": {"detail": row["detail"]} if row["detail"] else {}} for row in rows]
    return shown, rows[-1]["seq"] if len(rows) == PAGE_ROWS else None, broken_at
