"""Who is signed in, what they may see, and that a form came from our own page.

The cookie holds the API's session token and nothing else; the console keeps no sessions. Each page
names one permission of `contract.permissions`; the roles come from the API (GET /v1/me), remembered
for ROLES_SECONDS, so a revoked session sees at most that much longer.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from fastapi import Depends, Form, Request
from starlette.responses import Response

from ledger_service.contract.permissions import PERMISSIONS, allowed
from monitoring.console.ledger import Ledger, LedgerProblem

SESSION_COOKIE = "tallystick_session"
SIGN_IN_COOKIE = "tallystick_sign_in"
ROLES_SECONDS = 3.0
_REMEMBERED = 500


class Person(msgspec.Struct, frozen=True):
    """Who is signed in."""

    actor: str
    name: str
    roles: frozenset[str]
    token: str

    def may(self, permission: str) -> bool:
        """Whether one of the roles holds `permission`."""
        return allowed(permission, self.roles)

    @property
    def csrf(self) -> str:
        """What forms carry: derived from the token, which no other site's page can read."""
        return form_token(self.token)


class SignInNeeded(Exception):
    """Nobody is signed in, or the session has ended."""


class Forbidden(Exception):
    """The person holds no role with this permission."""

    def __init__(self, person: Person, permission: str) -> None:
        super().__init__(permission)
        self.person = person
        self.permission = permission


class ForeignForm(Exception):
    """A form that did not come from a page of ours."""


class RoleCache:
    """The persons of the last seconds, by a hash of their token: bounded, in memory only."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, tuple[float, Person]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, token: str) -> Person | None:
        """The person, if asked for within ROLES_SECONDS."""
        with self._lock:
            at, person = self._seen.get(_key(token), (-ROLES_SECONDS, None))
        return person if time.monotonic() - at < ROLES_SECONDS else None

    def put(self, person: Person) -> None:
        """Remember what the API has just said."""
        with self._lock:
            self._seen[_key(person.token)] = (time.monotonic(), person)
            self._seen.move_to_end(_key(person.token))
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def forget(self, token: str) -> None:
        """After a sign-out."""
        with self._lock:
            self._seen.pop(_key(token), None)


def _key(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def form_token(secret: str) -> str:
    """The CSRF token that goes with a session's or a sign-in cookie's secret."""
    return hmac.new(secret.encode(), b"tallystick console form", hashlib.sha256).hexdigest()


def person_of(request: Request) -> Person:
    """Who is signed in. Errors: `SignInNeeded`, `LedgerAway`."""
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token.startswith("tss_") or not token.isascii():
        raise SignInNeeded
    cache: RoleCache = request.app.state.roles
    if (person := cache.get(token)) is not None:
        return person
    try:
        me = Ledger(request.app.state.api, token).get("/v1/me")
    except LedgerProblem as problem:
        if problem.status in (401, 403):
            raise SignInNeeded from problem
        raise
    person = Person(me["actor"], me.get("name") or me["actor"], frozenset(me["roles"]), token)
    cache.put(person)
    return person


class Requirement:
    """A dependency that lets through only who holds `permission`."""

    def __init__(self, permission: str) -> None:
        if permission not in PERMISSIONS:
            raise ValueError(f"{permission!r} is not in contract.permissions")
        self.permission = permission

    def __call__(self, request: Request) -> Person:
        """The person. Errors: `SignInNeeded`, `Forbidden`, `LedgerAway`."""
        person = person_of(request)
        if not person.may(self.permission):
            raise Forbidden(person, self.permission)
        request.state.person = person
        return person


def require(permission: str) -> Any:
    """The FastAPI dependency for a page that shows something. Errors: ValueError if unlisted."""
    return Depends(Requirement(permission))


def refuse_foreign(request: Request) -> None:
    """Errors: `ForeignForm` where the browser says that another site's page sent this."""
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
        raise ForeignForm
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ForeignForm


def _own_form(request: Request, csrf: Annotated[str, Form()] = "") -> None:
    refuse_foreign(request)
    token = request.cookies.get(SESSION_COOKIE, "")
    if not token:
        raise SignInNeeded
    if not hmac.compare_digest(csrf.encode(), form_token(token).encode()):
        raise ForeignForm


own_form = Depends(_own_form)
"""The dependency of every route that a form of a signed-in person posts to."""


def set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    """Set a cookie that scripts can't read and other sites can't make a browser send."""
    response.set_cookie(
        name,
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        samesite="strict",
        secure=request.app.state.secure_cookies,
    )


def new_sign_in_secret() -> str:
    """For the sign-in form's cookie, before there is a session."""
    return secrets.token_urlsafe(24)
