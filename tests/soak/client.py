"""A client as a process of its own: moves money in every form, and writes its own history.

`python -m tests.soak.client SEED NAME FOLDER KEY SESSION PAUSE URL...` works until SIGTERM, which
ends it after the requests in hand. What it does depends on nothing but the seed, the answers and, for
how long a hold lasts, the clock. SESSION is that of the second person who approves reversals; PAUSE
the seconds that a worker rests at most between two requests.
"""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import hashlib
import json
import random
import signal
import sys
from collections import deque
from pathlib import Path
from typing import Any

import httpx

from ledger_service.contract.events import timestamp
from tests.asking import REVERSAL_REASON, Ask, Line, body_of, item_of, place_of
from tests.soak.history import Done, History, Outcome, Refused

LEDGER = "soaked"
BANK = "bank:fbo"
FLOORS: dict[str, int | None] = {
    **{f"customer:{number}:wallet": 0 for number in range(12)},
    BANK: None,
}
CUSTOMERS = [account for account, floor in FLOORS.items() if floor == 0]
WORKERS = 4
TIMEOUT_S = 20.0
PAUSE_S = 0.02
LEFT_IN_DOUBT = 0.2
"""Share of lost outcomes that a client does not ask for again: the judge looks for them."""
UNSETTLED = ("outcome_unknown", "database_unavailable", "writer_unavailable", "internal_error")
"""Codes that leave open whether it was done."""
_FORMS = {
    # how a request is sent, how often, and with how many commands at most
    "single": (8, 1),
    "batch": (4, 30),
    "linked": (3, 4),
    "commands": (3, 20),
    "linked_commands": (3, 4),
    "stream": (3, 30),
}
LINKED = ("linked", "linked_commands")
_IN_COMMANDS = ("post", "hold", "capture", "void")
_OFTEN = {"post": 50, "hold": 22, "capture": 18, "void": 5, "reverse": 6, "status": 3}


@dataclasses.dataclass
class Client:
    """What the workers of one process share; they meet at the same holds and transactions."""

    seed: str
    folder: Path
    session: str
    pause_s: float
    urls: list[str]
    http: httpx.AsyncClient
    holds: deque[tuple[int, int]] = dataclasses.field(default_factory=lambda: deque(maxlen=50))
    """`seq` and minor units of the last ones, ended ones among them; so are `posted`."""
    posted: deque[tuple[int, int]] = dataclasses.field(default_factory=lambda: deque(maxlen=50))

    def learn(self, ask: Ask, seq: int) -> None:
        """Something was done."""
        amount = sum(amount for _, amount in ask.lines if amount > 0) or ask.amount or 1
        if ask.do == "hold":
            self.holds.append((seq, amount))
        elif ask.do in ("post", "capture", "reverse"):
            self.posted.append((seq, amount))


class Worker:
    """One conversation: the next request leaves when the last one is answered.

    `freezes`: the account that it freezes and thaws, as nobody else does.
    """

    def __init__(self, client: Client, name: str, freezes: str = "") -> None:
        self._client = client
        self._name = name
        self._chance = random.Random(f"{client.seed}/{name}")
        self._history = History(client.folder / f"{name}.history")
        self._http = client.http
        self._urls = [*client.urls]
        self._chance.shuffle(self._urls)
        self._freezes = freezes
        self._status = "open"
        self._asked = 0
        self._requests = 0

    async def work(self, stop: asyncio.Event) -> None:
        """Send until `stop`; what stays without an outcome is mostly sent again."""
        while not stop.is_set():
            form = self._pick({form: often for form, (often, _) in _FORMS.items()})
            asks = await self._asks(form)
            keeps_asking = self._chance.random() >= LEFT_IN_DOUBT or asks[0].do == "status"
            while asks:
                outcomes = await self._send(form, asks)
                lost = [
                    ask
                    for ask, outcome in zip(asks, outcomes, strict=True)
                    if outcome is None and keeps_asking and not stop.is_set()
                ]
                asks = asks if lost and form in LINKED else lost
                pause = self._chance.random() * self._client.pause_s
                await asyncio.sleep(0.1 if lost else pause)

    # --- what to ask ----------------------------------------------------------------------------

    def _pick(self, often: dict[str, int]) -> str:
        return self._chance.choices([*often], [*often.values()])[0]

    async def _asks(self, form: str) -> list[Ask]:
        _, most = _FORMS[form]
        size = 1 if most == 1 else self._chance.randint(2, most)
        if form in ("batch", "linked", "stream"):
            return [self._post() for _ in range(size)]
        if form != "single":
            often = {do: _OFTEN[do] for do in _IN_COMMANDS}
            return [self._ask(self._pick(often)) for _ in range(size)]
        do = self._pick(_OFTEN if self._freezes else {**_OFTEN, "status": 0})
        if do == "status":
            # always another one than it has: so each makes an event
            often = {"open": 3, "frozen": 1, "debits_frozen": 1, "credits_frozen": 1}
            self._status = self._pick({**often, self._status: 0})
            return [Ask(self._key(), "status", account=self._freezes, status=self._status)]
        if do == "reverse":
            return [await self._reversal() or self._post()]
        return [self._ask(do)]

    def _key(self) -> str:
        self._asked += 1
        return f"{self._name}-{self._asked}"

    def _ask(self, do: str) -> Ask:
        if do == "hold":
            return self._hold()
        if do in ("capture", "void") and self._client.holds:
            hold, amount = self._chance.choice(self._client.holds)
            if do == "void":
                return Ask(self._key(), "void", of=hold)
            # mostly within what is left
            part = None if self._chance.random() < 0.3 else self._chance.randint(1, amount)
            return Ask(self._key(), "capture", of=hold, amount=part, ends_hold=part is None
                       or self._chance.random() < 0.3)  # fmt: skip
        return self._post()

    def _post(self) -> Ask:
        lines, imposed = self._lines(), self._chance.random() < 0.03
        if imposed:
            # more than there is, so that someone owes it
            lines = [(self._chance.choice(CUSTOMERS), 500), (BANK, -500)]
        return Ask(self._key(), "post", lines, imposed=imposed)

    def _lines(self) -> list[Line]:
        one, other = self._chance.sample(CUSTOMERS, 2)
        amount = self._chance.randint(1, 50)
        match self._chance.random():
            case luck if luck < 0.5:
                return [(BANK, amount), (one, -amount)]
            case luck if luck < 0.95:
                # refused where the wallet would fall below zero
                return [(one, amount), (other, -amount)]
            case _:
                return [(one, amount), ("customer:nobody:wallet", -amount)]

    def _hold(self) -> Ask:
        one, other = self._chance.sample(CUSTOMERS, 2)
        amount = self._chance.randint(1, 50)
        ends = None
        if self._chance.random() < 0.5:
            lasts = dt.timedelta(seconds=self._chance.uniform(0.05, 4))
            ends = timestamp(dt.datetime.now(dt.UTC) + lasts)
        return Ask(self._key(), "hold", [(one, amount), (other, -amount)], expires_at=ends)

    async def _reversal(self) -> Ask | None:
        """Of a transaction, as a second person has approved it; None where that did not come about."""
        if not self._client.posted:
            return None
        seq, amount = self._chance.choice(self._client.posted)
        part = None if self._chance.random() < 0.3 else self._chance.randint(1, amount)
        key = self._key()
        body = {"transaction": seq, "reason": REVERSAL_REASON, "idempotency_key": key}
        if part is not None:
            body["amount"] = str(part)
        try:
            asked = await self._http.post(self._path("reversals"), json=body)
            if asked.status_code != 202:
                return None
            approval, reversal = asked.json()["approval"], asked.json()["reversal"]
            place = f"{self._urls[0]}/v1/approvals/{approval}"
            shown = await self._http.get(place)
            decision = {"decision": "approve", "digest": shown.json()["digest"], "reason": "seen"}
            session = {"Authorization": f"Bearer {self._client.session}"}
            decided = await self._http.post(f"{place}/decisions", json=decision, headers=session)
        except (httpx.HTTPError, LookupError, ValueError) as error:
            self._note(type(error).__name__)
            return None
        if decided.status_code != 200:
            return None
        return Ask(key, "reverse", of=seq, amount=part, approval=approval, reversal=reversal)

    # --- how to ask it --------------------------------------------------------------------------

    async def _send(self, form: str, asks: list[Ask]) -> list[Outcome]:
        self._requests += 1
        number = self._requests
        self._history.sent(number, form, asks)
        outcomes: list[Outcome] = []
        try:
            outcomes = await getattr(self, f"_{form}")(asks)
        except (httpx.HTTPError, ValueError) as error:
            self._note(type(error).__name__)
        outcomes += [None] * (len(asks) - len(outcomes))
        self._history.heard(number, outcomes)
        for ask, outcome in zip(asks, outcomes, strict=True):
            if isinstance(outcome, Done):
                self._client.learn(ask, outcome.seq)
        return outcomes

    def _note(self, why: str) -> None:
        """An answer that settles nothing: ask another node the next time."""
        print(why, flush=True)
        self._urls.append(self._urls.pop(0))

    async def _single(self, asks: list[Ask]) -> list[Outcome]:
        method, place = place_of(asks[0])
        answer = await self._http.request(method, self._path(place), json=body_of(asks[0]))
        if not answer.is_success:
            return [self._settled(answer.json()["code"])]
        if asks[0].do == "status":
            return [Done(0)]
        return [Done(answer.json()["seq"], hashlib.sha256(answer.content).hexdigest())]

    async def _batch(self, asks: list[Ask], *, linked: bool = False) -> list[Outcome]:
        body = {"transactions": [body_of(ask) for ask in asks], "linked": linked}
        return await self._several("transactions:batch", body, asks)

    async def _linked(self, asks: list[Ask]) -> list[Outcome]:
        return await self._batch(asks, linked=True)

    async def _commands(self, asks: list[Ask], *, linked: bool = False) -> list[Outcome]:
        body = {"commands": [item_of(ask) for ask in asks], "linked": linked}
        return await self._several("commands:batch", body, asks)

    async def _linked_commands(self, asks: list[Ask]) -> list[Outcome]:
        return await self._commands(asks, linked=True)

    async def _several(self, place: str, body: dict[str, Any], asks: list[Ask]) -> list[Outcome]:
        answer = await self._http.post(self._path(place), json=body)
        if answer.status_code != 200:
            return [self._settled(answer.json()["code"])] * len(asks)
        return [self._result(result) for result in answer.json()["results"]]

    async def _stream(self, asks: list[Ask]) -> list[Outcome]:
        lines = b"".join(json.dumps(body_of(ask)).encode() + b"\n" for ask in asks)
        outcomes: list[Outcome] = []
        try:
            async with self._http.stream(
                "POST", self._path("transactions:stream"), content=lines
            ) as answer:
                if answer.status_code != 200:
                    await answer.aread()
                    return [self._settled(answer.json()["code"])] * len(asks)
                async for line in answer.aiter_lines():
                    outcomes.append(self._result(json.loads(line)))  # noqa: PERF401 - what came counts
        except (httpx.HTTPError, ValueError) as error:
            self._note(type(error).__name__)
        return outcomes

    def _result(self, result: dict[str, Any]) -> Outcome:
        if result["status"] in ("committed", "replayed"):
            return Done(result["seq"])
        return self._settled(result["code"])

    def _settled(self, code: str) -> Outcome:
        if code not in UNSETTLED:
            return Refused(code)
        self._note(code)
        return None

    def _path(self, name: str) -> str:
        return f"{self._urls[0]}/v1/ledgers/{LEDGER}/{name}"


async def _main(  # noqa: PLR0917 - as they come from the command line
    seed: str, name: str, folder: str, key: str, session: str, pause_s: str, *urls: str
) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, trust_env=False) as http:
        client = Client(seed, Path(folder), session, float(pause_s), [*urls], http)
        # each client has one account to freeze, from the last one on
        frozen = [CUSTOMERS[-1 - "abcdefgh".index(name)], *[""] * (WORKERS - 1)]
        workers = [
            Worker(client, f"{name}{number}", account) for number, account in enumerate(frozen)
        ]
        await asyncio.gather(*(worker.work(stop) for worker in workers))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
