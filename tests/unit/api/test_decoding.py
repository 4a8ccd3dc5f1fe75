"""Batches are decoded one after the other, and others get the processor in between."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby

from starlette.requests import Request

from ledger_service.api.app import create_app
from ledger_service.api.transactions import decode_each
from ledger_service.domain.commands import VoidHold, void_hold


async def test_a_balance_waits_for_a_step_of_one_batch_whatever_their_number() -> None:
    request = Request({"type": "http", "app": create_app()})
    seen: list[str] = []

    def decoding(batch: str) -> Callable[[bytes], VoidHold]:
        def decode(raw: bytes) -> VoidHold:
            seen.append(batch)
            return void_hold("us_program", raw.decode(), hold=1, reason="expired", actor="teller")

        return decode

    async def read_balances() -> None:
        while True:
            await asyncio.sleep(0)
            seen.append("balance")

    reading = asyncio.create_task(read_balances())
    await asyncio.gather(
        *(decode_each(request, [b"key"] * 320, decoding(batch)) for batch in "abc")
    )
    reading.cancel()
    steps = [(who, len(list(items))) for who, items in groupby(seen) if who != "balance"]
    assert steps == [(batch, 64) for batch in "abc" for _ in range(5)]
