"""Dagster's pages under /dagster/, behind the console's sign-in.

Dagster knows no persons: it trusts a secret that only the console sends. Nothing of a person goes
through: no cookie, no authorization header, in neither direction.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import structlog
from fastapi import APIRouter, HTTPException, Request, WebSocket
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.websockets import WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException
from websockets.typing import Subprotocol

from monitoring.console.access import (
    Forbidden,
    ForeignForm,
    Person,
    Requirement,
    SignInNeeded,
    refuse_foreign,
    require,
)
from monitoring.console.ledger import LedgerAway, LedgerProblem

router = APIRouter()
_log = structlog.get_logger()
_permission = Requirement("pipelines.view")

SECRET_HEADER = "X-Tallystick-Proxy"  # noqa: S105 - the header's name

_NOT_FORWARDED = frozenset(
    {
        *("host", "connection", "keep-alive", "transfer-encoding", "upgrade", "te", "trailer"),
        *("cookie", "set-cookie", "authorization", "proxy-authorization", "proxy-authenticate"),
        SECRET_HEADER.lower(),
    }
)
_CLOSED_POLICY, _CLOSED_AWAY = 1008, 1013
RECHECK_SECONDS = 15


@router.get("/dagster")
def start(_person: Annotated[Person, require("pipelines.view")]) -> Response:
    """Dagster's first page."""
    return RedirectResponse("/dagster/", status_code=303)


@router.api_route("/dagster/{path:path}", methods=["GET", "HEAD", "POST"])
async def forward(
    request: Request, _person: Annotated[Person, require("pipelines.view")]
) -> Response:
    """One request, its body and answer streamed. Errors: 503 where Dagster is away."""
    settings = request.app.state.settings
    if not settings.dagster_url:
        raise HTTPException(404, "This console was given no address of Dagster’s pages.")
    if request.method == "POST":
        refuse_foreign(request)
    client: httpx.AsyncClient = request.app.state.dagster
    headers = [
        (name, value) for name, value in request.headers.items() if name not in _NOT_FORWARDED
    ]
    sent = client.build_request(
        request.method,
        _address(settings.dagster_url, request.url.path, request.url.query),
        headers=[*headers, (SECRET_HEADER, settings.dagster_secret)],
        content=request.stream() if request.method == "POST" else None,
    )
    try:
        answer = await client.send(sent, stream=True)
    except httpx.HTTPError as error:
        _log.warning("console.dagster_away", error=type(error).__name__)
        raise HTTPException(
            503, "Dagster does not answer; it restarts by itself as a rule."
        ) from error
    response = StreamingResponse(
        answer.aiter_raw(), status_code=answer.status_code, background=BackgroundTask(answer.aclose)
    )
    response.raw_headers = [
        (name.lower(), value)
        for name, value in answer.headers.raw
        if name.lower().decode() not in _NOT_FORWARDED
    ]
    # Dagster's own pages bring no policy; its scripts are its own files and one inline block.
    if "content-security-policy" not in answer.headers:
        response.headers["content-security-policy"] = "frame-ancestors 'none'"
    return response


def _address(base: str, path: str, query: str) -> str:
    """Dagster serves under the same prefix, so the path goes through as it is."""
    return base.removesuffix("/dagster") + path + (f"?{query}" if query else "")


@router.websocket("/dagster/{path:path}")
async def forward_websocket(websocket: WebSocket, path: str) -> None:
    """Dagster's live updates (GraphQL subscriptions), both ways, as long as the session holds."""
    settings = websocket.app.state.settings
    asked = Request({**websocket.scope, "type": "http", "method": "GET"})
    try:
        refuse_foreign(asked)
        await run_in_threadpool(_permission, asked)
    except (SignInNeeded, Forbidden, ForeignForm, LedgerProblem, LedgerAway):
        await websocket.close(_CLOSED_POLICY)
        return
    base = urlsplit(_address(settings.dagster_url, f"/dagster/{path}", websocket.url.query))
    address = base._replace(scheme="wss" if base.scheme == "https" else "ws").geturl()
    try:
        async with connect(
            address,
            subprotocols=[Subprotocol(name) for name in websocket.scope["subprotocols"]] or None,
            additional_headers={SECRET_HEADER: settings.dagster_secret},
            max_size=2**24,
        ) as dagster:
            await websocket.accept(subprotocol=dagster.subprotocol)
            await _both_ways(websocket, dagster, asked)
    except (OSError, WebSocketException):
        with contextlib.suppress(RuntimeError):
            await websocket.close(_CLOSED_AWAY)


async def _both_ways(websocket: WebSocket, dagster: ClientConnection, asked: Request) -> None:
    """Until one side ends, or the person may no longer look."""

    async def to_dagster() -> None:
        with contextlib.suppress(WebSocketDisconnect, ConnectionClosed):
            while True:
                await dagster.send(await websocket.receive_text())

    async def to_browser() -> None:
        with contextlib.suppress(WebSocketDisconnect, ConnectionClosed, RuntimeError):
            async for message in dagster:
                if isinstance(message, str):
                    await websocket.send_text(message)
                else:
                    await websocket.send_bytes(message)

    async def while_allowed() -> None:
        with contextlib.suppress(SignInNeeded, Forbidden, LedgerProblem):
            while not websocket.app.state.draining:
                await asyncio.sleep(RECHECK_SECONDS)
                with contextlib.suppress(LedgerAway):
                    await run_in_threadpool(_permission, asked)

    tasks = [asyncio.create_task(part()) for part in (to_dagster, to_browser, while_allowed)]
    _, unfinished = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in unfinished:
        task.cancel()
    await asyncio.gather(*unfinished, return_exceptions=True)
    with contextlib.suppress(RuntimeError):
        await websocket.close()
