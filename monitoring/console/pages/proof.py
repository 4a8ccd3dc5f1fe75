"""The proof page of an event: from its bytes up to a signed root, checked here."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from ledger_service.contract import events
from monitoring import proofs
from monitoring.console import proving
from monitoring.console.access import Person, require
from monitoring.console.ledger import Ledger
from monitoring.console.render import page

router = APIRouter()


@router.get("/proofs/{ledger}/{seq}")
def proof(
    request: Request, ledger: str, seq: int, person: Annotated[Person, require("proofs.read")]
) -> Response:
    """The event as stored, each step of its inclusion proof, and the checkpoint's signatures."""
    found = proving.find(request, person, ledger, seq)
    checks = found.checks()
    return page(
        request,
        "proof.html",
        ledger=ledger,
        event=found.event,
        event_type=events.event_type(found.event),
        raw=found.raw.decode(),
        leaf=proofs.leaf_hash(found.raw),
        steps=found.steps,
        checkpoint=found.checkpoint,
        checks=checks,
        failure=found.failure,
        holds=bool(checks) and all(check.holds for check in checks),
        exponents=Ledger(request.app.state.api, person.token).exponents(ledger),
    )


@router.get("/proofs/{ledger}/{seq}/bundle.json")
def bundle(
    request: Request, ledger: str, seq: int, person: Annotated[Person, require("proofs.read")]
) -> Response:
    """The same as one file, to check elsewhere. Errors: 409 where there is no proof yet."""
    found = proving.find(request, person, ledger, seq)
    if found.checkpoint is None or found.failure:
        raise HTTPException(409, found.failure)
    return JSONResponse(
        {
            "ledger": ledger,
            "seq": seq,
            "event": found.raw.decode(),
            "path": [[step.side, step.sibling.hex()] for step in found.steps],
            "checkpoint": found.checkpoint.text,
        },
        headers={"content-disposition": f'attachment; filename="proof-{ledger}-{seq}.json"'},
    )
