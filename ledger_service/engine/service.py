"""The writer process: holds the leases it can get, serves submissions, publishes checkpoints.

Any number of these may run; each ledger is written by the one that holds its lease, and another one
takes over when that lapses. Settings: TALLYSTICK_DATABASE_URL (role tallystick_writer),
TALLYSTICK_LISTEN, TALLYSTICK_HEALTH_LISTEN, TALLYSTICK_WRITER_SECRET, TALLYSTICK_LOG_KEY,
TALLYSTICK_LOG_ORIGIN.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hmac
import secrets
import signal
from typing import Any

import asyncpg
import structlog
import uvloop

from ledger_service.contract import environment, failpoints, logs
from ledger_service.contract.identifiers import LEDGER
from ledger_service.contract.service import Health
from ledger_service.domain.commands import Command, ExpireHold, OpenLedger
from ledger_service.domain.errors import refusal
from ledger_service.engine import durability, lease, store
from ledger_service.engine.charts import known_charts
from ledger_service.engine.checkpoints import CheckpointError, Publisher
from ledger_service.engine.deciding import Submission, deadline_in, rehearse_opening
from ledger_service.engine.projector import Projector
from ledger_service.engine.proofs import ProofError
from ledger_service.engine.protocol import (
    ALL_LEDGERS,
    CALLER_BYTES,
    MAX_COMMANDS,
    NONCE_BYTES,
    PROOF_BYTES,
    End,
    Refused,
    Reply,
    Request,
    Verdict,
    decode_request,
    proof_of_secret,
)
from ledger_service.engine.writer import LedgerWriter, LostLease

log = structlog.get_logger()
_GREETING_S = 5

EXPIRY_INTERVAL_S = 0.5
"""How long after its time a hold may still be pending."""


class WriterService:
    """All ledgers that this process writes, and the door through which commands come."""

    def __init__(
        self, database_url: str, secret: str, publisher: Publisher, health: Health
    ) -> None:
        self._url = database_url
        self._secret = secret
        self._publisher = publisher
        self._health = health
        self._holder = secrets.token_hex(16)
        self._address = ""
        self._writers: dict[str, LedgerWriter] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._opens_ledgers = False
        self._draining = False
        self.callers: set[_Caller] = set()
        self.lines: dict[bytes, _Caller] = {}
        """The newest line of each caller, by the name that it gave."""
        self._openings: set[asyncio.Task[None]] = set()

    async def _connect(self) -> asyncpg.Connection:
        return await asyncpg.connect(
            self._url,
            timeout=10,
            server_settings={"application_name": "tallystick-writer", **durability.SESSION},
        )

    # --- leases ---------------------------------------------------------------------------------

    async def run(self, host: str, port: int, stop: asyncio.Event) -> None:
        """Serve until `stop`, then answer what is queued and give the leases back."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Caller(self, self._secret), host, port)
        port = server.sockets[0].getsockname()[1]
        self._address = f"{host}:{port}"
        log.info("writer.listening", address=self._address)
        beside = [asyncio.create_task(self._publish()), asyncio.create_task(self._expire_holds())]
        while not stop.is_set():
            await self._renew()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), lease.RENEW_SECONDS / 4)
        self._draining = True
        self._health.report(ready=False)
        for task in beside:
            task.cancel()
        for writer in self._writers.values():
            writer.stop()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        connection = await self._connect()
        for ledger in [*self._writers, ALL_LEDGERS]:
            await lease.release(connection, ledger, self._holder)
        await connection.close()
        server.close()
        for caller in list(self.callers):
            caller.transport.close()

    async def _renew(self) -> None:
        """Hold every lease that can be had; begin to write what is newly ours."""
        try:
            connection = await self._connect()
        except (OSError, asyncpg.PostgresError, TimeoutError) as error:
            self._health.report(ready=False, database=type(error).__name__)
            return
        try:
            self._opens_ledgers = await self._hold(connection, ALL_LEDGERS)
            for row in await connection.fetch("select ledger from ledger.head"):
                ledger = row["ledger"]
                if await self._hold(connection, ledger):
                    self._begin(ledger)
            self._report()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            self._health.report(ready=False, database=type(error).__name__)
        finally:
            connection.terminate()

    async def _hold(self, connection: Any, ledger: str) -> bool:
        failpoints.reach("lease.before")
        held = await lease.acquire(connection, ledger, self._holder, self._address)
        failpoints.reach("lease.after")
        return held

    def _report(self) -> None:
        self._health.report(
            ready=True,
            database="up",
            ledgers={name: writer.committed_seq for name, writer in self._writers.items()},
            stopped=[name for name, writer in self._writers.items() if writer.is_stopped],
        )

    def _begin(self, ledger: str) -> None:
        if ledger in self._tasks or self._draining:
            return

        async def holds_lease() -> bool:
            connection = await self._connect()
            try:
                return await self._hold(connection, ledger)
            finally:
                connection.terminate()

        projector = Projector(ledger, self._connect)
        writer = LedgerWriter(
            ledger,
            self._connect,
            known_charts(),
            holds_lease,
            on_commit=projector.take,
            on_close=lambda: self._publish_head(ledger),
        )
        self._writers[ledger] = writer
        self._tasks[ledger] = asyncio.create_task(self._write(writer, projector))

    async def _write(self, writer: LedgerWriter, projector: Projector) -> None:
        following = asyncio.create_task(projector.follow())
        try:
            await writer.run()
        except LostLease:
            log.warning("writer.lease_lost", ledger=writer.ledger)
        finally:
            following.cancel()
            if not self._draining:
                del self._writers[writer.ledger], self._tasks[writer.ledger]

    async def _publish(self) -> None:
        while True:
            await asyncio.sleep(self._publisher.interval_s)
            for ledger in list(self._writers):
                await self._publish_head(ledger)

    async def _publish_head(self, ledger: str) -> None:
        """Sign where a ledger stands; what fails is tried again at the next interval."""
        try:
            failpoints.reach("checkpoint.before")
            await self._publisher.publish(self._connect, ledger)
            failpoints.reach("checkpoint.after")
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError) as error:
            log.warning("checkpoint.not_published", ledger=ledger, error=type(error).__name__)
        except (ProofError, CheckpointError) as error:
            log.error("checkpoint.refused", ledger=ledger, reason=str(error))  # noqa: TRY400 - a verdict

    async def _expire_holds(self) -> None:
        """Release holds whose time is over, as events; the book looks at the clock once more."""
        connection: asyncpg.Connection | None = None
        try:
            while True:
                await asyncio.sleep(EXPIRY_INTERVAL_S)
                try:
                    connection = connection or await self._connect()
                    for ledger, seqs in (await store.due_holds(connection, self._writers)).items():
                        await self._expire(ledger, seqs)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                    log.warning("holds.not_expired", error=type(error).__name__)
                    if connection is not None:
                        connection.terminate()
                    connection = None
        finally:
            if connection is not None:
                connection.terminate()

    async def _expire(self, ledger: str, seqs: list[int]) -> None:
        commands: list[Command] = [ExpireHold(seq, "writer") for seq in seqs]
        if writer := self._writers.get(ledger):
            await self._offer(writer, Request(0, ledger, commands, False, 30_000, False, False))  # noqa: FBT003

    # --- callers --------------------------------------------------------------------------------

    def take(self, request: Request, caller: _Caller) -> None:
        """Decide on a request; the caller is sent the reply."""
        if len(request.commands) > MAX_COMMANDS:
            caller.reply(request, _refuse_all(request, "batch_too_large"))
        elif request.ledger == ALL_LEDGERS:
            task = asyncio.create_task(self._open_ledger(request, caller))
            self._openings.add(task)
            task.add_done_callback(self._openings.discard)
        else:
            self._submit(request.ledger, request, caller)

    def _submit(self, ledger: str, request: Request, caller: _Caller) -> None:
        writer = self._writers.get(ledger)
        if writer is None or self._draining:
            caller.reply(request, None)
            return
        answer = self._offer(writer, request)
        answer.add_done_callback(lambda done: caller.reply(request, done.result()))

    def _offer(self, writer: LedgerWriter, request: Request) -> asyncio.Future[list[Verdict]]:
        answer: asyncio.Future[list[Verdict]] = asyncio.get_running_loop().create_future()
        writer.offer(
            Submission(
                request.commands,
                request.linked,
                deadline_in(request.deadline_ms / 1000),
                request.in_doubt,
                request.with_events,
                answer,
                request.dry_run,
            )
        )
        return answer

    async def _open_ledger(self, request: Request, caller: _Caller) -> None:
        if not self._opens_ledgers or self._draining:
            caller.reply(request, None)
            return
        command = request.commands[0] if len(request.commands) == 1 else None
        if not isinstance(command, OpenLedger) or not LEDGER.match(command.ledger):
            caller.reply(request, _refuse_all(request, "bad_ledger_id"))
            return
        if command.dry_run and command.ledger not in self._writers:
            caller.reply(request, [rehearse_opening(command, known_charts())])
            return
        await self._prepare(command.ledger)
        self._submit(command.ledger, request, caller)

    async def _prepare(self, ledger: str) -> None:
        """Make the head of a new ledger and write it, unless another process holds it."""
        if ledger in self._writers:
            return
        connection = await self._connect()
        try:
            await store.create_head(connection, ledger)
            if await self._hold(connection, ledger):
                self._begin(ledger)
        finally:
            connection.terminate()


class _Caller(End):
    """One API node: it shows that it knows the secret, and then sends requests."""

    def __init__(self, service: WriterService, secret: str) -> None:
        super().__init__()
        self._service = service
        self._secret = secret
        self._nonce = secrets.token_bytes(NONCE_BYTES)
        self._shown: bytes | None = b""
        """What has come of proof and name; None once they are accepted."""
        self._name = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask for the proof."""
        super().connection_made(transport)
        self._service.callers.add(self)
        transport.write(self._nonce)
        self._patience = asyncio.get_running_loop().call_later(_GREETING_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        """The proof and a name first, then frames."""
        if self._shown is not None:
            self._shown += data
            size = PROOF_BYTES + CALLER_BYTES
            if len(self._shown) < size:
                return
            proof, self._name = self._shown[:PROOF_BYTES], self._shown[PROOF_BYTES:size]
            data = self._shown[size:]
            if not hmac.compare_digest(proof, proof_of_secret(self._secret, self._nonce)):
                log.warning("writer.caller_refused")
                self.transport.abort()
                return
            self._shown = None
            self._patience.cancel()
            self._service.lines[self._name] = self
        super().data_received(data)

    def message_received(self, raw: bytes) -> None:
        """A request; not read where its sender has a newer line, and has asked there again."""
        if self._service.lines.get(self._name) is self:
            self._service.take(decode_request(raw), self)
        else:
            self.transport.abort()

    def reply(self, request: Request, verdicts: list[Verdict] | None) -> None:
        """Answer a request."""
        failpoints.reach("answer.before")
        self.send(Reply(request.number, verdicts))

    def _flush(self) -> None:
        super()._flush()
        failpoints.reach("answer.after")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """What it asked goes on; nobody hears of it."""
        self._service.callers.discard(self)
        if self._service.lines.get(self._name) is self:
            del self._service.lines[self._name]
        self._patience.cancel()


def _refuse_all(request: Request, code: str) -> list[Verdict]:
    found = refusal(code)
    return [Refused(found.code, found.detail)] * len(request.commands)


async def _serve() -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    service = WriterService(
        environment.read("TALLYSTICK_DATABASE_URL"),
        environment.read("TALLYSTICK_WRITER_SECRET"),
        Publisher.from_environment(),
        health,
    )
    await service.run(*environment.host_and_port("TALLYSTICK_LISTEN"), stop)


def main() -> None:
    """Run until SIGTERM."""
    logs.configure("writer", environment.read("TALLYSTICK_LOG_LEVEL"))
    failpoints.arm_from_environment()
    # A batch makes and drops tens of thousands of small objects, none of them in a cycle.
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    uvloop.run(_serve())
