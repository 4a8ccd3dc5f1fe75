"""The routes that carry the load, called without the framework's machinery.

What FastAPI does around an endpoint takes several times as long as posting a transaction. So for
these few routes the application calls the same endpoint itself: path, body limit, permission and
caller come from the route as it is declared, and the edge around it is the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ledger_service.api.problems import Problem
from ledger_service.api.who import Requirement


class _Hot(NamedTuple):
    route: APIRoute
    endpoint: Callable[..., Awaitable[Response]]
    """Called with the path's parameters, `who` and `request`."""
    permit: Requirement
    body_max_bytes: int


class HotRoutes:
    """The ASGI application of the hot routes."""

    def __init__(self, routes: Iterable[APIRoute], body_max_bytes: int) -> None:
        """`body_max_bytes`: of a route that does not say otherwise."""
        self._by_method: dict[str, list[_Hot]] = {}
        for route in routes:
            hot = _Hot(
                route,
                route.endpoint,
                _requirement(route.dependant),
                route.max_body_size or body_max_bytes,
            )
            for method in route.methods or ():
                self._by_method.setdefault(method, []).append(hot)

    def match(self, scope: Scope) -> bool:
        """Whether a request is for one of them; then the scope says so."""
        if scope["type"] != "http":
            return False
        for hot in self._by_method.get(scope["method"], ()):
            found = hot.route.path_regex.match(scope["path"])
            if found is not None:
                scope["hot"] = found.groupdict(), hot
                return True
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that matched. Errors: whatever the edge turns into a problem."""
        parameters, hot = scope["hot"]
        scope["route"] = hot.route
        request = _BoundedRequest(scope, receive, send)
        request.body_max_bytes = hot.body_max_bytes
        who = await hot.permit(request)
        response = await hot.endpoint(**parameters, who=who, request=request)
        await response(scope, receive, send)


class _BoundedRequest(Request):
    body_max_bytes = 0

    async def body(self) -> bytes:
        """The body, read once. Errors: `Problem` for one that is too large."""
        parts: list[bytes] = []
        size, more = 0, True
        while more:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part = message.get("body", b"")
            size += len(part)
            if size > self.body_max_bytes:
                raise Problem("body_too_large")
            parts.append(part)
            more = message.get("more_body", False)
        return b"".join(parts)


def _requirement(dependant: Any) -> Requirement:
    (found,) = (inner.call for inner in dependant.dependencies)
    if not isinstance(found, Requirement):
        raise TypeError(f"{found} is not what a route asks of its caller")
    return found
