"""Reading transactions: one, that of an idempotency key, and lists by declared filters."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Query, Request

from ledger_service.api.clocks import SeqInPath, moment_of, recorded_range, resolve_seq
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.domain.commands import key_digest
from ledger_service.engine import reads, transaction_index
from ledger_service.engine.charts import known_charts
from ledger_service.engine.transaction_index import Filters

router = APIRouter(tags=["transactions"])
_METADATA_MAX = 4
"""Pairs that one question may name."""


@router.get("/v1/ledgers/{ledger}/transactions/{seq}")
async def get_transaction(
    ledger: str,
    seq: SeqInPath,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
) -> dict[str, Any]:
    """A transaction as it was recorded, and the `seq` of its reversals."""
    found = await reads.transaction(request.app.state.pool, ledger, seq)
    if found is None:
        raise Problem("unknown_transaction")
    return found


@router.get("/v1/ledgers/{ledger}/transactions")
async def list_transactions(
    *,
    ledger: str,
    _who: Annotated[Principal, require("ledgers.read")],
    request: Request,
    idempotency_key: Annotated[str | None, Query(min_length=1, max_length=255)] = None,
    kind: str | None = None,
    channel: str | None = None,
    counterparty: str | None = None,
    rail_reference: str | None = None,
    metadata: Annotated[
        list[str], Query(max_length=_METADATA_MAX, description="key=value of a declared key")
    ] = [],  # noqa: B006 - FastAPI copies it
    effective_from: str | None = None,
    effective_to: str | None = None,
    recorded_from: str | None = None,
    recorded_to: str | None = None,
    before: str = "",
    limit: Annotated[int, Query(ge=1, le=reads.PAGE_MAX)] = 100,
) -> dict[str, Any]:
    """Transactions that fit every filter, newest first; `next` is the `before` of the next page.

    A page looks at a bounded number: where few fit it is short, or empty, and still has a `next`.
    Ranges are from a moment on, up to another without it. With a range of effective time the newest
    by that clock come first. With `idempotency_key` alone: what was done under it, whether it moved
    money or placed or voided a hold; the question after an unknown outcome.
    """
    if idempotency_key is not None:
        return await _of_key(request, ledger, idempotency_key)
    pool = request.app.state.pool
    head = await resolve_seq(request, ledger, None)
    effective = [
        moment_of(name, text)
        for name, text in (("effective_from", effective_from), ("effective_to", effective_to))
    ]
    after_seq, until_seq = await recorded_range(request, ledger, recorded_from, recorded_to)
    filters = Filters(
        kind,
        channel,
        counterparty,
        rail_reference,
        await _metadata(request, ledger, metadata),
        *effective,
        after_seq=after_seq,
        until_seq=until_seq,
    )
    try:
        place = transaction_index.read_place(before, filters) if before else None
    except (ValueError, OverflowError):
        raise Problem("invalid_request", "before is the next of the page before.") from None
    page = await transaction_index.find(pool, ledger, filters, before=place, limit=limit, head=head)
    following = None if page.following is None else transaction_index.write_place(page.following)
    return {
        "transactions": [msgspec.json.decode(row["bytes"]) for row in page.rows],
        "next": following,
    }


async def _metadata(request: Request, ledger: str, texts: list[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of keys and values. Errors: `undeclared_metadata` for a key the chart does not have."""
    if not texts:
        return ()
    pairs = []
    opened = await reads.ledger(request.app.state.pool, ledger)
    declared = known_charts()[opened["chart"]].metadata if opened else ()
    for text in texts:
        key, separator, value = text.partition("=")
        if not separator or key not in declared:
            raise Problem("undeclared_metadata", declared=sorted(declared))
        pairs.append((key, value))
    return tuple(pairs)


async def _of_key(request: Request, ledger: str, key: str) -> dict[str, Any]:
    pool = request.app.state.pool
    await resolve_seq(request, ledger, None)
    seq = await reads.seq_of_key(pool, ledger, key_digest(ledger, key))
    if seq is None:
        raise Problem("unknown_transaction", "Nothing was done under this idempotency key.")
    transaction = await reads.transaction(pool, ledger, seq)
    if transaction is not None:
        return transaction
    [raw] = [raw async for raw in reads.event_bytes(pool, ledger, after_seq=seq - 1, limit=1)]
    return msgspec.json.decode(raw)
