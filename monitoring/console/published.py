"""What pages ask of the published marts."""

from __future__ import annotations

from fastapi import HTTPException, Request

from ledger_service.contract.topics import STREAMS
from monitoring.marts import Published


def general(request: Request) -> Published:
    """The newest general snapshot. Errors: `NotPublished`."""
    return request.app.state.marts.current("general")


def ledgers(marts: Published) -> list[str]:
    """The ledgers that the snapshot holds."""
    return sorted(name for name in marts.manifest.as_of if name not in STREAMS)


def chosen_ledger(marts: Published, asked: str | None) -> str:
    """The ledger asked for, or the first. Errors: 404 for one that is not published."""
    known = ledgers(marts)
    if asked and asked not in known:
        raise HTTPException(
            404, f"Ledger {asked[:40]!r} is not published; there is: {', '.join(known) or 'none'}."
        )
    if not known:
        raise HTTPException(404, "No ledger is published yet.")
    return asked or known[0]
