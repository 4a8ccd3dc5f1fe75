"""What a client sent and heard, in a file of its own that it forces to disk before it goes on.

One JSON object a line. `sent`: a request is about to leave. `heard`: what came back, an outcome an
item; where the connection broke, the outcomes are None. Times are of the machine's monotonic clock,
which all processes share.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Outcome = tuple[Literal["committed", "refused"], int | str] | None
"""`seq`, or the refusal's code; None: not known."""


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A transaction as it was sent: lines of account and amount, debits positive."""

    key: str
    lines: list[tuple[str, int]]


class Sent(msgspec.Struct, frozen=True, tag="sent"):
    """A request is about to leave. `number` is the client's own."""

    at: int
    number: int
    form: str
    items: list[Item]


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """Outcomes in the order of the items."""

    at: int
    number: int
    outcomes: list[Outcome]


_decode = msgspec.json.Decoder(Sent | Heard).decode


class History:
    """One client's file."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def sent(self, number: int, form: str, items: list[Item]) -> None:
        self._write(Sent(time.monotonic_ns(), number, form, items))

    def heard(self, number: int, outcomes: list[Outcome]) -> None:
        self._write(Heard(time.monotonic_ns(), number, outcomes))

    def _write(self, record: Sent | Heard) -> None:
        os.write(self._file, msgspec.json.encode(record) + b"\n")
        os.fsync(self._file)


def read(path: Path) -> Iterator[Sent | Heard]:
    """A client's records. A last line without its end was never on disk, so never sent."""
    *lines, _ = path.read_bytes().split(b"\n")
    return (_decode(line) for line in lines)
