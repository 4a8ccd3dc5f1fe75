"""BAI2 from bytes to records: where a record ends, what continues it, and its fields one by one.

Source: BAI Cash Management Balance Reporting Specifications, Version 2. A record is a two-digit
code and fields between commas, ended by a slash; text runs to the end of its line, may hold commas
and slashes, and is continued by 88 records. Banks also send files with all records on one line,
padded with blanks to a fixed length, with CR or LF or both, and without a slash after text.
"""

from __future__ import annotations

import dataclasses
import re

from ledger_service.rails.statements.model import StatementError

_CODES = frozenset({"01", "02", "03", "16", "49", "88", "98", "99"})
_WITH_TEXT = frozenset({"16", "88"})
_NEXT_RECORD = re.compile(r"/\s*(?=(?:01|02|03|16|49|88|98|99),)")


@dataclasses.dataclass(slots=True)
class Record:
    """A record with its continuations. `parts`: its lines without code and final slash."""

    code: str
    line: int
    parts: list[str]

    @property
    def physical(self) -> int:
        """How many records the control counts see: itself and its 88s."""
        return len(self.parts)


class Fields:
    """The fields of a record, taken from left to right over its continuations."""

    def __init__(self, record: Record) -> None:
        self._line = record.line
        self._parts = list(record.parts)

    def take(self) -> str:
        """The next field, without blanks around it; empty past the end."""
        if not self._parts:
            return ""
        field, comma, rest = self._parts[0].partition(",")
        if comma:
            self._parts[0] = rest
        else:
            self._parts.pop(0)
        return field.strip()

    def more(self) -> bool:
        """Whether any field is left."""
        return bool(self._parts)

    def rest(self) -> str:
        """All that is left, as text: one line for each continuation."""
        text = "\n".join(part.rstrip() for part in self._parts)
        self._parts = []
        return text.strip("\n")


def _physical(text: str) -> list[tuple[int, str]]:
    """The physical records with their line numbers."""
    lines = [
        (number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()
    ]
    if len(lines) == 1:
        return [(1, part) for part in _NEXT_RECORD.sub("/\n", lines[0][1]).splitlines()]
    found: list[tuple[int, str]] = []
    for number, line in lines:
        rest = line
        # Only the records with text may hold a slash before their end.
        while rest and rest[:2] not in _WITH_TEXT and "/" in rest:
            record, _, rest = rest.partition("/")
            found.append((number, record + "/"))
            rest = rest.strip()
        if rest:
            found.append((number, rest))
    return found


def records(raw: bytes) -> list[Record]:
    """The records of a file, continuations joined. Errors: StatementError."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        # The specification knows ASCII only; what banks send beyond it is Western European.
        text = raw.decode("cp1252", errors="replace")
    joined: list[Record] = []
    for number, line in _physical(text):
        code, comma, content = line.partition(",")
        if code not in _CODES or not comma:
            raise StatementError(
                "unknown_record",
                "this is no BAI2 record (01, 02, 03, 16, 49, 88, 98 or 99 and a comma); is the "
                "file complete and BAI2?",
                number,
            )
        content = content.removesuffix("/")
        if code != "88":
            joined.append(Record(code, number, [content]))
        elif joined:
            joined[-1].parts.append(content)
        else:
            raise StatementError(
                "misplaced_record", "a continuation (88) continues nothing.", number
            )
    if not joined:
        raise StatementError(
            "empty_file", "The file holds no record; ask the bank to send it again."
        )
    return joined
