"""The API's own description, for who holds a token: OpenAPI, and a page that needs no scripts."""

from __future__ import annotations

import html
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from starlette.responses import HTMLResponse

from ledger_service.api.who import Principal, Requirement, require

router = APIRouter(tags=["documentation"])

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<style>body{{font:15px/1.5 system-ui;margin:2rem auto;max-width:70rem;padding:0 1rem}}
table{{border-collapse:collapse;width:100%}}td,th{{text-align:left;padding:.35rem .6rem;
border-bottom:1px solid #ddd;vertical-align:top}}code{{white-space:nowrap}}</style>
<h1>{title}</h1><p>Types of bodies and answers: <code>/openapi.json</code>.</p>
<table><tr><th>Method<th>Path<th>Permission<th>Meaning</tr>{rows}</table></html>"""


def permissions_of(dependant: Any) -> list[str]:
    """The permissions that a route's dependencies ask for, in any depth."""
    own = [dependant.call.permission] if isinstance(dependant.call, Requirement) else []
    return own + [name for inner in dependant.dependencies for name in permissions_of(inner)]


def openapi(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI description, made once; each operation names its permission."""
    if app.openapi_schema is None:
        app.openapi_schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    return app.openapi_schema


@router.get("/openapi.json")
async def openapi_json(
    _who: Annotated[Principal, require("api.use")], request: Request
) -> dict[str, Any]:
    """The OpenAPI description of this API."""
    return openapi(request.app)


@router.get("/docs", response_class=HTMLResponse)
async def docs(_who: Annotated[Principal, require("api.use")], request: Request) -> str:
    """Every route with its meaning, for people."""
    rows = [
        f"<tr><td>{method.upper()}<td><code>{html.escape(path)}</code>"
        f"<td>{html.escape(operation.get('x-permission', ''))}"
        f"<td>{html.escape(operation.get('description', operation.get('summary', '')))}</tr>"
        for path, operations in openapi(request.app)["paths"].items()
        for method, operation in operations.items()
    ]
    return _PAGE.format(title=html.escape(request.app.title), rows="".join(rows))
