"""Pages from templates: what every page has, and the answers to what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from psycopg import OperationalError
from psycopg_pool import PoolTimeout
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, RedirectResponse, Response

from ledger_service.contract.permissions import PERMISSIONS
from monitoring.console import formats
from monitoring.console.access import SESSION_COOKIE, Forbidden, ForeignForm, Person, SignInNeeded
from monitoring.console.ledger import LedgerAway, LedgerProblem
from monitoring.marts import NotPublished

_log = structlog.get_logger()

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

NAVIGATION = [
    (
        "House",
        [
            ("/", "Overview", "ledgers.read"),
            ("/approvals", "Approvals", "approvals.read"),
            ("/data", "Published data", "ledgers.read"),
        ],
    ),
    (
        "Money",
        [
            ("/balances", "Balances", "balances.view"),
            ("/holds", "Holds", "holds.view"),
            ("/reversals", "Reversals", "reversals.read"),
        ],
    ),
    (
        "Books",
        [("/periods", "Periods", "periods.view"), ("/rules", "Posting rules", "rules.view")],
    ),
    (
        "Reconciliation",
        [("/fbo", "FBO day", "reconciliation.view"), ("/breaks", "Breaks", "reconciliation.view")],
    ),
    ("Compliance", [("/alerts", "Alerts", "alerts.view"), ("/audit", "Audit log", "audit.read")]),
]
"""Groups of pages: address, title, permission. A page is listed only to who may open it."""


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= formats.FILTERS
    return environment


_environment_once = _environment()


def page(
    request: Request, template: str, *, http_status: int = 200, **context: Any
) -> HTMLResponse:
    """A page as HTML, with the navigation that the signed-in person may use."""
    person: Person | None = getattr(request.state, "person", None)
    groups = [
        (
            title,
            [
                (href, label)
                for href, label, permission in pages
                if person and person.may(permission)
            ],
        )
        for title, pages in NAVIGATION
    ]
    html = _environment_once.get_template(template).render(
        person=person,
        navigation=[(title, pages) for title, pages in groups if pages],
        here="/" + request.url.path.split("/")[1],
        **context,
    )
    return HTMLResponse(html, status_code=http_status)


def problem_page(
    request: Request, status: int, title: str, text: str, *, code: str = "", back: str = "/"
) -> Response:
    """A page that says what went wrong and what to do."""
    return page(
        request, "problem.html", http_status=status, title=title, text=text, code=code, back=back
    )


def _sign_in_needed(request: Request, _error: Exception) -> Response:
    if request.method != "GET" or request.url.path in ("/", "/overview/live"):
        target = "/sign-in"
    else:
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        target = f"/sign-in?next={quote(asked, safe='')}"
    response = RedirectResponse(target, status_code=303)
    response.delete_cookie(SESSION_COOKIE, path="/", httponly=True, samesite="strict")
    return response


def _forbidden(request: Request, error: Forbidden) -> Response:
    request.state.person = error.person
    _log.info("console.refused", actor=error.person.actor, permission=error.permission)
    holders = " and ".join(sorted(PERMISSIONS[error.permission]))
    roles = ", ".join(sorted(error.person.roles))
    return problem_page(
        request,
        403,
        "This page is not open to you",
        f"It takes the permission {error.permission}, which is held by: {holders}. You are signed "
        f"in with the role {roles}. If your work needs it, ask an administrator.",
        code="forbidden",
    )


def _foreign_form(request: Request, _error: Exception) -> Response:
    return problem_page(
        request,
        403,
        "This form did not come from the console",
        "Nothing was done. Open the page again and send the form from there.",
        code="foreign_form",
    )


def _ledger_problem(request: Request, error: LedgerProblem) -> Response:
    if error.status == 401:
        return _sign_in_needed(request, error)
    titles = {
        403: "The ledger refused this",
        404: "There is no such thing",
        409: "This can't be done now",
    }
    status = error.status if error.status < 500 else 502
    title = titles.get(error.status, "The ledger refused this")
    return problem_page(request, status, title, error.detail, code=error.code)


def _ledger_away(request: Request, error: Exception) -> Response:
    _log.warning("console.ledger_away", error=str(error))
    # A form may have arrived although its answer did not.
    changed = (
        "Nothing was changed."
        if request.method == "GET"
        else "It is not known whether the form was acted on: look before you send it again."
    )
    return problem_page(
        request,
        503,
        "The ledger API does not answer",
        f"{changed} It restarts by itself as a rule: try again in a few seconds.",
        code="ledger_away",
    )


def _not_published(request: Request, error: Exception) -> Response:
    _log.info("console.not_published", detail=str(error))
    return problem_page(
        request,
        200,
        "Nothing is published yet",
        "This page shows published marts, and the pipelines have not published the first snapshot "
        "yet. The overview shows how far they are; this page fills by itself afterwards.",
        code="not_published",
    )


def _database_away(request: Request, error: Exception) -> Response:
    _log.warning("console.database_away", error=type(error).__name__)
    return problem_page(
        request,
        503,
        "The database of the alerts does not answer",
        "Nothing was changed. Try again in a few seconds.",
        code="database_away",
    )


def _http(request: Request, error: HTTPException) -> Response:
    titles = {404: "There is nothing here", 405: "This address takes no such request"}
    text = "The link may be old, or not published yet. Start again from the overview."
    detail = error.detail if error.status_code == 404 and error.detail != "Not Found" else text
    return problem_page(
        request, error.status_code, titles.get(error.status_code, "Not possible"), detail
    )


def _invalid(request: Request, error: RequestValidationError) -> Response:
    fields = ", ".join(sorted({str(item["loc"][-1]) for item in error.errors()}))
    return problem_page(
        request,
        422,
        "Something in the form does not fit",
        f"Look at: {fields}.",
        code="invalid_request",
    )


def _unforeseen(request: Request, error: Exception) -> Response:
    _log.error("console.failed", exc_info=error, route=request.url.path)
    return problem_page(
        request,
        500,
        "Something failed inside",
        "It is in the console's log. Nothing was half done.",
        code="internal_error",
    )


def install(app: FastAPI) -> None:
    """Answer every foreseen exception with a page."""
    handlers: dict[Any, Any] = {
        SignInNeeded: _sign_in_needed,
        Forbidden: _forbidden,
        ForeignForm: _foreign_form,
        LedgerProblem: _ledger_problem,
        LedgerAway: _ledger_away,
        NotPublished: _not_published,
        OperationalError: _database_away,
        PoolTimeout: _database_away,
        HTTPException: _http,
        RequestValidationError: _invalid,
        Exception: _unforeseen,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)
