"""Transactions: one, many in a body, a stream of them, reversal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ledger_service.api import posting_bodies
from ledger_service.api.accounts import BATCH_MAX_BYTES
from ledger_service.api.clocks import SeqInPath
from ledger_service.api.json_bytes import JsonBytes
from ledger_service.api.ledgers import NDJSON
from ledger_service.api.posting_bodies import TransactionBody
from ledger_service.api.problems import Problem
from ledger_service.api.verdicts import item, rehearsed, settled
from ledger_service.api.who import Principal, require
from ledger_service.domain.commands import Command, Keyed, PlaceHold, PostTransaction
from ledger_service.engine import reads
from ledger_service.engine.client import LedgerClient
from ledger_service.engine.protocol import Committed, Refused, Verdict

router = APIRouter(tags=["transactions"])
STREAM_MAX_BYTES = 4 * 1024**3
LINE_MAX_BYTES = 64 * 1024
_STREAM_BATCH = 2_000
"""Lines of a stream that are submitted together."""
_STREAM_DEPTH = 3
"""Batches of a stream under way at a time."""
_BULK_DEADLINE_S = 60.0
_YIELD_EVERY = 64
"""Items that are decoded before others get the processor."""

Raw = TypeVar("Raw", bytes, msgspec.Raw)
Decoded = TypeVar("Decoded", bound=Keyed | msgspec.Raw)


async def post_one(request: Request, ledger: str, command: Command) -> Response:
    verdict = (await request.app.state.ledger.submit(ledger, [command]))[0]
    if isinstance(verdict, Refused) and verdict.code == "idempotency_conflict":
        verdict.detail["difference"] = await _difference(request, ledger, command, verdict.detail)
    return answer_one(verdict)


def answer_one(verdict: Verdict) -> Response:
    """The event, or the one that a dry run gave. Errors: `Problem`."""
    found = settled(verdict)
    if not isinstance(found, Committed):
        return rehearsed(found)
    # The event's canonical bytes are the answer.
    if found.replayed:
        return JsonBytes(found.event_bytes, headers=[(b"idempotent-replayed", b"true")])
    return JsonBytes(found.event_bytes, 201)


async def _difference(
    request: Request, ledger: str, command: Command, detail: dict[str, Any]
) -> list[str]:
    """Names of the fields in which a request differs from the first one under its key."""
    raws = [
        raw
        async for raw in reads.event_bytes(
            request.app.state.pool, ledger, after_seq=detail["seq"] - 1, limit=1
        )
    ]
    first = msgspec.json.decode(raws[0]) if raws else {}
    if not isinstance(command, PostTransaction | PlaceHold):
        return ["content"]
    wanted = {
        "kind": command.kind,
        "entries": msgspec.to_builtins(command.entries),
        "context": msgspec.to_builtins(command.context),
        "metadata": command.metadata or None,
    }
    if isinstance(command, PostTransaction):
        wanted |= {
            "imposed": command.imposed or None,
            "corrects": command.corrects,
            "rate": command.rate and msgspec.to_builtins(command.rate),
        }
    differing = [name for name, value in wanted.items() if first.get(name) != value]
    return differing or ["effective_at" if isinstance(command, PostTransaction) else "expires_at"]


@router.post("/v1/ledgers/{ledger}/transactions", status_code=201)
async def post_transaction(
    ledger: str, who: Annotated[Principal, require("transactions.post")], request: Request
) -> Response:
    """Post a transaction. The same key and content again: 200 and the first answer."""
    body = await posting_bodies.read(request, TransactionBody)
    return await post_one(request, ledger, body.command(ledger, who.actor, who.request_id))


@router.post("/v1/ledgers/{ledger}/transactions:batch", max_body_size=BATCH_MAX_BYTES)
async def post_batch(
    ledger: str, who: Annotated[Principal, require("transactions.post")], request: Request
) -> Response:
    """Post many transactions in order; a verdict for each. `linked`: all of them or none. `dry_run`:
    nothing, each as if those before it were done."""
    body = await posting_bodies.read(request, posting_bodies.TransactionsBody)
    read = posting_bodies.transaction_reader(ledger, who.actor, who.request_id)
    decoded = await decode_each(request, body.transactions, read)
    return await answer_batch(request, ledger, decoded, linked=body.linked, dry_run=body.dry_run)


async def answer_batch(
    request: Request,
    ledger: str,
    decoded: Sequence[Keyed | msgspec.Raw | Problem],
    *,
    linked: bool,
    dry_run: bool,
) -> Response:
    """A verdict for each. Errors: `Problem`: `linked` with one that can't be decoded; a full queue,
    which takes nothing of a batch, so that it is tried again as a whole."""
    problems = [found for found in decoded if isinstance(found, Problem)]
    if linked and problems:
        raise problems[0]
    results = await submit_decoded(
        request.app.state.ledger, ledger, decoded, linked=linked, dry_run=dry_run
    )
    first = next((result for result in results if not isinstance(result, Problem)), None)
    if isinstance(first, Refused) and first.code == "busy":
        settled(first)
    return JsonBytes(msgspec.json.encode({"results": [item(result) for result in results]}))


async def decode_each(
    request: Request, raws: Sequence[Raw], decode: Callable[[Raw], Decoded]
) -> list[Decoded | Problem]:
    """What each stands for, in order. One batch is decoded at a time, a few items at a step, and others
    are served in between: a step is what a balance waits for, whatever the number of batches."""
    decoded: list[Decoded | Problem] = []
    async with request.app.state.decoding:
        for number, raw in enumerate(raws, 1):
            try:
                decoded.append(decode(raw))
            except Problem as problem:
                decoded.append(problem)
            if number % _YIELD_EVERY == 0:
                await asyncio.sleep(0)
    return decoded


async def submit_decoded(
    client: LedgerClient,
    ledger: str,
    decoded: Sequence[Keyed | msgspec.Raw | Problem],
    *,
    linked: bool = False,
    dry_run: bool = False,
) -> list[Verdict | Problem]:
    """Verdicts in order; what could not be decoded keeps its problem."""
    commands = [found for found in decoded if not isinstance(found, Problem)]
    verdicts = await client.submit(
        ledger,
        commands,
        linked=linked,
        deadline_s=_BULK_DEADLINE_S,
        with_events=False,
        dry_run=dry_run,
    )
    if len(verdicts) == len(decoded):
        return [*verdicts]
    answers = iter(verdicts)
    return [found if isinstance(found, Problem) else next(answers) for found in decoded]


@router.post("/v1/ledgers/{ledger}/transactions:stream", max_body_size=STREAM_MAX_BYTES)
async def post_stream(
    ledger: str, who: Annotated[Principal, require("transactions.post")], request: Request
) -> Response:
    """Post a stream: a transaction a line, a result a line, in the same order, both at once."""
    if await reads.head_seq(request.app.state.pool, ledger) is None:
        raise Problem("ledger_not_open")
    return _TwoWay(_stream(request, ledger, who), media_type=NDJSON)


class _TwoWay(StreamingResponse):
    """An answer that is written while the request is still being read. The parent class watches for
    a disconnect by reading as well, and would swallow the request's body."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send the answer; whoever reads the request notices a disconnect."""
        await self.stream_response(send)


async def _stream(request: Request, ledger: str, who: Principal) -> AsyncIterator[bytes]:
    client: LedgerClient = request.app.state.ledger
    under_way: asyncio.Queue[asyncio.Task[list[Verdict | Problem]] | None]
    under_way = asyncio.Queue(_STREAM_DEPTH)
    read = posting_bodies.transaction_reader(ledger, who.actor, who.request_id)

    async def feed() -> None:
        async for lines in _line_batches(request):
            decoded = await decode_each(request, lines, read)
            await under_way.put(asyncio.create_task(submit_decoded(client, ledger, decoded)))
        await under_way.put(None)

    feeding = asyncio.create_task(feed())
    try:
        while True:
            following = asyncio.create_task(under_way.get())
            await asyncio.wait({following, feeding}, return_when=asyncio.FIRST_COMPLETED)
            if not following.done():
                following.cancel()
                feeding.result()  # ends here only by an exception, or with the end in the queue
                following = asyncio.create_task(under_way.get())
            batch = await following
            if batch is None:
                return
            results = await batch
            yield b"".join(msgspec.json.encode(item(result)) + b"\n" for result in results)
    finally:
        feeding.cancel()


async def _line_batches(request: Request) -> AsyncIterator[list[bytes]]:
    """Lines as they come: whatever has arrived makes a batch, up to `_STREAM_BATCH`."""
    rest = b""
    async for chunk in request.stream():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > LINE_MAX_BYTES:
            raise Problem("body_too_large", f"A line has at most {LINE_MAX_BYTES} bytes.")
        lines = [line for line in lines if line.strip()]
        for start in range(0, len(lines), _STREAM_BATCH):
            yield lines[start : start + _STREAM_BATCH]
    if rest.strip():
        yield [rest]


@router.post("/v1/ledgers/{ledger}/transactions/{seq}:reverse", status_code=201)
async def reverse_transaction(
    ledger: str,
    seq: SeqInPath,
    who: Annotated[Principal, require("transactions.reverse")],
    request: Request,
) -> Response:
    """Execute an approved reversal; the approval is consumed in the same commit."""
    body = await posting_bodies.read(request, posting_bodies.ReverseBody)
    return await post_one(request, ledger, body.command(ledger, seq, who.actor, who.request_id))
