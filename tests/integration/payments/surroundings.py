"""A ledger with its API in this process, people to use it, and workers that can be killed."""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import dataclasses
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from temporalio.client import Client

from ledger_service.contract.service import Health
from ledger_service.payments import service
from ledger_service.payments.payload_codec import data_converter
from ledger_service.security import identities
from tests import servers

PAYLOAD_KEY = base64.b64encode(b"the key of the tests' payloads..").decode()
PASSWORD = "a long enough password"
LEDGER = "simulated"
CUSTOMER = "customer:1:wallet"
MAKER, CHECKER = "olivia", "adam"
PEOPLE = {MAKER: ["operator", "approver"], CHECKER: ["approver"]}
"""The maker may approve what others ask for."""


@contextlib.asynccontextmanager
async def serving(app: Any, port: int) -> AsyncIterator[str]:
    """An ASGI application on this event loop; gives its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="on"))
    task = asyncio.create_task(server.serve())
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the server ended before it had started")
        await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await task


class Wire:
    """What lies between worker and API: forwards, counts, and can lose a request or an answer."""

    def __init__(self, target: str) -> None:
        self._client = httpx.AsyncClient(base_url=target, timeout=30)
        self.sent: collections.Counter[int] = collections.Counter()
        """How many commands to reverse a transaction reached the API, by its `seq`."""
        self.lose_requests: set[int] = set()
        self.lose_answers: set[int] = set()
        self.lost: set[int] = set()
        self.app = Starlette(routes=[Route("/{path:path}", self._pass, methods=["GET", "POST"])])

    async def _pass(self, request: Request) -> Response:
        found = re.search(r"/transactions/(\d+):reverse$", request.url.path)
        original = int(found[1]) if found else 0
        if original in self.lose_requests:
            return await self._lose(original)
        self.sent[original] += 1
        answer = await self._client.request(
            request.method,
            request.url.path,
            params=request.query_params,
            content=await request.body(),
            headers={
                name: value
                for name, value in request.headers.items()
                if name in ("authorization", "content-type")
            },
        )
        if original in self.lose_answers:
            return await self._lose(original)
        return Response(
            answer.content, answer.status_code, media_type=answer.headers["content-type"]
        )

    async def _lose(self, original: int) -> Response:
        """Answer late, and nothing of use."""
        self.lost.add(original)
        await asyncio.sleep(1)
        return Response(status_code=502)

    async def until_lost(self, *originals: int) -> None:
        """Return once something about each transaction was lost."""
        async with asyncio.timeout(20):
            while not self.lost.issuperset(originals):  # noqa: ASYNC110 - nobody announces it
                await asyncio.sleep(0.02)

    def heal(self) -> None:
        """Lose nothing more."""
        self.lose_requests.clear()
        self.lose_answers.clear()

    async def close(self) -> None:
        await self._client.aclose()


@dataclasses.dataclass
class World:
    """Everything that a test of reversals touches."""

    database: servers.LedgerDatabase
    temporal: str
    api: httpx.AsyncClient
    wire: Wire
    wire_url: str
    owner: asyncpg.Pool
    keys: dict[str, str]
    tokens: dict[str, str]
    folder: Path
    numbers: Iterator[int]

    async def request(self, who: str, method: str, path: str, **arguments: Any) -> httpx.Response:
        """A request with the session of a person."""
        headers = {"authorization": f"Bearer {self.tokens[who]}"}
        return await self.api.request(method, path, headers=headers, **arguments)

    async def _as(self, role: str, path: str, content: dict[str, Any]) -> dict[str, Any]:
        headers = {"authorization": f"Bearer {self.keys[role]}"}
        answer = await self.api.post(path, headers=headers, json=content)
        assert answer.is_success, answer.text
        return answer.json()

    async def open_ledger(self) -> None:
        """The ledger with a customer and the bank, and money to move."""
        ledger = {
            "ledger": LEDGER, "currencies": ["USD"], "time_zone": "America/New_York",
            "cut_off": "17:00", "calendar": "us_federal_reserve", "chart": "us_fintech_fbo/1",
        }  # fmt: skip
        await self._as("administrator", "/v1/ledgers", ledger)
        for account, limits in (("bank:fbo", {}), (CUSTOMER, {"floor": "0"})):
            body = {"account": account, "currency": "USD", **limits}
            await self._as("administrator", f"/v1/ledgers/{LEDGER}/accounts", body)

    async def post(self, amount: int = 1000, *, out: bool = False) -> int:
        """The customer gets money, or with `out` spends it; gives the transaction's `seq`."""
        sides = ("credit", "debit") if out else ("debit", "credit")
        entry = {"amount": str(amount), "currency": "USD"}
        content = {
            "idempotency_key": f"original {next(self.numbers)}",
            "kind": "cash_withdrawal" if out else "deposit",
            "entries": [
                {"account": "bank:fbo", "side": sides[0], **entry},
                {"account": CUSTOMER, "side": sides[1], **entry},
            ],
        }
        return (await self._as("integrator", f"/v1/ledgers/{LEDGER}/transactions", content))["seq"]

    async def ask(self, transaction: int, **body: Any) -> httpx.Response:
        """The maker asks for a reversal."""
        content = {"transaction": transaction, "reason": "duplicate", **body}
        return await self.request(MAKER, "POST", f"/v1/ledgers/{LEDGER}/reversals", json=content)

    async def decide(
        self, asked: dict[str, Any], decision: str = "approve", who: str = CHECKER
    ) -> httpx.Response:
        """Somebody decides on what was asked, having read it."""
        path = f"/v1/approvals/{asked['approval']}"
        shown = (await self.request(who, "GET", path)).json()
        content = {"decision": decision, "digest": shown["digest"], "reason": "as agreed"}
        return await self.request(who, "POST", f"{path}/decisions", json=content)

    async def reversal(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The reversal as the API shows it."""
        return (await self.request(MAKER, "GET", f"/v1/reversals/{asked['reversal']}")).json()

    async def until(
        self, asked: dict[str, Any], *statuses: str, seconds: float = 15
    ) -> dict[str, Any]:
        """The reversal, once it has one of the statuses."""
        async with asyncio.timeout(seconds):
            while True:
                shown = await self.reversal(asked)
                if shown["status"] in statuses:
                    return shown
                await asyncio.sleep(0.05)

    async def balance(self) -> int:
        """What the customer has, in minor units."""
        headers = {"authorization": f"Bearer {self.keys['integrator']}"}
        path = f"/v1/ledgers/{LEDGER}/accounts/{CUSTOMER}"
        return int((await self.api.get(path, headers=headers)).json()["posted"])

    async def reversing(self, transaction: int) -> list[int]:
        """`seq` of everything in the journal that reverses the transaction."""
        rows = await self.owner.fetch(
            "select seq from ledger.journal where ledger = $1 "
            "and (convert_from(bytes, 'UTF8')::json ->> 'reverses')::bigint = $2 order by seq",
            LEDGER,
            transaction,
        )
        return [row["seq"] for row in rows]

    async def bring_expiry_near(self, asked: dict[str, Any]) -> None:
        """As if the hours that the policy gives had passed: no role of the services may do this."""
        async with self.owner.acquire() as connection, connection.transaction():
            await connection.execute("alter table security.approval disable trigger one_way")
            await connection.execute(
                "update security.approval set expires_at = now() + interval '1 second' "
                "where approval_id = $1",
                asked["approval"],
            )
            await connection.execute("alter table security.approval enable trigger one_way")

    async def temporal_client(self) -> Client:
        """A client with the worker's converter."""
        return await Client.connect(self.temporal, data_converter=data_converter(PAYLOAD_KEY))

    def worker_settings(self) -> dict[str, str]:
        """The environment of a worker."""
        return {
            "TALLYSTICK_DATABASE_URL": self.database.url("worker"),
            "TALLYSTICK_TEMPORAL_ADDRESS": self.temporal,
            "TALLYSTICK_API_URL": self.wire_url,
            "TALLYSTICK_API_KEY": self.keys["service"],
            "TALLYSTICK_PAYLOAD_KEY": PAYLOAD_KEY,
        }

    @contextlib.asynccontextmanager
    async def worker(self) -> AsyncIterator[Health]:
        """A worker in this process, drained at the end."""
        before = dict(os.environ)
        os.environ.update(self.worker_settings())
        health, stop = Health(), asyncio.Event()
        task = asyncio.create_task(service.serve(data_converter(PAYLOAD_KEY), health, stop))
        try:
            await asyncio.sleep(0)
            yield health
        finally:
            stop.set()
            await task
            os.environ.clear()
            os.environ.update(before)

    @contextlib.contextmanager
    def worker_process(self) -> Iterator[Any]:
        """A worker in a process of its own, which may be killed."""
        main = "from ledger_service.payments.service import main; main()"
        with servers.running(
            [sys.executable, "-c", main],
            self.folder / "worker.log",
            environment=self.worker_settings(),
        ) as process:
            yield process


async def make_identities(owner: asyncpg.Pool) -> dict[str, str]:
    """The people, and keys for worker, integrator and administrator."""
    async with owner.acquire() as connection:
        for name, roles in PEOPLE.items():
            await identities.create_user(connection, name, PASSWORD, roles)
        return {
            role: (await identities.create_key(connection, f"{role} key", [role])).text
            for role in ("service", "integrator", "administrator")
        }


async def sign_in(api: httpx.AsyncClient, name: str) -> str:
    """The token of a new session."""
    answer = await api.post("/v1/sessions", json={"username": name, "password": PASSWORD})
    answer.raise_for_status()
    return answer.json()["token"]
