"""Strict order for whoever can tell (P3): callers at once over two API nodes, each read from the other."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import httpx

from tests.asking import Ask, body_of, place_of
from tests.servers import LedgerDatabase
from tests.soak.client import BANK, CUSTOMERS, LEDGER
from tests.soak.cluster import Cluster, cluster

CALLERS, ROUNDS = 6, 3
LAST_DAY = "2999-12-31"


class Done(NamedTuple):
    """One command as its caller saw it; times of one clock."""

    sent_at: int
    answered_at: int
    seq: int


class Caller:
    """Asks one node, then reads what it has done from the other."""

    def __init__(self, number: int, http: httpx.AsyncClient, urls: list[str]) -> None:
        self.done: list[Done] = []
        self._number = number
        self._http = http
        self._nodes = [f"{url}/v1/ledgers/{LEDGER}" for url in urls]
        self._wallet = CUSTOMERS[number]
        self._moved = {"debits": 0, "credits": 0}

    async def call(self) -> None:
        for round_ in range(ROUNDS):
            key = f"{self._number}-{round_}"
            self._moved["credits"] += 3
            await self._ask(Ask(key, "post", [(BANK, 3), (self._wallet, -3)]))
            held = await self._ask(Ask(f"h{key}", "hold", [(self._wallet, 2), (BANK, -2)]))
            await self._see_hold(held, "2", [])
            self._moved["debits"] += 1
            some = Ask(f"c{key}", "capture", of=held, amount=1, ends_hold=False)
            await self._see_hold(held, "1", [await self._ask(some)])

    async def _ask(self, ask: Ask) -> int:
        """Its `seq`, after everything that must show it does."""
        method, place = place_of(ask)
        sent_at = time.monotonic_ns()
        answer = await self._http.request(method, f"{self._nodes[0]}/{place}", json=body_of(ask))
        assert answer.status_code == 201, answer.text
        event = answer.json()
        self.done.append(Done(sent_at, time.monotonic_ns(), event["seq"]))
        self._nodes.reverse()
        await asyncio.gather(*self._see(event, is_posted=ask.do != "hold"))
        return event["seq"]

    def _see(self, event: dict[str, Any], *, is_posted: bool) -> list[Coroutine[Any, Any, None]]:
        account, asked = f"accounts/{self._wallet}", {"effective_date": LAST_DAY}
        seen = [self._see_sums(account), self._see_sums(f"{account}/balance", **asked)]
        if is_posted:
            seen += [self._see_entry(account, event["seq"]), self._see_listed(event)]
        return seen

    async def _see_sums(self, place: str, **asked: str) -> None:
        found = await self._read(place, **asked)
        assert {side: int(found[side]) for side in self._moved} == self._moved

    async def _see_entry(self, account: str, seq: int) -> None:
        statement = await self._read(f"{account}/statement", effective_date=LAST_DAY)
        assert seq == statement["entries"][-1]["seq"]

    async def _see_listed(self, event: dict[str, Any]) -> None:
        listed = await self._read("transactions", kind=event["kind"])
        assert event in listed["transactions"]

    async def _see_hold(self, hold: int, left: str, captured_by: list[int]) -> None:
        found = await self._read(f"holds/{hold}")
        assert (found["left"], found["captured_by"]) == (left, captured_by)
        first = await self._read(f"accounts/{self._wallet}/holds", after=str(hold - 1), limit="1")
        assert [one["left"] for one in first["holds"]] == [left]

    async def _read(self, place: str, **asked: str) -> dict[str, Any]:
        answer = await self._http.get(f"{self._nodes[0]}/{place}", params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()


async def _hold_up_history(owner_url: str) -> None:
    """What follows the journal comes late, again and again."""
    owner = await asyncpg.connect(owner_url)
    try:
        while True:
            async with owner.transaction():
                await owner.execute("select from ledger.projection for update")
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.02)
    finally:
        await owner.close()


async def _call_all(running: Cluster) -> list[Done]:
    headers = {"Authorization": f"Bearer {running.key}"}
    async with httpx.AsyncClient(headers=headers, timeout=30, trust_env=False) as http:
        callers = [
            Caller(number, http, running.urls[:: 1 if number % 2 else -1])
            for number in range(CALLERS)
        ]
        late = asyncio.create_task(_hold_up_history(running.owner_url))
        await asyncio.gather(*(caller.call() for caller in callers))
        late.cancel()
    return [done for caller in callers for done in caller.done]


def test_what_was_answered_stands_before_what_is_sent_later_and_is_seen_everywhere(
    ledger_database: LedgerDatabase, tmp_path: Path
) -> None:
    with cluster(ledger_database, tmp_path, writers=1) as running:
        done = asyncio.run(_call_all(running))
    assert len({one.seq for one in done}) == len(done) == CALLERS * ROUNDS * 3
    # together, or there was nothing to order
    overlapping = sum(
        one.sent_at < other.answered_at and other.sent_at < one.answered_at and one is not other
        for one in done
        for other in done
    )
    assert overlapping > len(done)
    wrong = [
        (one, other) for one in done for other in done
        if one.answered_at < other.sent_at and one.seq > other.seq
    ]  # fmt: skip
    assert wrong == []
