"""A mart as a file that a spreadsheet opens: the numbers exact, no text taken for a formula."""

from __future__ import annotations

import datetime as dt
import decimal
import secrets
from pathlib import Path
from typing import Any

import xlsxwriter
from xlsxwriter.worksheet import Worksheet

from pipelines.publication.reading import Reader
from pipelines.publication.tables import Table, as_text, write_csv

SHEET_ROWS = 1_048_576
"""Rows of an Excel sheet, the header among them."""
EXACT = 2**53
"""Up to here a spreadsheet, which computes in doubles, keeps a whole number as it is."""


class SheetTooLongError(ValueError):
    """A mart has more rows than a sheet of Excel."""

    code = "sheet_too_long"


class CellTooLongError(ValueError):
    """A text is longer than a cell of Excel."""

    code = "cell_too_long"


def export_csv(reader: Reader, mart: str, path: Path) -> int:
    """Write a mart as CSV, RFC 4180 in UTF-8; gives the number of rows.

    Errors: `UnknownMartError`, `QueryError`; then the file stays as it was.
    """
    table, draft = reader.mart(mart), _draft(path)
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            count = write_csv(table, file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def export_xlsx(reader: Reader, mart: str, path: Path) -> int:
    """Write a mart as one sheet of Excel; gives the number of rows.

    Whole numbers beyond EXACT and moments, which a spreadsheet would round, are texts. Errors:
    `SheetTooLongError`, `CellTooLongError`, `UnknownMartError`, `QueryError`; then the file stays as
    it was.
    """
    table = reader.mart(mart)
    rows = sum(part.rows for part in reader.manifest.marts[mart])
    if rows >= SHEET_ROWS:
        raise SheetTooLongError(
            f"{mart} has {rows:,} rows and a sheet takes {SHEET_ROWS - 1:,} beside its header: "
            "export it as --csv, or ask for a part of it with `tally sql`."
        )
    draft = _draft(path)
    options = {"constant_memory": True, "strings_to_formulas": False, "strings_to_urls": False}
    try:
        with xlsxwriter.Workbook(str(draft), options) as book:
            sheet = book.add_worksheet(mart[:31])  # a sheet's name has at most 31 characters
            forms = {"whole": book.add_format({"num_format": "0"}),
                     "day": book.add_format({"num_format": "yyyy-mm-dd"}),
                     "head": book.add_format({"bold": True})}  # fmt: skip
            count = _fill(sheet, table, forms)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _fill(sheet: Worksheet, table: Table, forms: dict[str, Any]) -> int:
    sheet.freeze_panes(1, 0)
    for column, (name, _) in enumerate(table.columns):
        sheet.write_string(0, column, name, forms["head"])
    count = 0
    for count, row in enumerate(table.rows, 1):
        for column, value in enumerate(row):
            _put(sheet, count, column, value, forms)
    return count


def _put(sheet: Worksheet, row: int, column: int, value: Any, forms: dict[str, Any]) -> None:
    if isinstance(value, decimal.Decimal) and value == value.to_integral_value():
        value = int(value)
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, column, value)
    elif isinstance(value, int) and abs(value) <= EXACT:
        sheet.write_number(row, column, value, forms["whole"])
    elif isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        sheet.write_datetime(row, column, dt.datetime.combine(value, dt.time()), forms["day"])
    elif sheet.write_string(row, column, as_text(value)):
        raise CellTooLongError(
            f"Row {row}, column {column + 1}: a text is too long for a cell; export it as --csv."
        )


def _draft(path: Path) -> Path:
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}")
