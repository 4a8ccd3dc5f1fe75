"""Proofs: checkpoints, inclusion, consistency, and the witness's cosignatures."""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse, Response

from ledger_service.api.clocks import resolve_seq
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract import environment
from ledger_service.engine import checkpoints, proofs, reads
from ledger_service.engine.merkle import leaf_hash

router = APIRouter(tags=["proofs"])


@router.get("/v1/ledgers/{ledger}/checkpoints/latest")
async def latest_checkpoint(
    ledger: str, _who: Annotated[Principal, require("proofs.read")], request: Request
) -> Response:
    """The newest signed note with its cosignatures, as text."""
    note = await reads.latest_checkpoint(request.app.state.pool, ledger)
    if note is None:
        raise Problem("no_checkpoint")
    return PlainTextResponse(note)


@router.get("/v1/ledgers/{ledger}/checkpoints/{size}")
async def checkpoint(
    ledger: str, size: int, _who: Annotated[Principal, require("proofs.read")], request: Request
) -> Response:
    """The signed note of one size with its cosignatures, as text."""
    note = await reads.checkpoint(request.app.state.pool, ledger, size)
    if note is None:
        raise Problem("no_checkpoint")
    return PlainTextResponse(note)


@router.post("/v1/ledgers/{ledger}/checkpoints/{size}/cosignatures", status_code=204)
async def cosign(
    ledger: str,
    size: int,
    _who: Annotated[Principal, require("checkpoints.cosign")],
    request: Request,
) -> Response:
    """Add a witness's signature line to a checkpoint; it must hold under the witness's key."""
    line = (await request.body()).decode("utf-8", "replace").strip()
    pool = request.app.state.pool
    note = await reads.checkpoint(pool, ledger, size)
    if note is None:
        raise Problem("no_checkpoint")
    try:
        name = checkpoints.signatures("\n\n" + line)[0][0]
        key = base64.b64decode(environment.read("TALLYSTICK_WITNESS_PUBLIC_KEY"), validate=True)
        checkpoints.verify_cosignature(checkpoints.parse(note), line, name, key)
    except (checkpoints.CheckpointError, ValueError, IndexError):
        raise Problem("invalid_request", "This cosignature does not hold.") from None
    await reads.add_cosignature(pool, ledger, size, name, line)
    return Response(status_code=204)


@router.get("/v1/ledgers/{ledger}/proofs/inclusion")
async def inclusion(
    ledger: str,
    _who: Annotated[Principal, require("proofs.read")],
    request: Request,
    seq: Annotated[int, Query(ge=1)],
    size: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """Proof that an event is in the tree of the first `size` events. Hashes are base64."""
    pool = request.app.state.pool
    size = await resolve_seq(request, ledger, size)
    if seq > size:
        raise Problem("invalid_request", "seq is at most size.")
    async for raw in reads.event_bytes(pool, ledger, after_seq=seq - 1, limit=1):
        return {
            "ledger": ledger,
            "seq": seq,
            "leaf_index": seq - 1,
            "size": size,
            "leaf_hash": _coded(leaf_hash(raw)),
            "proof": [_coded(node) for node in await proofs.inclusion(pool, ledger, seq, size)],
            "root": _coded(await proofs.root_at(pool, ledger, size)),
        }
    raise Problem("unknown_transaction")


@router.get("/v1/ledgers/{ledger}/proofs/consistency")
async def consistency(
    ledger: str,
    _who: Annotated[Principal, require("proofs.read")],
    request: Request,
    first: Annotated[int, Query(ge=1)],
    second: Annotated[int | None, Query(ge=1)] = None,
) -> dict[str, Any]:
    """Proof that the tree of `second` events continues that of `first`. Hashes are base64."""
    pool = request.app.state.pool
    second = await resolve_seq(request, ledger, second)
    if first > second:
        raise Problem("invalid_request", "first is at most second.")
    nodes = await proofs.consistency(pool, ledger, first, second)
    return {
        "ledger": ledger,
        "first": first,
        "second": second,
        "proof": [_coded(node) for node in nodes],
        "first_root": _coded(await proofs.root_at(pool, ledger, first)),
        "second_root": _coded(await proofs.root_at(pool, ledger, second)),
    }


def _coded(hashed: bytes) -> str:
    return base64.b64encode(hashed).decode()
