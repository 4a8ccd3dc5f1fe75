"""A caller's connection over a real socket: answers in one piece, however they are made."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import sys
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from ledger_service.api.connection import Connection
from ledger_service.stack.home import free_port

CHUNK = b"x" * 65_536
_DATA_SEGS_IN = 152
"""Where Linux's `tcp_info` says how many segments with data have come."""
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Answers:
    """An application: `/` answers at once, `/endless` with more than any buffer should hold, `/late`
    sends its head long before its body."""

    sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": _length(scope)})
        if scope["path"] == "/endless":
            for _ in range(1_000):
                await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
                self.sent += 1
        if scope["path"] == "/late":
            await asyncio.Event().wait()
        await send({"type": "http.response.body", "body": b"done"})


def _length(scope: Scope) -> list[tuple[bytes, bytes]]:
    return [(b"content-length", b"4")] if scope["path"] == "/" else []


@pytest.fixture
async def answers() -> AsyncIterator[tuple[Answers, int]]:
    """The application, served; and its port."""
    app, port = Answers(), free_port()
    config = uvicorn.Config(
        app, port=port, http=Connection, lifespan="off", log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield app, port
    finally:
        server.force_exit = True
        await server.shutdown()


@contextlib.asynccontextmanager
async def asking(port: int, path: str, *headers: str) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"GET {path} HTTP/1.1", "Host: ledger", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    try:
        async with asyncio.timeout(5):
            yield reader, writer
    finally:
        writer.transport.abort()


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how many segments came")
async def test_head_and_body_come_in_one_segment(answers: tuple[Answers, int]) -> None:
    async with asking(answers[1], "/") as (reader, writer):
        await reader.readuntil(b"\r\n\r\ndone")
        info = writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)
    assert struct.unpack_from("I", info, _DATA_SEGS_IN) == (1,)


async def test_a_connection_that_ends_with_the_answer_ends_after_it(
    answers: tuple[Answers, int],
) -> None:
    async with asking(answers[1], "/", "Connection: close") as (reader, _writer):
        assert (await reader.read()).endswith(b"\r\n\r\ndone")


async def test_a_head_does_not_wait_for_a_late_body(answers: tuple[Answers, int]) -> None:
    async with asking(answers[1], "/late") as (reader, _writer):
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_who_does_not_read_makes_the_answer_pause(answers: tuple[Answers, int]) -> None:
    app, port = answers
    async with asking(port, "/endless"):
        await asyncio.sleep(0.5)
        assert 0 < app.sent < 500
