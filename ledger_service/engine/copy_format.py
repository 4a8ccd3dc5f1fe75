"""PostgreSQL's binary COPY format: rows of what follows every transaction, as bytes.

A general encoder looks at every value's type, which takes several times as long for the arrays of
these rows. Source: PostgreSQL documentation, COPY, "Binary Format", and the `send` functions of the
types. A row is its number of columns (two bytes), then the columns one after the other; each is its
length (four bytes) and its bytes. Arrays that are parameters of a statement go as text.
"""

from __future__ import annotations

import datetime as dt
import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ledger_service.contract.context import Context
from ledger_service.domain.account import Account

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
_EPOCH = dt.date(2000, 1, 1)
_EPOCH_MOMENT = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)
_NULL = b"\xff\xff\xff\xff"
_POSTING_ARRAYS = ((20, "q", 8), (21, "h", 2), (20, "q", 8), (1082, "i", 4))
"""Type, code of `struct` and width of seqs, entry_nos, amounts and effective_dates."""

Posting = tuple[int, int, int, str]
"""An entry of an account: `seq`, number in the transaction, signed amount, effective date."""

DaySum = tuple[int, str, int, int]
"""An account's number, effective date, debits, credits."""

_length = struct.Struct(">i").pack
_moment = struct.Struct(">qiq").pack
columns: Callable[[int], bytes] = struct.Struct(">h").pack
"""How many columns follow: the beginning of a row."""


def text(value: str) -> bytes:
    """A text column."""
    encoded = value.encode()
    return _length(len(encoded)) + encoded


@functools.lru_cache(maxsize=4096)
def day_number(day: str) -> int:
    """A day, YYYY-MM-DD, as PostgreSQL counts it: days since 2000."""
    return dt.date.fromisoformat(day).toordinal() - _EPOCH.toordinal()


@functools.lru_cache(maxsize=4096)
def day_text(number: int) -> str:
    """The day that PostgreSQL counts so."""
    return dt.date.fromordinal(number + _EPOCH.toordinal()).isoformat()


@functools.lru_cache(maxsize=4096)
def microseconds(moment: str) -> int:
    """A moment, in RFC 3339, as PostgreSQL counts it: microseconds since 2000."""
    return (dt.datetime.fromisoformat(moment) - _EPOCH_MOMENT) // dt.timedelta(microseconds=1)


class TransactionRow:
    """Makes rows of `ledger.transaction` of one ledger."""

    def __init__(self, ledger: str) -> None:
        self._head = columns(7) + text(ledger) + _length(8)

    def encode(self, seq: int, effective_at: int, kind: str, context: Context) -> bytes:
        """One row; `effective_at` as PostgreSQL counts it."""
        return b"".join(
            (
                self._head,
                _moment(seq, 8, effective_at),
                text(kind),
                text(context.channel),
                _NULL if context.counterparty is None else text(context.counterparty),
                _NULL if context.rail_reference is None else text(context.rail_reference),
            )
        )


class PostingRow:
    """Makes rows of `ledger.posting_list` of one ledger, whose arrays are all of one length.

    A row is packed at once: for each length there is a layout, and a list of values of which only
    the row's own are put in.
    """

    def __init__(self, ledger: str) -> None:
        self._head = columns(7) + text(ledger)
        self._layouts: dict[int, tuple[Callable[..., bytes], list[Any]]] = {}

    def encode(self, number: int, postings: Sequence[Posting]) -> bytes:
        """One row: an account's number, and its entries."""
        size = len(postings)
        seqs, entry_nos, amounts, days = zip(*postings, strict=True)
        pack, values = self._layouts.get(size) or self._layout(size)
        step = 2 * size
        values[2], values[4] = number, seqs[-1]
        start = 7
        for array in (seqs, entry_nos, amounts, map(day_number, days)):
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


def follow(
    row: PostingRow,
    accounts: Iterable[tuple[int, Sequence[Posting]]],
    rows: list[bytes],
    sums: list[DaySum],
) -> None:
    """Add the rows of accounts' posting lists to `rows`, and their day sums to `sums`."""
    for number, postings in accounts:
        rows.append(row.encode(number, postings))
        sums += day_sums(number, postings)


def day_sums(number: int, postings: Iterable[Posting]) -> list[DaySum]:
    """What an account's entries come to on each day, in the order in which days come first."""
    by_day: dict[str, tuple[int, int]] = {}
    for _, _, amount, day in postings:
        debits, credits_ = by_day.get(day, (0, 0))
        by_day[day] = (debits + amount, credits_) if amount > 0 else (debits, credits_ - amount)
    return [(number, day, *moved) for day, moved in by_day.items()]


def stream(rows: Iterable[bytes]) -> bytearray:
    """Rows as COPY takes them."""
    return bytearray().join((_HEADER, *rows, _TRAILER))


def array(values: Iterable[int]) -> str:
    """An array as PostgreSQL reads it from text: several times cheaper than a general encoder."""
    return "{" + ",".join(map(str, values)) + "}"


def balance_arrays(accounts: Sequence[Account], expected: Iterable[int]) -> list[str]:
    """Of accounts moved: numbers, expected and new versions, debits, credits, pending of each side."""
    return [
        array([account.number for account in accounts]),
        array(expected),
        array([account.version for account in accounts]),
        array([account.debits for account in accounts]),
        array([account.credits for account in accounts]),
        array([account.pending_debits for account in accounts]),
        array([account.pending_credits for account in accounts]),
    ]
