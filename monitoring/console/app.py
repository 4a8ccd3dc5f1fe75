"""The console as a FastAPI application: one router per page, headers on every answer."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path

import httpx
import msgspec
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from psycopg_pool import ConnectionPool
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from monitoring.console import render
from monitoring.console.access import RoleCache
from monitoring.database import Connection
from monitoring.marts import Marts
from monitoring.proofs import Keys

PAGES = (
    "health",
    "sign_in",
    "overview",
    "data",
    "balances",
    "holds",
    "periods",
    "rules",
    "fbo",
    "breaks",
    "alerts",
    "proof",
    "reversals",
    "approvals",
    "audit_log",
    "dagster",
)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is."""

    api_url: str
    snapshots: Path
    reports: Path
    warehouse: Path
    dagster_url: str
    dagster_secret: str
    keys: Keys
    secure_cookies: bool


class Headers:
    """ASGI middleware: what every answer carries. Pages proxied here bring their own policy."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request with the headers added."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_static = scope["path"].startswith("/static/")
                headers["cache-control"] = "no-cache" if is_static else "no-store"
                headers["x-content-type-options"] = "nosniff"
                headers["referrer-policy"] = "same-origin"
                headers["cross-origin-opener-policy"] = "same-origin"
                headers.setdefault("content-security-policy", render.CONTENT_SECURITY_POLICY)
                if "x-frame-options" not in headers:
                    headers["x-frame-options"] = "DENY"
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


def create_app(settings: Settings, pool: ConnectionPool[Connection]) -> FastAPI:
    """The application; its HTTP clients close with it, the pool is the caller's."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with httpx.AsyncClient(timeout=httpx.Timeout(60, connect=3)) as dagster:
            app.state.dagster = dagster
            yield
        app.state.api.close()

    app = FastAPI(
        title="Tallystick console",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.settings = settings
    app.state.secure_cookies = settings.secure_cookies
    app.state.pool = pool
    app.state.marts = Marts(settings.snapshots)
    app.state.roles = RoleCache()
    app.state.draining = False
    app.state.api = httpx.Client(
        base_url=settings.api_url,
        timeout=httpx.Timeout(10, connect=2),
        limits=httpx.Limits(max_connections=32),
    )
    app.add_middleware(Headers)
    render.install(app)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
    for name in PAGES:
        app.include_router(import_module(f"monitoring.console.pages.{name}").router)
    return app
