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
import msgspec

from ledger_service.contract import failpoints
from ledger_service.domain.commands import Command, OpenLedger
from ledger_service.domain.errors import refusal
from ledger_service.engine import lease
from ledger_service.engine.deciding import lookup_of
from ledger_service.engine.durability import DATABASE_GONE
from ledger_service.engine.protocol import (
    ALL_LEDGERS,
    CALLER_BYTES,
    MAX_COMMANDS,
    NONCE_BYTES,
    End,
    Refused,
    Reply,
    Request,
    Unknown,
    Verdict,
    decode_reply,
    proof_of_secret,
    read_command,
)

_RETRY_S = 0.1
_LOST = (OSError, asyncio.IncompleteReadError, *DATABASE_GONE)
"""The line is gone, or the database that says who holds a ledger: both come back."""
_TICK_S = 0.1
_DOUBT_S = 1.0
"""An answer that takes longer makes the client look whether the lease has moved."""


class _Asked(msgspec.Struct, eq=False):
    """A request that waits for its reply."""

    ledger: str
    until: float
    """On the monotonic clock, as is `doubted_at`."""
    doubted_at: float
    answer: asyncio.Future[list[Verdict] | None]

    def fail(self, error: Exception) -> None:
        """Let the outcome be unknown."""
        if not self.answer.done():
            self.answer.set_exception(error)


class _Line(End):
    """One connection to one writer process; many requests at a time."""

    def __init__(
        self, secret: str, caller: bytes, is_holder: Callable[[str], Awaitable[bool]]
    ) -> None:
        """`is_holder`: whether that process still holds a ledger's lease."""
        super().__init__()
        self._secret = secret
        self._caller = caller
        self._is_holder = is_holder
        self._nonce = b""
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Asked] = {}
        self.is_open = False
        self.greeted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watch = asyncio.create_task(self._watch_time())

    def data_received(self, data: bytes) -> None:
        """The nonce first, which is answered; then frames."""
        if not self.is_open:
            self._nonce += data
            if len(self._nonce) < NONCE_BYTES:
                return
            data, nonce = self._nonce[NONCE_BYTES:], self._nonce[:NONCE_BYTES]
            self.transport.write(proof_of_secret(self._secret, nonce) + self._caller)
            self.is_open = True
            self.greeted.set_result(None)
        super().data_received(data)

    async def ask(
        self,
        ledger: str,
        commands: list[Command | msgspec.Raw],
        options: dict[str, Any],
        timeout_s: float,
    ) -> list[Verdict] | None:
        """The verdicts; None where this process does not hold the ledger.

        Errors: ConnectionError and TimeoutError, after which the outcome is not known.
        """
        if not self.is_open:
            raise ConnectionResetError
        number, now = next(self._numbers), time.monotonic()
        answer: asyncio.Future[list[Verdict] | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = _Asked(ledger, now + timeout_s, now + _DOUBT_S, answer)
        try:
            failpoints.reach("submit.before_send")
            self.send(
                Request(number, ledger, commands, deadline_ms=int(timeout_s * 1000), **options)
            )
            verdicts = await answer
            failpoints.reach("submit.after_verdicts")
            return verdicts
        finally:
            self._waiting.pop(number, None)

    def _flush(self) -> None:
        super()._flush()
        failpoints.reach("submit.after_send")

    def message_received(self, raw: bytes) -> None:
        """A reply."""
        reply: Reply = decode_reply(raw)
        asked = self._waiting.get(reply.number)
        if asked is not None and not asked.answer.done():
            asked.answer.set_result(reply.verdicts)

    async def _watch_time(self) -> None:
        """End what waits too long: past its deadline, or for a process that lost the ledger.

        A process may be stopped while its connection stands; so the lease is looked up.
        """
        while True:
            await asyncio.sleep(_TICK_S)
            now = time.monotonic()
            doubted: set[str] = set()
            for asked in self._waiting.values():
                if asked.until <= now:
                    asked.fail(TimeoutError())
                elif asked.doubted_at <= now:
                    asked.doubted_at = now + _DOUBT_S
                    doubted.add(asked.ledger)
            for ledger in doubted:
                if not await self._still_holds(ledger):
                    for asked in self._waiting.values():
                        if asked.ledger == ledger:
                            asked.fail(ConnectionResetError())

    async def _still_holds(self, ledger: str) -> bool:
        try:
            async with asyncio.timeout(_DOUBT_S):
                return await self._is_holder(ledger)
        except (OSError, *DATABASE_GONE):
            return True  # nobody can say; the deadline will

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Whoever waits learns that the answer is lost."""
        self.is_open = False
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError())
        for asked in self._waiting.values():
            asked.fail(ConnectionResetError())
        self._watch.cancel()

    def close(self) -> None:
        """Cut the line."""
        self.is_open = False
        self.transport.close()


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
        commands: Sequence[Command | msgspec.Raw],
        *,
        linked: bool = False,
        deadline_s: float = 10.0,
        with_events: bool = True,
        dry_run: bool = False,
    ) -> list[Verdict]:
        """A verdict for each command, in order; one may come as its msgpack. `linked`: all or nothing
        (transactions only). `dry_run`: each as if those before it were done, and nothing is.

        `with_events` False leaves the event's bytes out of the verdicts, for bulk.
        """
        batch = list(commands)
        if not batch:
            return []
        if len(batch) > MAX_COMMANDS:
            return _refuse_all(batch, "batch_too_large")
        options = {
            "linked": linked,
            "in_doubt": False,
            "with_events": with_events,
            "dry_run": dry_run,
        }
        deadline = time.monotonic() + deadline_s
        while (left := deadline - time.monotonic()) > 0:
            line = None
            try:
                line = await self._line(ledger, left)
                if line is not None:
                    verdicts = await line.ask(ledger, batch, options, left)
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
            return [Unknown(lookup_of(command)) for command in map(read_command, batch)]
        return _refuse_all(batch, "deadline_passed")

    async def open_ledger(self, command: OpenLedger, *, deadline_s: float = 10.0) -> Verdict:
        """Open a ledger (or find it open, whoever writes it)."""
        is_new = await self._is_missing(command.ledger)
        address = ALL_LEDGERS if is_new else command.ledger
        verdicts = await self.submit(address, [command], deadline_s=deadline_s)
        return verdicts[0]

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
                async with asyncio.timeout(min(timeout_s, 3)):
                    line = self._lines[address] = await self._open(address)
        return line

    async def _open(self, address: str) -> _Line:
        async def is_holder(ledger: str) -> bool:
            return await lease.address_of(await self._connections(), ledger) == address

        host, _, port = address.rpartition(":")
        _, line = await asyncio.get_running_loop().create_connection(
            lambda: _Line(self._secret, self._caller, is_holder), host, int(port)
        )
        await line.greeted
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


def _refuse_all(commands: Sequence[object], code: str) -> list[Verdict]:
    found = refusal(code)
    return [Refused(found.code, found.detail)] * len(commands)


__all__ = ["LedgerClient"]
