"""`tally run bi`: one address at which BI tools find the current `general` snapshot.

It speaks PostgreSQL's protocol, which every such tool does, and answers with DuckDB: nothing is
copied, and readers neither wait for a publication nor keep one waiting. It opens no other snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
from collections.abc import AsyncGenerator
from pathlib import Path

from ledger_service.contract import environment, logs
from ledger_service.contract.service import Health, stop_on_signals
from ledger_service.contract.snapshots import read_manifest
from pipelines.bi.session import SNAPSHOT, Session
from pipelines.places import Places

CLIENTS_MAX = 16


class Server:
    """All clients. Errors: ValueError for an empty password."""

    def __init__(self, snapshots: Path, password: str) -> None:
        if not password:
            raise ValueError("TALLYSTICK_BI_PASSWORD must not be empty")
        self._snapshots = snapshots
        self._password = password
        self._numbers = itertools.count(1)
        self._open: dict[Session, asyncio.Task[None]] = {}
        self._sessions: dict[int, Session] = {}
        """Of `_open` those that have signed in, by number."""

    @contextlib.asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncGenerator[int]:
        """Take clients as long as the block lasts; gives the port."""
        server = await asyncio.start_server(self._serve, host, port)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for session in self._open:
                session.end()
            await asyncio.gather(*self._open.values())

    @property
    def clients(self) -> int:
        """How many are connected."""
        return len(self._sessions)

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        session = Session(self._snapshots, self._password, client, answer)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._open[session] = task
        try:
            with contextlib.suppress(EOFError, ConnectionError, TimeoutError):
                await session.run(self._enter, self._cancel)
            with contextlib.suppress(ConnectionError):
                answer.close()
                await answer.wait_closed()
        finally:
            del self._open[session]
            self._sessions = {n: one for n, one in self._sessions.items() if one is not session}

    def _enter(self, session: Session) -> int | None:
        if len(self._sessions) >= CLIENTS_MAX:
            return None
        number = next(self._numbers)
        self._sessions[number] = session
        return number

    def _cancel(self, number: int, key: bytes) -> None:
        session = self._sessions.get(number)
        if session is not None and hmac.compare_digest(session.key, key):
            session.interrupt()


async def serve(server: Server, host: str, port: int, health: Health) -> None:
    """Serve until SIGTERM, and tell how it stands."""
    stop = stop_on_signals()
    snapshots = Places.from_settings().snapshots
    async with server.listening(host, port):
        while not stop.is_set():
            current = read_manifest(snapshots, SNAPSHOT)
            health.report(
                ready=True, clients=server.clients, version=current.version if current else None
            )
            await asyncio.sleep(0.5)


def main() -> None:
    """Serve. Errors: `MissingSetting`."""
    logs.configure("bi", environment.read("TALLYSTICK_LOG_LEVEL"))
    server = Server(Places.from_settings().snapshots, environment.read("TALLYSTICK_BI_PASSWORD"))
    health = Health()
    health.serve(*environment.host_and_port("TALLYSTICK_HEALTH_LISTEN"))
    host, port = environment.host_and_port("TALLYSTICK_LISTEN")
    asyncio.run(serve(server, host, port, health))


if __name__ == "__main__":
    main()
