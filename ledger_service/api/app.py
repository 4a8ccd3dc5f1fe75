"""The ledger API: a FastAPI application of one router per resource."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import import_module

import asyncpg
from fastapi import FastAPI
from starlette.routing import BaseRoute

from ledger_service.api import problems
from ledger_service.api.documentation import permissions_of
from ledger_service.api.edge import Edge
from ledger_service.api.who import KeyCache
from ledger_service.contract import environment
from ledger_service.engine.client import LedgerClient

RESOURCES = (
    "health",
    "documentation",
    "sessions",
    "approvals",
    "audit",
    "parties",
    "ledgers",
    "accounts",
    "transactions",
    "proofs",
    "statements",
    "reversals",
)
BODY_MAX_BYTES = 1024 * 1024
"""Of a route that does not say otherwise (`max_body_size` of the route)."""


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    pool = await asyncpg.create_pool(
        environment.read("TALLYSTICK_DATABASE_URL"), min_size=1, max_size=16, command_timeout=30
    )
    app.state.pool = pool
    app.state.ledger = LedgerClient(pool, environment.read("TALLYSTICK_WRITER_SECRET"))
    try:
        yield
    finally:
        await app.state.ledger.close()
        await pool.close()


def create_app() -> FastAPI:
    """The application; its pool and its line to the writer open when it starts."""
    app = FastAPI(
        title="Tallystick ledger API",
        version="1",
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        max_body_size=BODY_MAX_BYTES,
    )
    app.state.keys = KeyCache()
    app.state.draining = False
    app.state.routers = []
    app.add_middleware(Edge)
    problems.install(app)
    for name in RESOURCES:
        try:
            module = import_module(f"ledger_service.api.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"ledger_service.api.{name}":
                raise
            continue
        app.state.routers.append(module.router)
        for route in module.router.routes:
            # Before inclusion: what a route asks for is part of its public description.
            route.openapi_extra = {
                "x-permission": " ".join(permissions_of(route.dependant)) or "none"
            }
        app.include_router(module.router)
    return app


def every_route(app: FastAPI) -> list[BaseRoute]:
    """All routes of all resources, as they are declared."""
    return [route for router in app.state.routers for route in router.routes]
