"""Sign-in with the API's own sessions, and sign-out."""

from __future__ import annotations

import hmac
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from monitoring.console.access import (
    SESSION_COOKIE,
    SIGN_IN_COOKIE,
    ForeignForm,
    form_token,
    new_sign_in_secret,
    own_form,
    refuse_foreign,
    set_cookie,
)
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.render import page

SESSION_SECONDS = 12 * 3600
"""As long as the API's session lives; what ends it earlier is the API's answer."""

router = APIRouter()


def _own_path(path: str) -> str:
    """`path` if it leads to a page of ours, else the overview: nobody is sent elsewhere."""
    is_own = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if is_own and "\\" not in path else "/"


def _form(
    request: Request, next_page: str, *, status: int = 200, error: str = "", name: str = ""
) -> Response:
    secret = request.cookies.get(SIGN_IN_COOKIE) or new_sign_in_secret()
    response = page(
        request,
        "sign_in.html",
        http_status=status,
        error=error,
        username=name,
        next_page=_own_path(next_page),
        csrf=form_token(secret),
    )
    set_cookie(request, response, SIGN_IN_COOKIE, secret, 3600)
    return response


@router.get("/sign-in")
def sign_in_form(request: Request, next: str = "/") -> Response:  # noqa: A002 - the query's name
    """The form."""
    return _form(request, next)


@router.post("/sign-in")
def sign_in(
    request: Request,
    username: Annotated[str, Form(max_length=200)] = "",
    password: Annotated[str, Form(max_length=200)] = "",
    csrf: Annotated[str, Form()] = "",
    next_page: Annotated[str, Form()] = "/",
) -> Response:
    """Open a session of the API and keep its token in the cookie."""
    refuse_foreign(request)
    secret = request.cookies.get(SIGN_IN_COOKIE, "")
    if not secret or not hmac.compare_digest(csrf.encode(), form_token(secret).encode()):
        raise ForeignForm
    if not username or not password:
        return _form(
            request,
            next_page,
            status=422,
            error="Enter your user name and password.",
            name=username,
        )
    try:
        session = Ledger(request.app.state.api).post(
            "/v1/sessions", {"username": username, "password": password}
        )
    except LedgerProblem as problem:
        if problem.status >= 500:
            raise
        return _form(request, next_page, status=problem.status, error=problem.detail, name=username)
    response = RedirectResponse(_own_path(next_page), status_code=303)
    set_cookie(request, response, SESSION_COOKIE, session["token"], SESSION_SECONDS)
    response.delete_cookie(SIGN_IN_COOKIE, path="/", httponly=True, samesite="strict")
    return response


@router.post("/sign-out", dependencies=[own_form])
def sign_out(request: Request) -> Response:
    """End the session at the API, at once."""
    token = request.cookies.get(SESSION_COOKIE, "")
    request.app.state.roles.forget(token)
    try:
        Ledger(request.app.state.api, token).call("DELETE", "/v1/sessions/current")
    except LedgerProblem as problem:
        if problem.status not in (401, 403):
            raise
    response = RedirectResponse("/sign-in", status_code=303)
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response
