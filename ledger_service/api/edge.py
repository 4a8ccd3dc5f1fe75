"""The outermost layer: request ids, one log line a request, and the last catch.

The line holds the route's template, never a path, a query or a header: people put account numbers
there (P10). An exception nobody foresaw is logged by type and place, without its message, which may
quote what the caller sent; the caller gets a 500 with the request id.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable

import structlog
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ledger_service.api.problems import Problem, problem_of, render
from ledger_service.api.who import route_template
from ledger_service.contract import logs

_log = structlog.get_logger()
_UUID = re.compile(
    rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z", re.IGNORECASE
)
_PROBES = frozenset({"/livez", "/readyz"})
_OWN_HEADERS = [(b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff")]


class Edge:
    """ASGI middleware around the whole application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; nothing that goes wrong passes this point."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope["headers"])
        scope.setdefault("state", {})["request_id"] = request_id
        # Of this request alone: it has a task of its own.
        logs.request_id.set(request_id)
        answer = _Answer(scope, receive, send, request_id)
        began = time.perf_counter()
        try:
            _refuse_nul(scope)
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = 499
        except Exception as error:  # noqa: BLE001 - the last catch
            problem = problem_of(error)
            if problem.code == "internal_error":
                _log_failure(error)
            if answer.status:
                # The answer is under way: cutting it off says that it is not whole.
                raise _CutOff from None
            await render(problem, request_id)(scope, receive, answer.send)
        finally:
            _log_request(scope, answer.status, began)


class _Answer:
    """What is sent of one request, with our headers.

    An object, because a function that names itself is a cycle, and would hold all of its request
    until the next collection, which then stops every other one.
    """

    __slots__ = ("_receive", "_replaced", "_request_id", "_scope", "_send", "status")

    def __init__(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._request_id = request_id
        self._replaced = False
        self.status = 0
        """Of what was answered; 0 before that."""

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            if message["status"] == 413 and not _is_problem(message):
                # The framework's own limit answers in plain text, from below our handlers.
                problem = render(Problem("body_too_large"), self._request_id)
                await problem(self._scope, self._receive, self.send)
                self._replaced = True
                return
            self.status = message["status"]
            own = (b"x-request-id", self._request_id.encode("ascii"))
            message = {**message, "headers": [*message["headers"], own, *_OWN_HEADERS]}
        await self._send(message)


class _CutOff(Exception):
    """Ends a connection whose answer can't be finished; carries nothing."""


def _refuse_nul(scope: Scope) -> None:
    if "\0" in scope["path"] or b"%00" in scope["query_string"]:
        raise Problem("bad_text")


def _request_id(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's X-Request-Id if it is a UUID, which can hold nothing else; or a new one."""
    for name, value in headers:
        if name == b"x-request-id" and _UUID.match(value):
            return value.decode("ascii").lower()
    return _random_uuid()


def _random_uuid() -> str:
    """RFC 9562, version 4; the standard library takes three times as long."""
    text = os.urandom(16).hex()
    variant = "89ab"[int(text[16], 16) & 3]
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


def _is_problem(start: Message) -> bool:
    return (b"content-type", b"application/problem+json") in start["headers"]


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
    _log.error(
        "api.request_failed",
        error=f"{type(error).__module__}.{type(error).__qualname__}",
        at=logs.places_of(error),
    )
