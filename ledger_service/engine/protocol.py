"""How API nodes and the writer talk: TCP, frames of msgpack, a shared secret shown first.

The writer opens with a nonce of 32 bytes; the caller answers HMAC-SHA256(secret, nonce) and 16 bytes
that name itself, and then sends requests. A caller has one line: what still comes on an earlier one
is not read, since its sender has given it up for lost and asked again. A frame is a length of four
bytes, big-endian, and a message. Replies carry the request's number and come in any order.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import structlog

from ledger_service.domain.commands import Command, decode_command
from ledger_service.engine import fast

log = structlog.get_logger()

NONCE_BYTES = 32
PROOF_BYTES = 32
CALLER_BYTES = 16
FRAME_MAX_BYTES = 64 * 1024 * 1024
MAX_COMMANDS = 10_000
"""In one submission."""
ALL_LEDGERS = "*"
"""The address of commands that open ledgers."""


class Committed(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """It is durable, under this `seq`. `replayed`: it had been carried out before."""

    seq: int
    event_bytes: bytes
    """Canonical bytes of the event; empty where the caller did not want them."""
    replayed: bool


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Nothing happened; `code` is one of `domain.errors.REFUSALS`."""

    code: str
    detail: dict[str, Any]


class Unknown(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Whether it happened is not known; `lookup`: a key's digest or an account to look for."""

    lookup: str


class Possible(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """A dry run that would be committed, as this event; empty where the caller did not want it."""

    event_bytes: bytes


Verdict = Committed | Refused | Unknown | Possible


Commands = TypeVar("Commands", bound=Sequence[Any])


class Request(msgspec.Struct, Generic[Commands], frozen=True, array_like=True):
    """Commands for one ledger, to be decided in order and at once."""

    number: int
    ledger: str
    commands: Commands
    linked: bool
    deadline_ms: int
    """How long the caller waits from now on."""
    in_doubt: bool
    """Sent before, and the answer was lost: what is found done is answered as done now."""
    with_events: bool
    dry_run: bool = False
    """Change nothing."""


class Reply(msgspec.Struct, frozen=True, array_like=True):
    """Verdicts in the order of the commands; none: this process does not hold the ledger."""

    number: int
    verdicts: list[Verdict] | None


_encoder = msgspec.msgpack.Encoder()
_decode_request = msgspec.msgpack.Decoder(Request[list[msgspec.Raw]]).decode
decode_reply = msgspec.msgpack.Decoder(Reply).decode


def decode_request(raw: bytes) -> Request[Sequence[Command]]:
    """A request. Errors: msgspec.ValidationError, msgspec.DecodeError."""
    found = _decode_request(raw)
    return Request(
        found.number,
        found.ledger,
        fast.commands_of(found.commands),
        found.linked,
        found.deadline_ms,
        found.in_doubt,
        found.with_events,
        found.dry_run,
    )


def read_command(command: Command | msgspec.Raw) -> Command:
    """A command that may still be its msgpack."""
    return decode_command(command) if isinstance(command, msgspec.Raw) else command


def frame(message: Request[Any] | Reply) -> bytes:
    """A message with its length before it."""
    buffer = bytearray(4)
    _encoder.encode_into(message, buffer, 4)
    buffer[:4] = (len(buffer) - 4).to_bytes(4, "big")
    return bytes(buffer)


def _length(head: bytes | bytearray) -> int:
    """Of the message that follows. Errors: ValueError, where it is too large."""
    length = int.from_bytes(head, "big")
    if length > FRAME_MAX_BYTES:
        raise ValueError("a frame is larger than the protocol allows")
    return length


class End(asyncio.Protocol):
    """One end of a line: takes what arrives apart, and sends together what is sent at one moment.

    While the other end does not read, nothing is read from it either.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = bytearray()
        self._outgoing: list[bytes] = []

    def message_received(self, raw: bytes) -> None:
        """A message has come. Errors: ValueError ends the line."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The line is open."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Some bytes have come: parts of frames, or several."""
        received = self._received
        received += data
        start = 0
        try:
            while len(received) - start >= 4:
                end = start + 4 + _length(received[start : start + 4])
                if len(received) < end:
                    break
                self.message_received(bytes(received[start + 4 : end]))
                start = end
        except ValueError as error:
            log.warning("line.bad_frame", error=type(error).__name__)
            self.transport.abort()
        del received[:start]

    def send(self, message: Request[Any] | Reply) -> None:
        """Send a message with all others of this moment; nothing where the line is closed."""
        if not self._outgoing:
            asyncio.get_running_loop().call_soon(self._flush)
        self._outgoing.append(frame(message))

    def _flush(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    def pause_writing(self) -> None:
        """The other end does not keep up."""
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        """It has caught up."""
        self.transport.resume_reading()


def proof_of_secret(secret: str, nonce: bytes) -> bytes:
    """What a caller answers to the writer's nonce."""
    return hmac.digest(secret.encode(), nonce, hashlib.sha256)
