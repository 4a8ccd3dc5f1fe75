"""The rows of a CSV or Parquet file as text, in order, in bounded memory.

A Parquet DOUBLE becomes the shortest decimal that stands for it (what the writer of the file saw);
no arithmetic is done on it. CSV text is taken as it is written.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ledger_service.loading.errors import LoadError

_BATCH_ROWS = 20_000
_PARQUET_MAGIC = b"PAR1"

Row = tuple[int, list[str] | None]
"""Row number from 1, and the values of the columns asked for; None: the row is malformed."""


class Source:
    """One file. Errors of all methods: `no_such_file`, `not_csv_or_parquet`, `missing_columns`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                start = file.read(4096)
                file.seek(0)
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise LoadError(
                "no_such_file", f"{path} can't be read ({error.strerror}); check the path."
            ) from None
        self._is_parquet = start.startswith(_PARQUET_MAGIC)
        if not self._is_parquet and (not start.strip() or b"\0" in start):
            raise self._unreadable()
        self.columns = self._columns()

    def _unreadable(self) -> LoadError:
        return LoadError(
            "not_csv_or_parquet",
            f"{self.path} is neither CSV in UTF-8 with a header nor Parquet; convert it first.",
        )

    def _columns(self) -> list[str]:
        if self._is_parquet:
            try:
                return list(pq.ParquetFile(self.path).schema_arrow.names)
            except (pa.ArrowException, OSError):
                raise self._unreadable() from None
        return next(self._csv())

    def _csv(self) -> Iterator[list[str]]:
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                yield from csv.reader(file, strict=True)
        except (csv.Error, UnicodeDecodeError):
            raise self._unreadable() from None

    def rows(self, wanted: Sequence[str]) -> Iterator[Row]:
        """Every row with the values of `wanted`, an empty text for none."""
        missing = [name for name in wanted if name not in self.columns]
        if missing:
            raise LoadError(
                "missing_columns",
                f"{self.path.name} has no column {', '.join(missing)}; it has "
                f"{', '.join(self.columns)}. Choose the mapping that fits, or correct it.",
            )
        return self._parquet_rows(wanted) if self._is_parquet else self._csv_rows(wanted)

    def _csv_rows(self, wanted: Sequence[str]) -> Iterator[Row]:
        places = [self.columns.index(name) for name in wanted]
        lines = self._csv()
        next(lines)
        number = 0
        for line in lines:
            if not line:
                continue
            number += 1
            if len(line) == len(self.columns):
                yield number, [line[place].strip() for place in places]
            else:
                yield number, None

    def _parquet_rows(self, wanted: Sequence[str]) -> Iterator[Row]:
        names = list(dict.fromkeys(wanted))
        number = 0
        try:
            for batch in pq.ParquetFile(self.path).iter_batches(_BATCH_ROWS, columns=names):
                columns = [_texts(batch.column(name)) for name in wanted]
                for values in zip(*columns, strict=True):
                    number += 1
                    yield number, list(values)
        except (pa.ArrowException, OSError):
            raise self._unreadable() from None


def _texts(column: Any) -> list[str]:
    """The values of a column as text."""
    values = column.to_pylist()
    if pa.types.is_floating(column.type):
        return ["" if value is None else repr(value) for value in values]
    return ["" if value is None else str(value).strip() for value in values]
