"""What is published: snapshots, checks, Data Docs, and the daily reports."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import FileResponse, RedirectResponse, Response

from ledger_service.contract.identifiers import LEDGER
from ledger_service.contract.snapshots import Manifest, SnapshotName, read_manifest, read_progress
from ledger_service.contract.topics import STREAMS
from monitoring.console.access import Person, require
from monitoring.console.render import page

router = APIRouter()

DATA_DOCS_POLICY = (
    "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Data Docs are written by a library: its inline styles may stay, scripts may not run."""

_REPORT_TYPES = {"csv": "text/csv; charset=utf-8", "pdf": "application/pdf"}


@router.get("/data")
def published(request: Request, person: Annotated[Person, require("ledgers.read")]) -> Response:
    """What is in the newest snapshots, and what was checked before they were published."""
    folder = request.app.state.settings.snapshots
    names: list[SnapshotName] = (
        ["general", "restricted"] if person.may("alerts.view") else ["general"]
    )
    manifests = [manifest for name in names if (manifest := read_manifest(folder, name))]
    hidden = set() if person.may("alerts.view") else {"alert_decisions"}
    progress = read_progress(folder)
    sources = sorted(set(progress.landed) | set(progress.published)) if progress else []
    positions = [
        (name, name in STREAMS, progress.landed.get(name), progress.published.get(name))
        for name in sources
        if progress and name not in hidden
    ]
    return page(
        request,
        "data.html",
        manifests=[(manifest, _marts(manifest)) for manifest in manifests],
        positions=positions,
        progress=progress,
        has_data_docs=(request.app.state.settings.warehouse / "data_docs" / "index.html").is_file(),
        has_dagster=bool(request.app.state.settings.dagster_url),
    )


def _marts(manifest: Manifest) -> list[tuple[str, int, int]]:
    return [
        (name, len(parts), sum(part.rows for part in parts))
        for name, parts in sorted(manifest.marts.items())
    ]


@router.get("/data-docs", dependencies=[require("pipelines.view")])
def data_docs_start() -> Response:
    """The first page of Data Docs."""
    return RedirectResponse("/data-docs/index.html", status_code=303)


@router.get("/data-docs/{path:path}", dependencies=[require("pipelines.view")])
def data_docs(request: Request, path: str) -> Response:
    """A file of Great Expectations' Data Docs on the general marts."""
    return _docs_file(request.app.state.settings.warehouse / "data_docs", path)


@router.get("/restricted-data-docs/{path:path}", dependencies=[require("alerts.view")])
def restricted_data_docs(request: Request, path: str) -> Response:
    """The same on the restricted marts."""
    return _docs_file(request.app.state.settings.warehouse / "restricted_data_docs", path)


def _docs_file(folder: Path, path: str) -> Response:
    """Errors: 404 for what is not inside the folder."""
    root = folder.resolve()
    file = (root / (path or "index.html")).resolve()
    if not file.is_relative_to(root) or not file.is_file():
        raise HTTPException(404, "There are no Data Docs here yet: they are written by checks.")
    return FileResponse(file, headers={"content-security-policy": DATA_DOCS_POLICY})


@router.get("/reports/fbo/{ledger}/{day}.{kind}", dependencies=[require("reports.view")])
def fbo_report(
    request: Request, ledger: str, day: dt.date, kind: Literal["csv", "pdf"]
) -> Response:
    """The filed report of one FBO day. Errors: 404 where it is not written."""
    if not LEDGER.match(ledger):
        raise HTTPException(404)
    file = request.app.state.settings.reports / "fbo" / ledger / f"{day.isoformat()}.{kind}"
    if not file.is_file():
        raise HTTPException(
            404,
            "The report of this day is not written yet: a schedule writes it after publication.",
        )
    return FileResponse(
        file, media_type=_REPORT_TYPES[kind], filename=f"fbo-{ledger}-{day.isoformat()}.{kind}"
    )
