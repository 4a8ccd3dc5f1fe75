"""A caller's connection: uvicorn's own, but an answer leaves in one piece.

The server writes an answer's head and its body one after the other, and the loop hands each to the
kernel at once: a second system call and a second packet, for which the caller wakes up twice.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_JOINED_MAX_BYTES = 64 * 1024


class Connection(HttpToolsProtocol):
    """One caller."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has come."""
        super().connection_made(_Joining(transport, self.loop))  # type: ignore[arg-type]


class _Joining:
    """A transport that sends together what is written at one moment."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._call_soon = loop.call_soon
        self._written: list[bytes] = []
        self._size = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send `data` with what else is written now; at once where that is much, so that who writes
        without end is told to pause."""
        if not self._written:
            self._call_soon(self._flush)
        self._written.append(data)
        self._size += len(data)
        if self._size > _JOINED_MAX_BYTES:
            self._flush()

    def close(self) -> None:
        """Send what is written, and end."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._written:
            self._transport.write(b"".join(self._written))
            self._written.clear()
            self._size = 0
