"""Probes; open to everybody, with counts only."""

from __future__ import annotations

from fastapi import APIRouter, Request
from psycopg import Error
from psycopg_pool import PoolTimeout
from starlette.responses import JSONResponse

router = APIRouter()


@router.get("/livez")
def livez() -> dict[str, bool]:
    """The process answers."""
    return {"live": True}


@router.get("/readyz")
def readyz(request: Request) -> JSONResponse:
    """Pages can be served: the database of the alerts answers."""
    try:
        with request.app.state.pool.connection(timeout=2) as connection:
            connection.execute("select 1 from alert limit 1")
    except (Error, PoolTimeout) as error:
        return JSONResponse({"ready": False, "error": type(error).__name__}, status_code=503)
    return JSONResponse({"ready": True})
