"""A client as a process of its own: posts in every form, and writes its own history.

`python -m tests.soak.client SEED NAME FOLDER KEY URL...` works until SIGTERM, which ends it after the
requests in hand. What it does depends on nothing but the seed and the answers.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.soak.history import History, Item, Outcome

LEDGER = "soaked"
CUSTOMERS = [f"customer:{number}:wallet" for number in range(12)]
BANK = "bank:fbo"
WORKERS = 4
TIMEOUT_S = 20.0
LEFT_IN_DOUBT = 0.2
"""Share of lost outcomes that a client does not ask for again: the judge looks for them."""
UNSETTLED = ("outcome_unknown", "database_unavailable", "writer_unavailable", "internal_error")
"""Codes that leave open whether it was done."""
_FORMS = ("single", "single", "batch", "linked", "stream")


class Worker:
    """One conversation: the next request leaves when the last one is answered."""

    def __init__(self, name: str, seed: str, folder: Path, key: str, urls: list[str]) -> None:
        self._name = name
        self._chance = random.Random(f"{seed}/{name}")
        self._history = History(folder / f"{name}.history")
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"}, timeout=TIMEOUT_S, trust_env=False
        )
        self._urls = urls
        self._chance.shuffle(self._urls)
        self._transactions = 0
        self._requests = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Send until `stop`; what stays without an outcome is mostly sent again."""
        while not stop.is_set():
            form = self._chance.choice(_FORMS)
            size = 1 if form == "single" else self._chance.randint(2, 30)
            items = [self._item() for _ in range(size)]
            asks_again = self._chance.random() >= LEFT_IN_DOUBT
            while items:
                outcomes = await self._send(form, items)
                lost = [
                    item
                    for item, outcome in zip(items, outcomes, strict=True)
                    if outcome is None and asks_again and not stop.is_set()
                ]
                items = items if lost and form == "linked" else lost
                await asyncio.sleep(0.1 if lost else self._chance.random() * 0.02)
        await self._http.aclose()

    def _item(self) -> Item:
        self._transactions += 1
        key = f"{self._name}-{self._transactions}"
        one, other = self._chance.sample(CUSTOMERS, 2)
        amount = self._chance.randint(1, 50)
        match self._chance.random():
            case luck if luck < 0.5:
                lines = [(BANK, amount), (one, -amount)]
            case luck if luck < 0.95:
                # refused where the wallet would fall below zero
                lines = [(one, amount), (other, -amount)]
            case _:
                lines = [(one, amount), ("customer:nobody:wallet", -amount)]
        return Item(key, lines)

    async def _send(self, form: str, items: list[Item]) -> list[Outcome]:
        self._requests += 1
        number = self._requests
        self._history.sent(number, form, items)
        outcomes: list[Outcome] = []
        try:
            outcomes = await getattr(self, f"_{form}")(items)
        except (httpx.HTTPError, ValueError) as error:
            self._note(type(error).__name__)
        outcomes += [None] * (len(items) - len(outcomes))
        self._history.heard(number, outcomes)
        return outcomes

    def _note(self, why: str) -> None:
        """An answer that settles nothing: ask another node the next time."""
        print(why, flush=True)
        self._urls.append(self._urls.pop(0))

    async def _single(self, items: list[Item]) -> list[Outcome]:
        answer = await self._http.post(self._path("transactions"), json=body_of(items[0]))
        body = answer.json()
        if answer.status_code in (200, 201):
            return [("committed", body["seq"])]
        return [self._settled(body["code"])]

    async def _batch(self, items: list[Item], *, linked: bool = False) -> list[Outcome]:
        body = {"transactions": [body_of(item) for item in items], "linked": linked}
        answer = await self._http.post(self._path("transactions:batch"), json=body)
        if answer.status_code != 200:
            return [self._settled(answer.json()["code"])] * len(items)
        return [self._result(result) for result in answer.json()["results"]]

    async def _linked(self, items: list[Item]) -> list[Outcome]:
        return await self._batch(items, linked=True)

    async def _stream(self, items: list[Item]) -> list[Outcome]:
        lines = b"".join(json.dumps(body_of(item)).encode() + b"\n" for item in items)
        outcomes: list[Outcome] = []
        try:
            async with self._http.stream(
                "POST", self._path("transactions:stream"), content=lines
            ) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    return [self._settled(answer.json()["code"])] * len(items)
                async for line in answer.aiter_lines():
                    outcomes.append(self._result(json.loads(line)))  # noqa: PERF401 - what came counts
        except (httpx.HTTPError, ValueError) as error:
            self._note(type(error).__name__)
        return outcomes

    def _result(self, result: dict[str, Any]) -> Outcome:
        if result["status"] in ("committed", "replayed"):
            return "committed", result["seq"]
        return self._settled(result["code"])

    def _settled(self, code: str) -> Outcome:
        if code not in UNSETTLED:
            return "refused", code
        self._note(code)
        return None

    def _path(self, name: str) -> str:
        return f"{self._urls[0]}/v1/ledgers/{LEDGER}/{name}"


def body_of(item: Item) -> dict[str, Any]:
    """A transaction as the API takes it."""
    return {
        "idempotency_key": item.key,
        "kind": "transfer",
        "entries": [
            {
                "account": account,
                "side": "debit" if amount > 0 else "credit",
                "amount": str(abs(amount)),
                "currency": "USD",
            }
            for account, amount in item.lines
        ],
    }


async def _main(seed: str, name: str, folder: str, key: str, *urls: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    workers = [
        Worker(f"{name}{number}", seed, Path(folder), key, list(urls)) for number in range(WORKERS)
    ]
    await asyncio.gather(*(worker.work(stop) for worker in workers))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
