"""What a request takes goes with it: nothing of it waits for a collection that would stop the others."""

from __future__ import annotations

import asyncio
import gc

from starlette.responses import JSONResponse

from ledger_service.api.edge import Edge

REQUESTS = 50
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": "/v1/ledgers/main/transactions",
    "query_string": b"",
    "headers": [],
}


async def _serve(edge: Edge) -> None:
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    sent = []
    for _ in range(REQUESTS):
        await edge({**SCOPE, "state": {}}, receive, send)
    assert len(sent) == 2 * REQUESTS


def test_a_request_leaves_nothing_for_the_collector():
    loop = asyncio.new_event_loop()
    edge = Edge(JSONResponse({"seq": "1"}, 201))
    loop.run_until_complete(_serve(edge))  # the first one imports and compiles
    gc.collect()
    gc.disable()
    try:
        loop.run_until_complete(_serve(edge))
        left = gc.collect()
    finally:
        gc.enable()
        loop.close()
    assert left < REQUESTS
