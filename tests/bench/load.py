"""The benchmark's client: a process of its own that costs as little as it can.

It shares two cores with what it measures. So every request is made before the run and differs from
others of its template only by a number of eight digits, which one `replace` puts in; and answers go
to a file as they come, to be judged after the run. A plan comes as JSON on standard input, the
result leaves on standard output.

A record of the file of answers: number of the request, status, microseconds it took, length of the
body (four unsigned 32-bit integers, little-endian), then the body.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import uvloop

RECORD = struct.Struct("<IIII")
NUMBER = b"@@@@@@@@"
"""Where a template takes the number of its request."""
_LENGTH = b"content-length: "


class Plan(msgspec.Struct, frozen=True):
    """What one run of the client does."""

    host: str
    port: int
    key: str
    """API key."""
    path: str
    answers: str
    """File that the answers are written to."""
    seconds: float
    connections: int
    first_number: int = 0
    """Requests are numbered from here on; keys of two runs must not meet."""
    bulk: int = 0
    """Transactions in a request; 0: one, by the route for one."""
    accounts: int = 10_000
    workload: str = "uniform"
    """uniform, zipf, hot (the bank's account is in every transaction) or near (people pay the same few)."""
    per_s: float = 0
    """Transactions a second at most; 0: as many as it can."""
    method: str = "POST"
    do: str = ""
    """Commands of a batch: hold, or capture. Left out: transactions."""
    holds: list[int] = []
    """What is to be captured, each once, whatever the time."""


class Result(msgspec.Struct, frozen=True):
    """What happened, without a look into the answers."""

    requests: int
    seconds: float
    """From the first request to the last answer."""
    processor_s: float
    """Processor time that the client took."""


def account(number: int) -> str:
    """One of the accounts that the workloads move money between."""
    return f"customer:{number}:wallet"


HOT = "bank:fbo"


KNOWN_PAYEES = 4
"""To whom an account pays under the workload `near`: fewer senders than make a rule look closer."""
STRANGERS = 0.01
"""How often it pays somebody else all the same."""


def pairs(workload: str, accounts: int, choose: random.Random) -> Iterator[tuple[str, str]]:
    """Debited and credited account of one transaction after the other."""
    weights = None
    if workload == "zipf":
        weights = list(itertools.accumulate(1 / rank for rank in range(1, accounts + 1)))
    while True:
        if workload == "hot":
            yield HOT, account(choose.randrange(accounts))
            continue
        if workload == "near" and choose.random() >= STRANGERS:
            number = choose.randrange(accounts)
            payee = (number + choose.randint(1, KNOWN_PAYEES)) % accounts
            yield account(number), account(payee)
            continue
        found = choose.choices(range(accounts), cum_weights=weights, k=2)
        if found[0] != found[1]:
            yield account(found[0]), account(found[1])


def transaction(key: str, debited: str, credited: str, amount: int, do: str = "") -> bytes:
    """A transfer as the API takes it, or a hold as one of several commands."""
    sides = ("debit", debited), ("credit", credited)
    return json.dumps(
        {
            **({"do": do} if do else {}),
            "idempotency_key": key,
            "kind": "transfer",
            "entries": [
                {"account": name, "side": side, "amount": str(amount), "currency": "USD"}
                for side, name in sides
            ],
        },
        separators=(",", ":"),
    ).encode()


def templates(plan: Plan) -> list[bytes]:
    """Whole requests, with NUMBER in their keys."""
    if plan.do == "capture":
        return _captures(plan)
    choose = random.Random(plan.first_number)
    accounts = pairs(plan.workload, plan.accounts, choose)
    made: list[bytes] = []
    for _ in range(max(4, 4096 // max(1, plan.bulk))):
        if plan.method == "GET":
            path = f"{plan.path}/{account(choose.randrange(plan.accounts))}"
            made.append(_request(plan, path, b""))
            continue
        items = [
            transaction(
                f"{NUMBER.decode()}-{item:04}", *next(accounts), choose.randint(1, 99_999), plan.do
            )
            for item in range(max(1, plan.bulk))
        ]
        made.append(_request(plan, plan.path, _body(plan, items) if plan.bulk else items[0]))
    return made


def _captures(plan: Plan) -> list[bytes]:
    """Whole requests that capture what was held."""
    made: list[bytes] = []
    for start in range(0, len(plan.holds), plan.bulk):
        items = [
            b'{"do":"capture","idempotency_key":"%s-%04d","hold":%d}' % (NUMBER, item, hold)
            for item, hold in enumerate(plan.holds[start : start + plan.bulk])
        ]
        made.append(_request(plan, plan.path, _body(plan, items)))
    return made


def _body(plan: Plan, items: list[bytes]) -> bytes:
    name = b"commands" if plan.do else b"transactions"
    return b'{"%s":[' % name + b",".join(items) + b"]}"


def _request(plan: Plan, path: str, body: bytes) -> bytes:
    head = (
        f"{plan.method} {path} HTTP/1.1\r\nHost: {plan.host}\r\n"
        f"Authorization: Bearer {plan.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Run:
    """What the connections share: numbers, pace, file."""

    def __init__(self, plan: Plan, answers: BinaryIO) -> None:
        self.plan = plan
        self.answers = answers
        self.templates = templates(plan)
        self.numbers = itertools.count(plan.first_number)
        self.done = 0
        self.open = plan.connections
        self.ended = asyncio.Event()
        self.began = time.perf_counter()
        self._due = self.began

    def next_request(self) -> tuple[int, bytes] | None:
        """The next one and its number; None when the time is over, or all is captured."""
        number = next(self.numbers)
        if self.plan.holds:
            if number - self.plan.first_number >= len(self.templates):
                return None
            template = self.templates[number - self.plan.first_number]
            return number, template.replace(NUMBER, b"%08d" % number)
        if time.perf_counter() - self.began >= self.plan.seconds:
            return None
        template = self.templates[number % len(self.templates)]
        return number, template.replace(NUMBER, b"%08d" % number)

    def pause(self) -> float:
        """Seconds to wait before the next request, to keep the pace."""
        if not self.plan.per_s:
            return 0
        now = time.perf_counter()
        self._due = max(self._due, now - 1) + max(1, self.plan.bulk) / self.plan.per_s
        return max(0, self._due - now)


class Connection(asyncio.Protocol):
    """Sends a request, waits for the answer, sends the next."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._received = bytearray()
        self._wanted = -1
        self._number = 0
        self._sent = 0.0
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin."""
        self._transport = transport
        self._soon()

    def _soon(self) -> None:
        pause = self._run.pause()
        if pause:
            asyncio.get_running_loop().call_later(pause, self._send)
        else:
            self._send()

    def _send(self) -> None:
        found = self._run.next_request()
        if found is None:
            self._transport.close()
            return
        self._number, request = found
        self._sent = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take in a part of the answer."""
        received = self._received
        received += data
        if self._wanted < 0:
            end = received.find(b"\r\n\r\n")
            if end < 0:
                return
            length = received.index(_LENGTH) + len(_LENGTH)
            size = int(received[length : received.index(b"\r", length)])
            self._wanted = end + 4 + size
        if len(received) < self._wanted:
            return
        took = int((time.perf_counter() - self._sent) * 1e6)
        body = received[received.index(b"\r\n\r\n") + 4 :]
        run = self._run
        run.answers.write(RECORD.pack(self._number, int(received[9:12]), took, len(body)))
        run.answers.write(body)
        run.done += 1
        self._received = bytearray()
        self._wanted = -1
        self._soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of this connection, and of the run if it is the last one."""
        self._run.open -= 1
        if not self._run.open:
            self._run.ended.set()


async def _load(plan: Plan, answers: BinaryIO) -> Result:
    run = Run(plan, answers)
    loop = asyncio.get_running_loop()
    processor, run.began = time.process_time(), time.perf_counter()
    for _ in range(plan.connections):
        await loop.create_connection(lambda: Connection(run), plan.host, plan.port)
    await run.ended.wait()
    return Result(run.done, time.perf_counter() - run.began, time.process_time() - processor)


def read_answers(path: Path) -> Iterator[tuple[int, int, int, bytes]]:
    """Number of the request, status, microseconds and body of every answer."""
    with path.open("rb") as file:
        while head := file.read(RECORD.size):
            number, status, took, size = RECORD.unpack(head)
            yield number, status, took, file.read(size)


if __name__ == "__main__":
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with Path(plan.answers).open("wb") as file:
        sys.stdout.buffer.write(msgspec.json.encode(uvloop.run(_load(plan, file))))
