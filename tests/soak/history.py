"""What a client sent and heard, in a file of its own that it forces to disk before it goes on.

One JSON object a line. `sent`: a request is about to leave. `heard`: what came back, an outcome for
each command; where the connection broke, the outcomes are None. Times are of the machine's monotonic
clock, which all processes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from tests.asking import Ask


class Done(msgspec.Struct, frozen=True, tag="done", array_like=True):
    """It is in the ledger. `seq` is 0 where the answer does not name it."""

    seq: int
    event: str = ""
    """SHA-256 of the event, where the answer was the event."""


class Refused(msgspec.Struct, frozen=True, tag="refused", array_like=True):
    """It is not, and never will be."""

    code: str


Outcome = Done | Refused | None
"""None: not known."""


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A request is about to leave. `number` is the client's own."""

    at: int
    number: int
    form: str
    asks: list[Ask]


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """Outcomes in the order of what was asked."""

    at: int
    number: int
    outcomes: list[Outcome]


_decode = msgspec.json.Decoder(Sent | Heard).decode


class History:
    """One client's file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def sent(self, number: int, form: str, asks: list[Ask]) -> None:
        self._write(Sent(time.monotonic_ns(), number, form, asks))

    def heard(self, number: int, outcomes: list[Outcome]) -> None:
        self._write(Heard(time.monotonic_ns(), number, outcomes))

    def _write(self, record: Sent | Heard) -> None:
        os.write(self._file, msgspec.json.encode(record) + b"\n")
        os.fsync(self._file)


def read(path: Path) -> Iterator[Sent | Heard]:
    """A client's records. A last line without its end was never on disk, so never sent."""
    *lines, _ = path.read_bytes().split(b"\n")
    return (_decode(line) for line in lines)
