"""Proofs: checkpoints, tiles, inclusion, consistency, and the witness's cosignatures.

`checkpoint` and `tile/...` are those of C2SP tlog-tiles: a ledger's address is the prefix under
which any verifier of that format reads the log, given a header with an API key.
"""

from __future__ import annotations

import base64
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse, Response

from ledger_service.api.clocks import resolve_seq
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract import environment
from ledger_service.engine import checkpoints, proofs, reads, tiles
from ledger_service.engine.merkle import leaf_hash

router = APIRouter(tags=["proofs"])

_FOR_EVER = {"Cache-Control": "private, max-age=31536000, immutable"}
"""What is in the tree never changes; who may read it is asked each time."""


@router.get("/v1/ledgers/{ledger}/checkpoints")
async def list_checkpoints(
    ledger: str,
    _who: Annotated[Principal, require("proofs.read")],
    request: Request,
    after_size: Annotated[int, Query(ge=0, le=reads.LAST_SEQ)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """Checkpoints by size, each a signed note with its cosignatures; `next_after_size` is the
    `after_size` of the next page, null at the end.
    """
    pool = request.app.state.pool
    if await reads.head_seq(pool, ledger) is None:
        raise Problem("ledger_not_open")
    found = await reads.checkpoints(pool, ledger, after_size=after_size, limit=limit)
    following = found[-1]["size"] if len(found) == limit else None
    return {"checkpoints": found, "next_after_size": following}


@router.get("/v1/ledgers/{ledger}/checkpoint")
@router.get("/v1/ledgers/{ledger}/checkpoints/latest")
async def latest_checkpoint(
    ledger: str, _who: Annotated[Principal, require("proofs.read")], request: Request
) -> Response:
    """The newest signed note with its cosignatures, as text."""
    note = await reads.latest_checkpoint(request.app.state.pool, ledger)
    if note is None:
        raise Problem("no_checkpoint")
    return PlainTextResponse(note)


@router.get("/v1/ledgers/{ledger}/tile/entries/{place:path}")
async def entries(
    ledger: str,
    place: str,
    _who: Annotated[Principal, require("events.read")],
    request: Request,
) -> Response:
    """The events under a tile, each behind its length as two bytes (C2SP tlog-tiles)."""
    named = tiles.parse(place)
    found = await tiles.entries(request.app.state.pool, ledger, named) if named else None
    return _tile(found)


@router.get("/v1/ledgers/{ledger}/tile/{level}/{place:path}")
async def tile(
    ledger: str,
    level: int,
    place: str,
    _who: Annotated[Principal, require("proofs.read")],
    request: Request,
) -> Response:
    """Hashes of a tile of the Merkle tree, 32 bytes each (C2SP tlog-tiles)."""
    named = tiles.parse(place)
    found = await tiles.hashes(request.app.state.pool, ledger, level, named) if named else None
    return _tile(found)


def _tile(content: bytes | None) -> Response:
    if content is None:
        raise Problem("no_tile")
    return Response(content, media_type="application/octet-stream", headers=_FOR_EVER)


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
        name = checkpoints.signatures(f"\n\n{line}\n")[0][0]
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
