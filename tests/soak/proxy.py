"""A TCP proxy between two of our services that misbehaves on request. For tests only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

import pytest

from ledger_service.engine import lease
from ledger_service.engine.client import LedgerClient

Cut = Callable[[bytes], bool]
"""Looks at what one side says; True: cut the connection now, and let none of it through."""


class Proxy:
    """Forwards `port` to a server. Faults apply to what comes after they are set."""

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.delay_s = 0.0
        """Held back so long, in each direction."""
        self.open = asyncio.Event()
        """Cleared: nothing gets through, and nobody is told."""
        self.open.set()
        self.is_named = True
        """Whether who looks for the server finds the proxy."""
        self.cut_answer: Cut | None = None
        self.cut_request: Cut | None = None
        """Each is used once."""
        self.cuts = 0
        self.linger_s = 0.0
        """How long the far end of a lost connection stands."""
        self._target = host, port
        self._server: asyncio.Server | None = None
        self._near: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in self._tasks:
            task.cancel()

    def cut(self) -> None:
        """Cut every connection, without a farewell."""
        for writer in list(self._connections):
            writer.transport.abort()

    def lose_callers(self) -> None:
        """Callers lose their connections; what they had sent still arrives, when it is let through."""
        for near in list(self._near):
            near.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, far_writer}
        self._connections |= both
        self._near.add(writer)
        try:
            await asyncio.gather(
                self._pass_on(reader, far_writer, answers=False),
                self._pass_on(far_reader, writer, answers=True),
            )
        except OSError:
            await asyncio.sleep(self.linger_s)
        finally:
            self._connections -= both
            self._near.discard(writer)
            for end in both:
                end.transport.abort()
            self._tasks.discard(task)

    def _is_cut(self, data: bytes, *, answers: bool) -> bool:
        cut = self.cut_answer if answers else self.cut_request
        if cut is None or not cut(data):
            return False
        self.cuts += 1
        self.cut_answer = self.cut_request = None
        return True

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        while data := await reader.read(1 << 16):
            if self._is_cut(data, answers=answers):
                raise ConnectionResetError
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            await self.open.wait()
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()


@contextlib.asynccontextmanager
async def before_the_writer(
    client: LedgerClient, ledger: str, patch: pytest.MonkeyPatch
) -> AsyncIterator[Proxy]:
    """A proxy between a client and the writer that holds the ledger's lease now."""
    address_of = lease.address_of
    address = await address_of(await client._connections(), ledger)
    host, _, port = (address or "").rpartition(":")
    async with Proxy(host, int(port)) as proxy:

        async def by_proxy(connection, ledger):
            found = await address_of(connection, ledger)
            return f"127.0.0.1:{proxy.port}" if found and proxy.is_named else found

        patch.setattr(lease, "address_of", by_proxy)
        client._addresses.clear()
        yield proxy
