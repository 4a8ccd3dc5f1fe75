"""Rows on their way to people and programs: exact, as text, CSV or JSON, a batch at a time.

Whole numbers stay whole. In JSON those of 64 bits and more are strings, for most readers of JSON take
numbers for floats. In CSV a text that a spreadsheet would take for a formula gets an apostrophe.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import decimal
import itertools
import json
from collections.abc import Iterator
from typing import Any, Literal, TextIO

Format = Literal["table", "csv", "json"]
BATCH = 1000
"""Rows that are held in memory at a time."""
_WIDE = ("BIGINT", "UBIGINT", "HUGEINT", "UHUGEINT", "DECIMAL")
_NUMERIC = (*_WIDE, "INTEGER", "SMALLINT", "TINYINT", "UINTEGER", "DOUBLE", "FLOAT")


@dataclasses.dataclass(frozen=True)
class Table:
    """Columns with DuckDB's types, and rows that can be read once."""

    columns: list[tuple[str, str]]
    rows: Iterator[tuple[Any, ...]]


def as_text(value: Any) -> str:
    """A value in full; moments are UTC, and nothing is the empty text."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case decimal.Decimal():
            return format(value, "f")
        case dt.datetime():
            if value.tzinfo:
                value = value.astimezone(dt.UTC).replace(tzinfo=None)
            return value.isoformat(timespec="microseconds") + "Z"
        case list() | dict():
            return json.dumps(value, default=as_text, ensure_ascii=False)
        case _:
            return str(value)


def no_formula(text: str) -> str:
    """A spreadsheet must not take somebody's text for a formula."""
    return f"'{text}" if text and text[0] in "=+-@\t\r" else text


def write(table: Table, form: Format, file: TextIO) -> int:
    """Write all rows; gives their number."""
    return {"table": _write_columns, "csv": write_csv, "json": _write_json}[form](table, file)


def write_csv(table: Table, file: TextIO) -> int:
    """RFC 4180 with a header; gives the number of rows."""
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(no_formula(name) for name, _ in table.columns)
    count = 0
    for count, row in enumerate(table.rows, 1):  # noqa: B007
        writer.writerow(
            no_formula(value) if isinstance(value, str) else as_text(value) for value in row
        )
    return count


def _write_json(table: Table, file: TextIO) -> int:
    names = [name for name, _ in table.columns]
    wide = [kind.startswith(_WIDE) for _, kind in table.columns]
    count = 0
    for count, row in enumerate(table.rows, 1):
        one = {
            name: value if value is None or (_is_plain(value) and not big) else as_text(value)
            for name, big, value in zip(names, wide, row, strict=True)
        }
        file.write("[\n" if count == 1 else ",\n")
        file.write(json.dumps(one, ensure_ascii=False))
    file.write("\n]\n" if count else "[]\n")
    return count


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | str)


def _write_columns(table: Table, file: TextIO) -> int:
    """Columns side by side, as wide as the first rows need; nothing is cut off."""
    names = [name for name, _ in table.columns]
    right = [kind.startswith(_NUMERIC) for _, kind in table.columns]
    first = [_cells(row) for row in itertools.islice(table.rows, BATCH)]
    widths = [max(map(len, column)) for column in zip(names, *first, strict=True)]

    def line(cells: list[str]) -> str:
        padded = (
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cells, widths, right, strict=True)
        )
        return "  ".join(padded).rstrip() + "\n"

    file.write(line(names) + line(["-" * width for width in widths]))
    count = 0
    for count, cells in enumerate(itertools.chain(first, map(_cells, table.rows)), 1):  # noqa: B007
        file.write(line(cells))
    file.write(f"({count:,} row{'' if count == 1 else 's'})\n")
    return count


def _cells(row: tuple[Any, ...]) -> list[str]:
    """Texts for a terminal: what would steer it is written out."""
    return [
        "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in as_text(v))
        for v in row
    ]
