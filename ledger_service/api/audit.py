"""The audit log: writing it around a privileged act, and reading it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from ledger_service.api.who import Principal, require
from ledger_service.parties.errors import PartyRefusal
from ledger_service.security import audit
from ledger_service.security.identities import Connection

router = APIRouter(tags=["audit"])


@contextlib.asynccontextmanager
async def recorded(
    request: Request,
    who: Principal,
    action: str,
    subject: str,
    details: Mapping[str, str | bool | None],
) -> AsyncIterator[Connection]:
    """A transaction for a privileged act that commits only together with its row on the audit log.
    A refusal of the act is on the log as well.
    """
    facts = {**details, "request_id": who.request_id}
    async with request.app.state.pool.acquire() as connection:
        try:
            async with connection.transaction():
                yield connection
                await audit.record(
                    connection, actor=who.actor, action=action, subject=subject, details=facts
                )
        except PartyRefusal as refusal:
            await audit.record(
                connection,
                actor=who.actor,
                action=action,
                subject=subject,
                outcome="refused",
                details={**facts, "code": refusal.code},
            )
            raise


@router.get("/v1/audit-log")
async def read(
    _who: Annotated[Principal, require("audit.read")],
    request: Request,
    after: Annotated[int, Query(ge=0, lt=2**63)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    actor: Annotated[str | None, Query(pattern=r"^(key|usr)_[0-9a-z]{26}$")] = None,
) -> dict[str, Any]:
    """Rows after `after`, oldest first. `hash` seals a row and all before it."""
    async with request.app.state.pool.acquire() as connection:
        rows = await audit.read_log(connection, after=after, limit=limit, actor=actor)
    return {
        "rows": [row._asdict() for row in rows],
        "next_after": rows[-1].seq if len(rows) == limit else None,
    }
