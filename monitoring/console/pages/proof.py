"""The proof page of a transaction: from the event's bytes up to a signed root, checked here."""

from __future__ import annotations

import base64
import binascii
import time
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from ledger_service.contract import events
from ledger_service.contract.identifiers import LEDGER
from monitoring import proofs
from monitoring.console.access import Person, require
from monitoring.console.ledger import Ledger, LedgerProblem
from monitoring.console.render import page

router = APIRouter()

WITNESS_SECONDS = 3.0
"""How long a page waits for a cosignature that is on its way."""


class Check(msgspec.Struct, frozen=True):
    """One thing that was checked, and whether it holds."""

    text: str
    holds: bool
    note: str = ""


class Found(msgspec.Struct):
    """A transaction with what proves it; `failure` says in words why something is missing."""

    event: events.TransactionPosted
    raw: bytes
    checkpoint: proofs.Checkpoint | None = None
    steps: list[proofs.Step] = []
    failure: str = ""


@router.get("/proofs/{ledger}/{seq}")
def proof(
    request: Request, ledger: str, seq: int, person: Annotated[Person, require("proofs.read")]
) -> Response:
    """The event as stored, each step of its inclusion proof, and the checkpoint's signatures."""
    found = _find(request, person, ledger, seq)
    leaf = proofs.leaf_hash(found.raw)
    checks = (
        _checks(ledger, found.checkpoint, leaf, found.steps)
        if found.checkpoint and not found.failure
        else []
    )
    return page(
        request,
        "proof.html",
        ledger=ledger,
        event=found.event,
        raw=found.raw.decode(),
        leaf=leaf,
        steps=found.steps,
        checkpoint=found.checkpoint,
        checks=checks,
        failure=found.failure,
        holds=bool(checks) and all(check.holds for check in checks),
        exponents=Ledger(request.app.state.api, person.token).exponents(ledger),
        can_reverse=person.may("reversals.request"),
    )


@router.get("/proofs/{ledger}/{seq}/bundle.json")
def bundle(
    request: Request, ledger: str, seq: int, person: Annotated[Person, require("proofs.read")]
) -> Response:
    """The same as one file, to check elsewhere. Errors: 409 where there is no proof yet."""
    found = _find(request, person, ledger, seq)
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


def _find(request: Request, person: Person, ledger: str, seq: int) -> Found:
    if not LEDGER.match(ledger) or seq < 1:
        raise HTTPException(404, "There is no such transaction.")
    api = Ledger(request.app.state.api, person.token)
    found = Found(*api.journal_event(ledger, seq))
    try:
        found.checkpoint = checkpoint = _checkpoint(api, ledger, request.app.state.settings.keys)
        if seq > checkpoint.size:
            found.failure = (
                f"The newest checkpoint covers {checkpoint.size:,} events, this is number {seq:,}. "
                "A new checkpoint is signed every few seconds: load this page again."
            )
            return found
        answer = api.get(f"/v1/ledgers/{ledger}/proofs/inclusion", seq=seq, size=checkpoint.size)
        found.steps = proofs.climb(
            proofs.leaf_hash(found.raw), seq - 1, checkpoint.size, _hashes(answer)
        )
    except proofs.ProofError as error:
        found.failure = str(error)
    except LedgerProblem as problem:
        if problem.status in (401, 403):
            raise
        found.failure = problem.detail
    return found


def _checkpoint(api: Ledger, ledger: str, keys: proofs.Keys) -> proofs.Checkpoint:
    """The newest checkpoint; one that was signed just now is given the time to be co-signed."""
    newest = proofs.read_checkpoint(api.text(f"/v1/ledgers/{ledger}/checkpoints/latest"), keys)
    deadline = time.monotonic() + WITNESS_SECONDS
    checkpoint = newest
    while not checkpoint.signed_by("witness") and keys.witness and time.monotonic() < deadline:
        time.sleep(0.25)
        note = api.text(f"/v1/ledgers/{ledger}/checkpoints/{newest.size}")
        checkpoint = proofs.read_checkpoint(note, keys)
    return checkpoint


def _hashes(answer: dict[str, Any]) -> list[bytes]:
    """The audit path of the API's answer, from the leaf up. Errors: `ProofError`."""
    try:
        return [base64.b64decode(item, validate=True) for item in answer["proof"]]
    except (KeyError, TypeError, binascii.Error) as error:
        raise proofs.ProofError("The ledger's proof can't be read.") from error


def _checks(
    ledger: str, checkpoint: proofs.Checkpoint, leaf: bytes, steps: list[proofs.Step]
) -> list[Check]:
    root = steps[-1].result if steps else leaf
    witness = next((item for item in checkpoint.signatures if item.kind == "witness"), None)
    return [
        Check(
            "The event’s hash leads to the root of the checkpoint",
            root == checkpoint.root,
            f"{len(steps)} steps, {checkpoint.size:,} events",
        ),
        Check(
            "The checkpoint is of this ledger",
            checkpoint.origin.endswith(f"/{ledger}"),
            checkpoint.origin,
        ),
        Check("The log’s key signed the checkpoint", checkpoint.signed_by("log"), "Ed25519"),
        Check(
            "The witness co-signed it",
            checkpoint.signed_by("witness"),
            f"{witness.name}, {witness.signed_at:%Y-%m-%d %H:%M:%S} UTC"
            if witness and witness.signed_at
            else "no cosignature of the known witness yet: it follows within seconds",
        ),
    ]
