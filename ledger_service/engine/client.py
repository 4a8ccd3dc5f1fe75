"""The line from an API node to the writers: finds who holds a ledger, submits, and never guesses.

When an answer is lost the client does not send again blindly: it finds the writer of the moment and
submits as *in doubt*, which makes the writer look the idempotency key up before it decides. Where
that does not end before the deadline the verdict is Unknown.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg

from ledger_service.domain.commands import Command, OpenLedger
from ledger_service.domain.errors import refusal
from ledger_service.engine import failpoints, lease
from ledger_service.engine.deciding import lookup_of
from ledger_service.engine.durability import DATABASE_GONE
from ledger_service.engine.protocol import (
    ALL_LEDGERS,
    CALLER_BYTES,
    MAX_COMMANDS,
    NONCE_BYTES,
    Refused,
    Reply,
    Request,
    Unknown,
    Verdict,
    decode_reply,
    frame,
    proof_of_secret,
    read_frame,
)

_RETRY_S = 0.1
_LOST = (OSError, asyncio.IncompleteReadError, *DATABASE_GONE)
"""The line is gone, or the database that says who holds a ledger: both come back."""
_DOUBT_S = 1.0
"""An answer that takes longer makes the client look whether the lease has moved."""


class _Line:
    """One connection to one writer process; many requests at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[list[Verdict] | None]] = {}
        self.is_open = True
        self._task = asyncio.create_task(self._read(reader))

    @classmethod
    async def open(cls, address: str, secret: str, caller: bytes) -> _Line:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 20)
        writer.write(proof_of_secret(secret, await reader.readexactly(NONCE_BYTES)) + caller)
        return cls(reader, writer)

    async def ask(
        self,
        ledger: str,
        commands: list[Command],
        options: dict[str, Any],
        timeout_s: float,
        is_holder: Callable[[], Awaitable[bool]],
    ) -> list[Verdict] | None:
        """The verdicts; None where this process does not hold the ledger.

        A process may be stopped while its connection stands: so `is_holder` is asked now and then.
        Errors: ConnectionError and TimeoutError, after which the outcome is not known.
        """
        number = next(self._numbers)
        answer: asyncio.Future[list[Verdict] | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if not self.is_open or self._writer.is_closing():
                raise ConnectionResetError
            request = Request(
                number, ledger, commands, deadline_ms=int(timeout_s * 1000), **options
            )
            failpoints.reach("submit.before_send")
            self._writer.write(frame(request))
            await self._writer.drain()
            failpoints.reach("submit.after_send")
            until = time.monotonic() + timeout_s
            while not answer.done():
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                await asyncio.wait({answer}, timeout=min(left, _DOUBT_S))
                if not answer.done() and not await is_holder():
                    raise ConnectionResetError
            failpoints.reach("submit.after_verdicts")
            return answer.result()
        finally:
            self._waiting.pop(number, None)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                reply: Reply = decode_reply(await read_frame(reader))
                answer = self._waiting.get(reply.number)
                if answer is not None and not answer.done():
                    answer.set_result(reply.verdicts)
        except (asyncio.IncompleteReadError, OSError, ValueError):
            pass
        finally:
            self.close()

    def close(self) -> None:
        """Cut the line; whoever waits learns that the answer is lost."""
        self.is_open = False
        self._writer.close()
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(ConnectionResetError())
        self._task.cancel()


class LedgerClient:
    """Submits commands to the writers of all ledgers. `database`: an asyncpg pool or a URL."""

    def __init__(self, database: asyncpg.Pool | str, secret: str) -> None:
        self._database = database
        self._pool: asyncpg.Pool | None = None
        self._secret = secret
        self._caller = secrets.token_bytes(CALLER_BYTES)
        self._addresses: dict[str, str] = {}
        self._lines: dict[str, _Line] = {}
        self._opening = asyncio.Lock()

    async def close(self) -> None:
        """Cut all lines, and close the pool where this client made it."""
        for line in self._lines.values():
            line.close()
        if self._pool is not None:
            await self._pool.close()

    async def submit(
        self,
        ledger: str,
        commands: Sequence[Command],
        *,
        linked: bool = False,
        deadline_s: float = 10.0,
        with_events: bool = True,
    ) -> list[Verdict]:
        """A verdict for each command, in order. `linked`: all or nothing (transactions only).

        `with_events` False leaves the event's bytes out of the verdicts, for bulk.
        """
        batch = list(commands)
        if not batch:
            return []
        if len(batch) > MAX_COMMANDS:
            return _refuse_all(batch, "batch_too_large")
        options = {"linked": linked, "in_doubt": False, "with_events": with_events}
        deadline = time.monotonic() + deadline_s
        while (left := deadline - time.monotonic()) > 0:
            line = None
            try:
                line = await self._line(ledger, left)
                if line is not None:
                    verdicts = await line.ask(
                        ledger, batch, options, left, lambda: self._is_current(ledger)
                    )
                    if verdicts is not None and not _was_cut_short(verdicts):
                        return verdicts
                    options["in_doubt"] = options["in_doubt"] or verdicts is not None
                elif await self._is_missing(ledger):
                    return _refuse_all(batch, "ledger_not_open")
            except _LOST:
                options["in_doubt"] = options["in_doubt"] or line is not None
            self._addresses.pop(ledger, None)
            await asyncio.sleep(min(_RETRY_S, max(deadline - time.monotonic(), 0)))
        if options["in_doubt"]:
            return [Unknown(lookup_of(command)) for command in batch]
        return _refuse_all(batch, "deadline_passed")

    async def open_ledger(self, command: OpenLedger, *, deadline_s: float = 10.0) -> Verdict:
        """Open a ledger (or find it open)."""
        verdicts = await self.submit(ALL_LEDGERS, [command], deadline_s=deadline_s)
        return verdicts[0]

    async def _is_current(self, ledger: str) -> bool:
        """Whether the process that was asked still holds the lease."""
        address = await lease.address_of(await self._connections(), ledger)
        return address is not None and address == self._addresses.get(ledger)

    async def _is_missing(self, ledger: str) -> bool:
        pool = await self._connections()
        return ledger != ALL_LEDGERS and not await lease.is_known(pool, ledger)

    async def _line(self, ledger: str, timeout_s: float) -> _Line | None:
        """A line to the ledger's writer; None while nobody holds its lease."""
        address = self._addresses.get(ledger)
        if address is None:
            pool = await self._connections()
            address = await lease.address_of(pool, ledger)
            if address is None:
                return None
            self._addresses[ledger] = address
        line = self._lines.get(address)
        if line is not None and line.is_open:
            return line
        async with self._opening:
            line = self._lines.get(address)
            if line is None or not line.is_open:
                opened = _Line.open(address, self._secret, self._caller)
                line = self._lines[address] = await asyncio.wait_for(opened, min(timeout_s, 3))
        return line

    async def _connections(self) -> asyncpg.Pool:
        if not isinstance(self._database, str):
            return self._database
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(self._database, min_size=1, max_size=2)
        return self._pool


def _was_cut_short(verdicts: list[Verdict]) -> bool:
    """Whether the writer gave up on the submission, so that the next one must be asked."""
    return all(isinstance(verdict, Unknown) for verdict in verdicts)


def _refuse_all(commands: list[Command], code: str) -> list[Verdict]:
    found = refusal(code)
    return [Refused(found.code, found.detail)] * len(commands)


__all__ = ["LedgerClient"]
