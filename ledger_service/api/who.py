"""Who calls, and whether they may: every route but health names exactly one permission.

    async def route(who: Annotated[Principal, require("ledgers.read")]): ...

An API key that was seen in the last seconds is not looked up again: a key's revocation takes that
long at most. Sessions are looked up each time. A refusal to a known caller is on the audit log.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any, Literal, NamedTuple

from fastapi import Depends, Request
from starlette.routing import BaseRoute

from ledger_service.api.problems import Problem
from ledger_service.contract.permissions import PERMISSIONS, allowed
from ledger_service.security import audit, identities
from ledger_service.security.identities import Identity

KEY_CACHE_SECONDS = 5.0
_KEY_CACHE_SIZE = 1000


class Principal(NamedTuple):
    """The caller of this request, known and permitted."""

    actor: str
    """Id of the key or user, never a name."""
    roles: frozenset[str]
    kind: Literal["key", "session"]
    request_id: str
    identity: Identity


class Requirement:
    """A dependency that lets through only who holds `permission`."""

    def __init__(self, permission: str) -> None:
        if permission not in PERMISSIONS:
            raise ValueError(f"{permission!r} is not in contract.permissions")
        self.permission = permission

    async def __call__(self, request: Request) -> Principal:
        """The caller. Errors: `unauthenticated`, `demo_identity_refused`, `forbidden`."""
        identity = await _identity(request)
        state = request.scope["state"]
        state["actor"] = identity.actor
        if not allowed(self.permission, identity.roles):
            async with request.app.state.pool.acquire() as connection:
                await audit.record(
                    connection,
                    actor=identity.actor,
                    action="request.made",
                    subject=f"{request.method} {route_template(request.scope)}",
                    outcome="refused",
                    details={"permission": self.permission, "request_id": state["request_id"]},
                )
            raise Problem(
                "forbidden",
                f"This takes the permission {self.permission}, which none of your roles holds.",
                permission=self.permission,
            )
        return Principal(
            identity.actor, identity.roles, identity.kind, state["request_id"], identity
        )


def require(permission: str) -> Any:
    """The FastAPI dependency for `permission`. Errors: ValueError for an unlisted one."""
    return Depends(Requirement(permission))


def route_template(scope: Any) -> str:
    """The route's path with its parameters' names, never their values."""
    route: BaseRoute | None = scope.get("route")
    return str(getattr(route, "path", "unmatched"))


class KeyCache:
    """API keys seen in the last seconds: bounded, in memory only."""

    def __init__(self) -> None:
        self._seen: OrderedDict[str, tuple[float, Identity]] = OrderedDict()
        self.renewing = asyncio.Lock()
        """One key that was seen is looked up again at a time, for all who show it meanwhile."""

    def __contains__(self, bearer: str) -> bool:
        return bearer in self._seen

    def get(self, bearer: str) -> Identity | None:
        """The identity seen with `bearer` within KEY_CACHE_SECONDS."""
        at, identity = self._seen.get(bearer, (0.0, None))
        return identity if time.monotonic() - at < KEY_CACHE_SECONDS else None

    def put(self, bearer: str, identity: Identity) -> None:
        """Remember a key that has just been looked up."""
        self._seen[bearer] = (time.monotonic(), identity)
        self._seen.move_to_end(bearer)
        if len(self._seen) > _KEY_CACHE_SIZE:
            self._seen.popitem(last=False)


async def _identity(request: Request) -> Identity:
    scheme, _, bearer = _authorization(request).partition(" ")
    if scheme.lower() != "bearer" or not bearer:
        raise Problem("unauthenticated", "Show a token: Authorization: Bearer <token>.")
    cache: KeyCache = request.app.state.keys
    identity = cache.get(bearer)
    if identity is None and bearer in cache:
        async with cache.renewing:
            return cache.get(bearer) or await _look_up(request, cache, bearer)
    return identity or await _look_up(request, cache, bearer)


async def _look_up(request: Request, cache: KeyCache, bearer: str) -> Identity:
    async with request.app.state.pool.acquire() as connection:
        identity = await identities.authenticate(connection, bearer)
    if identity.kind == "key":
        cache.put(bearer, identity)
    return identity


def _authorization(request: Request) -> str:
    for name, value in request.scope["headers"]:
        if name == b"authorization":
            return value.decode("latin-1")
    return ""
