"""Canaries: an SSN and an account number that may stand nowhere outside the vault, and the search
for them in whatever a test has made (P10).

Send `CANARIES` through a door, then search: `in_database`, `in_directory` (topics' segments,
landing, warehouse parts, logs, reports), `in_bytes`. Each gives the places where one was found.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import asyncpg

SSN = "078-05-1120"
ACCOUNT_NUMBER = "904417723651"
CANARIES = (SSN, SSN.replace("-", ""), ACCOUNT_NUMBER)
_PATTERN = re.compile("|".join(map(re.escape, CANARIES)))
_BYTES = re.compile("|".join(map(re.escape, CANARIES)).encode())


def in_bytes(content: bytes) -> bool:
    """Whether a canary stands in `content`, as UTF-8 or UTF-16."""
    return bool(_BYTES.search(content) or _BYTES.search(content.replace(b"\0", b"")))


def in_value(value: Any) -> bool:
    """Whether a canary stands in a value of a row, at any depth."""
    if isinstance(value, bytes | bytearray | memoryview):
        return in_bytes(bytes(value))
    if isinstance(value, Mapping):
        return any(in_value(key) or in_value(inner) for key, inner in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(in_value(inner) for inner in value)
    return bool(_PATTERN.search(str(value)))


async def in_database(owner: asyncpg.Connection) -> list[str]:
    """Columns that hold a canary, of every table of every schema: the vault's too, where all that
    is personal must be sealed."""
    tables = await owner.fetch(
        """select table_schema, table_name from information_schema.tables
            where table_type = 'BASE TABLE'
              and table_schema not in ('pg_catalog', 'information_schema')"""
    )
    found = set()
    for schema, table in tables:
        async with owner.transaction():
            async for row in owner.cursor(f'select * from "{schema}"."{table}"'):
                found |= {
                    f"{schema}.{table}.{column}" for column, value in row.items() if in_value(value)
                }
    return sorted(found)


def in_directory(folder: Path) -> list[str]:
    """Files under `folder` with a canary in name or content; Parquet is read, gzip opened."""
    return sorted(
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file()
        and (in_bytes(path.name.encode()) or any(in_bytes(part) for part in _contents(path)))
    )


def _contents(path: Path) -> Iterator[bytes]:
    if path.suffix == ".parquet":
        import pyarrow.parquet

        for row in pyarrow.parquet.read_table(path).to_pylist():
            yield repr(row).encode()
        return
    raw = path.read_bytes()
    yield raw
    if raw[:2] == b"\x1f\x8b":
        yield gzip.decompress(raw)
