"""The outermost layer: request ids, one log line a request, and the last catch.

The line holds the route's template, never a path, a query or a header: people put account numbers
there (P10). An exception nobody foresaw is logged by type and place, without its message, which may
quote what the caller sent; the caller gets a 500 with the request id.
"""

from __future__ import annotations

import re
import time
import traceback
import uuid
from pathlib import Path
from typing import Any

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger_service.api.problems import Problem, problem_of, render
from ledger_service.api.who import route_template

_log = structlog.get_logger()
_UUID = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE
)
_PROBES = frozenset({"/livez", "/readyz"})


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that goes wrong passes this point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        status, replaced = 0, False

        async def send_own(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *_own_headers(request_id)]}
            await send(message)

        async def send_through(message: Message) -> None:
            nonlocal replaced
            is_start = message["type"] == "http.response.start"
            if is_start and message["status"] == 413 and not _is_problem(message):
                # The framework's own limit answers in plain text, from below our handlers.
                replaced = True
                await render(Problem("body_too_large"), request_id)(scope, receive, send_own)
            elif not replaced:
                await send_own(message)

        began = time.perf_counter()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            try:
                _refuse_nul(scope)
                await self._app(scope, receive, send_through)
            except ClientDisconnect:
                status = 499
            except Exception as error:  # noqa: BLE001 - the last catch
                problem = problem_of(error)
                if problem.code == "internal_error":
                    _log_failure(error)
                if status:
                    # The answer is under way: cutting it off says that it is not whole.
                    raise _CutOff from None
                await render(problem, request_id)(scope, receive, send_own)
            finally:
                _log_request(scope, status, began)


class _CutOff(Exception):
    """Ends a connection whose answer can't be finished; carries nothing."""


def _refuse_nul(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        raise Problem("bad_text")


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-Id if it is a UUID, which can hold nothing else; or a new one."""
    given = dict(scope["headers"]).get(b"x-request-id", b"")
    return given.decode("ascii").lower() if _UUID.match(given) else str(uuid.uuid4())


def _is_problem(start: Message) -> bool:
    return (b"content-type", b"application/problem+json") in start["headers"]


def _own_headers(request_id: str) -> list[tuple[bytes, bytes]]:
    return [
        (b"x-request-id", request_id.encode("ascii")),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]


def _log_request(scope: Scope, status: int, began: float) -> None:
    template = route_template(scope)
    if template in _PROBES and status < 500:
        return
    _log.info(
        "api.request_answered",
        method=scope["method"] if scope["method"].isalpha() and len(scope["method"]) < 10 else "?",
        route=template,
        status=status,
        duration_ms=round((time.perf_counter() - began) * 1000, 1),
        actor=scope["state"].get("actor"),
    )


def _log_failure(error: Exception) -> None:
    frames = traceback.extract_tb(error.__traceback__)
    _log.error(
        "api.request_failed",
        error=f"{type(error).__module__}.{type(error).__qualname__}",
        at=[f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[-8:]],
    )
