"""Open probes: /livez says that the process answers, /readyz that it can take work."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

router = APIRouter(tags=["health"])


@router.get("/livez")
async def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """Ready: the database answers, and the service is not draining."""
    ready = not request.app.state.draining
    if ready:
        try:
            async with asyncio.timeout(2):
                await request.app.state.pool.fetchval("select 1")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            ready = False
    body: dict[str, Any] = {"ready": ready}
    return JSONResponse(body, status_code=200 if ready else 503)
