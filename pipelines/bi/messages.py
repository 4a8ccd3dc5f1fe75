"""Messages of PostgreSQL's frontend/backend protocol, version 3 (its manual, "Message Formats").

Values travel as text, whole numbers in full. Integers are big-endian.
"""

from __future__ import annotations

import datetime as dt
import decimal
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pipelines.publication.tables import as_text

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102
VERSION_3 = 3
_OIDS = {
    "BOOLEAN": 16, "BIGINT": 20, "SMALLINT": 21, "INTEGER": 23, "VARCHAR": 25, "FLOAT": 700,
    "DOUBLE": 701, "DATE": 1082, "TIMESTAMP": 1114, "TIMESTAMP WITH TIME ZONE": 1184,
    "DECIMAL": 1700, "HUGEINT": 1700, "UBIGINT": 1700, "UHUGEINT": 1700,
}  # fmt: skip
"""PostgreSQL's types (pg_type.dat) of DuckDB's; of what is not here, text."""
TEXT_OID = 25
_BOOLEAN_OID = 16
_TEXT: dict[int, Callable[[str], Any]] = {20: int, 21: int, 23: int, 1700: decimal.Decimal}
"""Parameters that come as text and are numbers; DuckDB turns a text into all others itself."""


class UnsupportedError(ValueError):
    """A client asks for what is not spoken here; the message says what to set."""


def message(kind: bytes, content: bytes = b"") -> bytes:
    """One message to the client."""
    return kind + struct.pack(">i", len(content) + 4) + content


def text(*values: str) -> bytes:
    """Texts, each ended by a zero byte."""
    return b"".join(value.replace("\0", "").encode() + b"\0" for value in values)


def authentication(code: int, content: bytes = b"") -> bytes:
    """A step of signing in: 10 names the mechanism, 11 and 12 carry SCRAM, 0 is success."""
    return message(b"R", struct.pack(">i", code) + content)


def error(sqlstate: str, words: str, severity: str = "ERROR") -> bytes:
    """An error, of which the client's user sees the words."""
    fields = (b"S", severity), (b"V", severity), (b"C", sqlstate), (b"M", words)
    return message(b"E", b"".join(code + text(value) for code, value in fields) + b"\0")


def row_description(columns: Sequence[tuple[str, str]]) -> bytes:
    """Names and types of the columns."""
    fields = [
        text(name) + struct.pack(">ihihih", 0, 0, _oid(kind), -1, -1, 0) for name, kind in columns
    ]
    return message(b"T", struct.pack(">h", len(fields)) + b"".join(fields))


def _oid(kind: str) -> int:
    return _OIDS.get(kind.partition("(")[0], TEXT_OID) if not kind.endswith("]") else TEXT_OID


def data_row(row: Iterable[Any]) -> bytes:
    """One row, values as text."""
    values = [_value(one) for one in row]
    return message(b"D", struct.pack(">h", len(values)) + b"".join(values))


def _value(value: Any) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    if isinstance(value, bool):
        content = b"t" if value else b"f"
    else:
        # PostgreSQL writes moments with a space, and without Z where they have no zone
        shown = as_text(value)
        content = (shown[:10] + " " + shown[11:-1] if shown.endswith("Z") and _is_moment(value)
                   else shown).encode()  # fmt: skip
    return struct.pack(">i", len(content)) + content


def _is_moment(value: Any) -> bool:
    return hasattr(value, "tzinfo")


class Content:
    """What a client's message holds, read from front to back. Errors of all: `UnsupportedError`."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def number(self, form: str = ">h") -> int:
        """An integer: 16 bits, or as `form` says."""
        return struct.unpack(form, self.some(struct.calcsize(form)))[0]

    def text(self) -> str:
        """Up to a zero byte."""
        end = self._content.find(b"\0", self._at)
        if end < 0:
            raise UnsupportedError("a message ends too early")
        found = self._content[self._at : end].decode("utf-8", "replace")
        self._at = end + 1
        return found

    def some(self, count: int) -> bytes:
        """So many bytes."""
        found = self._content[self._at : self._at + count]
        if count < 0 or len(found) != count:
            raise UnsupportedError("a message ends too early")
        self._at += count
        return found

    def rest(self) -> bytes:
        """All that is left."""
        return self.some(len(self._content) - self._at)

    def numbers(self, form: str = ">h") -> list[int]:
        """A list of integers, its length before it."""
        return [self.number(form) for _ in range(self.number())]


def bound(content: Content, oids: Sequence[int]) -> tuple[dict[str, Any], list[int]]:
    """Of a Bind message: the parameters by number, and the formats asked for of the columns."""
    formats = content.numbers()
    values: dict[str, Any] = {}
    for place in range(content.number()):
        length = content.number(">i")
        raw = None if length == -1 else content.some(length)
        form = formats[place] if len(formats) > 1 else (formats or [0])[0]
        oid = oids[place] if place < len(oids) else 0
        values[str(place + 1)] = _parameter(raw, form, oid)
    return values, content.numbers()


def _parameter(raw: bytes | None, form: int, oid: int) -> Any:
    if raw is None:
        return None
    if form:
        try:
            return _BINARY[oid](raw)
        except (KeyError, struct.error):
            words = f"a parameter of type {oid} is taken as text only"
            raise UnsupportedError(words) from None
    shown = raw.decode("utf-8", "replace")
    if oid == _BOOLEAN_OID:
        return shown in ("t", "true", "1", "on", "yes")
    try:
        return _TEXT.get(oid, str)(shown)
    except (ValueError, decimal.InvalidOperation):
        raise UnsupportedError(f"{shown[:40]!r} is no value of type {oid}") from None


def _moment(raw: bytes) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=struct.unpack(">q", raw)[0])


def _numeric(raw: bytes) -> decimal.Decimal:
    """Digits to the base of 10,000, the first of which stands for 10,000 to the power of `weight`."""
    count, weight, sign, _ = struct.unpack(">hhHh", raw[:8])
    digits = struct.unpack(f">{count}h", raw[8:])
    whole = sum(digit * 10_000 ** (count - 1 - place) for place, digit in enumerate(digits))
    # a context of its own: amounts have more digits than the usual 28
    exact = decimal.Context(prec=200)
    return exact.multiply(
        decimal.Decimal(-whole if sign else whole),
        exact.power(decimal.Decimal(10_000), weight - count + 1),
    )


_EPOCH = dt.datetime(2000, 1, 1)  # noqa: DTZ001 - as the marts' moments: UTC, without saying so
_BINARY: dict[int, Callable[[bytes], Any]] = {
    0: bytes.decode,
    _BOOLEAN_OID: lambda raw: raw != b"\0",
    20: lambda raw: struct.unpack(">q", raw)[0],
    21: lambda raw: struct.unpack(">h", raw)[0],
    23: lambda raw: struct.unpack(">i", raw)[0],
    TEXT_OID: bytes.decode,
    701: lambda raw: struct.unpack(">d", raw)[0],
    1043: bytes.decode,
    1082: lambda raw: (_EPOCH + dt.timedelta(days=struct.unpack(">i", raw)[0])).date(),
    1114: _moment,
    1184: _moment,
    1700: _numeric,
}
"""Parameters that clients send as they hold them, by PostgreSQL's type."""
