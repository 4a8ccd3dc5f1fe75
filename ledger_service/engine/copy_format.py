"""PostgreSQL's binary COPY format: rows of posting lists as bytes.

A general encoder looks at every value's type, which takes several times as long for the arrays of
these rows. Source: PostgreSQL documentation, COPY, "Binary Format", and the `send` functions of the
types. A row is its number of columns (two bytes), then the columns one after the other; each is its
length (four bytes) and its bytes. Arrays that are parameters of a statement go as text.
"""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_EPOCH = dt.date(2000, 1, 1)
_POSTING_ARRAYS = ((20, "q", 8), (21, "h", 2), (20, "q", 8), (1082, "i", 4))
"""Type, code of `struct` and width of seqs, entry_nos, amounts and effective_dates."""

_length = struct.Struct(">i").pack
columns: Callable[[int], bytes] = struct.Struct(">h").pack
"""How many columns follow: the beginning of a row."""


def text(value: str) -> bytes:
    """A text column."""
    encoded = value.encode()
    return _length(len(encoded)) + encoded


def day_number(value: dt.date) -> int:
    """A date as PostgreSQL counts it: days since 2000."""
    return value.toordinal() - _EPOCH.toordinal()


class PostingRow:
    """Makes rows of `ledger.posting_list` of one ledger, whose arrays are all of one length.

    A row is packed at once: for each length there is a layout, and a list of values of which only
    the row's own are put in.
    """

    def __init__(self, ledger: str) -> None:
        self._head = columns(7) + text(ledger)
        self._layouts: dict[int, tuple[Callable[..., bytes], list[Any]]] = {}

    def encode(
        self,
        number: int,
        seqs: Sequence[int],
        entry_nos: Sequence[int],
        amounts: Sequence[int],
        day_numbers: Sequence[int],
    ) -> bytes:
        """One row: an account's number, and its entries."""
        size = len(seqs)
        pack, values = self._layouts.get(size) or self._layout(size)
        step = 2 * size
        values[2], values[4] = number, seqs[-1]
        start = 7
        for array in (seqs, entry_nos, amounts, day_numbers):
            values[start : start + step : 2] = array
            start += step + 1
        return pack(*values)

    def _layout(self, size: int) -> tuple[Callable[..., bytes], list[Any]]:
        codes, values = f">{len(self._head)}siqiq", [self._head, 8, 0, 8, 0]
        for oid, code, width in _POSTING_ARRAYS:
            head = struct.pack(">iiiIii", 20 + size * (4 + width), 1, 0, oid, size, 1)
            codes += "24s" + f"i{code}" * size
            values += [head, *[width, 0] * size]
        self._layouts[size] = struct.Struct(codes).pack, values
        return self._layouts[size]


def stream(rows: Iterable[bytes]) -> bytearray:
    """Rows as COPY takes them."""
    return bytearray(b"".join((_HEADER, *rows, _TRAILER)))


def array(values: Iterable[int]) -> str:
    """An array as PostgreSQL reads it from text: several times cheaper than a general encoder."""
    return "{" + ",".join(map(str, values)) + "}"
