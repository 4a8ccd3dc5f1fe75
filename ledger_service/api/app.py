"""The ledger API: a FastAPI application of one router per resource."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from ledger_service.api import (
    accounts,
    approvals,
    as_of,
    audit,
    documentation,
    health,
    holds,
    ledgers,
    parties,
    periods,
    problems,
    proofs,
    reversals,
    rules,
    sessions,
    statements,
    stops,
    transaction_reads,
    transactions,
)
from ledger_service.api.documentation import permissions_of
from ledger_service.api.edge import Edge
from ledger_service.api.hot_routes import HotRoutes
from ledger_service.api.who import KeyCache
from ledger_service.contract import environment
from ledger_service.engine import durability

RESOURCES = (
    health,
    documentation,
    sessions,
    approvals,
    audit,
    parties,
    ledgers,
    accounts,
    as_of,
    transaction_reads,
    transactions,
    holds,
    periods,
    rules,
    proofs,
    stops,
    statements,
    reversals,
)
BODY_MAX_BYTES = 1024 * 1024
"""Of a route that does not say otherwise (`max_body_size` of the route)."""


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    pool = await asyncpg.create_pool(
        environment.read("TALLYSTICK_DATABASE_URL"),
        min_size=1,
        max_size=16,
        command_timeout=30,
        server_settings=durability.SESSION,
        reset=_as_it_is,
    )
    app.state.pool = pool
    try:
        yield
    finally:
        await pool.close()


async def _as_it_is(_connection: object) -> None:
    """A connection goes back as it is: no route changes its session, which to reset would cost every
    read a second way to PostgreSQL and back. (A transaction left open is rolled back all the same.)"""


class LedgerApi(FastAPI):
    """The application, with a way past the framework for the routes that carry the load."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if _HOT.match(scope):
            scope["app"] = self
            await _HOT_EDGE(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def create_app() -> FastAPI:
    """The application; its pool, and what its resources need, open when it starts."""
    app = LedgerApi(
        title="Tallystick ledger API",
        version="1",
        lifespan=_lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.keys = KeyCache()
    app.state.decoding = asyncio.Lock()
    app.state.draining = False
    app.add_middleware(Edge)
    problems.install(app)
    for resource in RESOURCES:
        for route in _routes(resource.router):
            # What a route asks for is part of its public description.
            permission = " ".join(permissions_of(route.dependant)) or "none"
            route.openapi_extra = {**(route.openapi_extra or {}), "x-permission": permission}
        app.include_router(resource.router, max_body_size=BODY_MAX_BYTES)
    return app


def _routes(router: APIRouter) -> list[APIRoute]:
    """The routes of one resource. Errors: TypeError for one that FastAPI does not guard."""
    for route in router.routes:
        if not isinstance(route, APIRoute):
            raise TypeError(f"{route} is no route of FastAPI: nobody would check its caller")
    return [route for route in router.routes if isinstance(route, APIRoute)]


def every_route() -> list[APIRoute]:
    """All routes of all resources, as they are declared."""
    return [route for resource in RESOURCES for route in _routes(resource.router)]


_CARRYING = (
    transactions.post_transaction,
    transactions.post_batch,
    holds.batch,
    accounts.get_account,
)
"""What carries the load."""
_HOT = HotRoutes((route for route in every_route() if route.endpoint in _CARRYING), BODY_MAX_BYTES)
_HOT_EDGE = Edge(_HOT)
