"""Sign-in, sign-out, and who the caller is."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from ledger_service.api.bodies import Body, ShortText
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract.events import timestamp
from ledger_service.security import sessions

router = APIRouter(tags=["sessions"])


class Credentials(Body):
    """A user name and the password that goes with it."""

    username: ShortText
    password: ShortText


@router.post("/v1/sessions", status_code=201)
async def sign_in(credentials: Credentials, request: Request) -> dict[str, Any]:
    """Open a session of 12 hours, whose token is shown this once. Open, as health is."""
    session = await sessions.sign_in(
        request.app.state.pool, credentials.username, credentials.password
    )
    request.state.actor = session.user_id
    return {
        "token": session.token,
        "user_id": session.user_id,
        "roles": session.roles,
        "expires_at": timestamp(session.expires_at),
    }


@router.delete("/v1/sessions/current", status_code=204)
async def sign_out(who: Annotated[Principal, require("api.use")], request: Request) -> Response:
    """End the session of the token shown, at once."""
    if who.identity.session_id is None:
        raise Problem(
            "session_required", "An API key has no session; an administrator revokes keys."
        )
    async with request.app.state.pool.acquire() as connection:
        await sessions.sign_out(connection, who.identity.session_id, who.actor)
    return Response(status_code=204)


@router.get("/v1/me")
async def me(who: Annotated[Principal, require("api.use")]) -> dict[str, Any]:
    """Who the token belongs to, and what they may do."""
    ends_at = who.identity.ends_at
    return {
        "actor": who.actor,
        "name": who.identity.name,
        "roles": sorted(who.roles),
        "kind": who.kind,
        "expires_at": timestamp(ends_at) if ends_at else None,
    }
