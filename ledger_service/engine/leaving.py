"""`tally export`: a whole ledger as files, to leave with.

The folder is an auditor's pack (events, checkpoint with cosignatures, public keys), so that the
offline verifier reads it, and more beside it:

    idempotency.parquet    seq, digest and request hash of every key: a repeated request still finds its
                           transaction where the ledger goes
    accounts.parquet, transactions.parquet, entries.parquet    the events as tables, for any other tool
    manifest.json          size, root, and size and SHA-256 of every file; written last
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ledger_service.contract.events import AccountOpened, TransactionPosted, decode_journal
from ledger_service.engine import checkpoints
from ledger_service.engine.pack import write_pack

FORMAT = "tallystick-export/1"
MANIFEST, EVENTS, KEYS = "manifest.json", "events.ndjson", "idempotency.parquet"
PROOFS = ("checkpoint.txt", "keys.json")
_ROWS = 50_000
"""Rows that are held at a time."""


class LeavingError(ValueError):
    """A ledger that can't be exported or imported; `code` is stable, the message says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Manifest(msgspec.Struct, frozen=True):
    """What an export says of itself."""

    format: str
    ledger: str
    seq: int
    """The last event in it."""
    head_seq: int
    """The last event of the ledger when it was written: later ones are not in it."""
    root: str
    """Of the Merkle tree of its events, in hex."""
    exported_at: str
    files: dict[str, tuple[int, str]]
    """Bytes and SHA-256 (hex) by name."""


def export(url: str, ledger: str, folder: Path, *, log_key: str, witness_key: str) -> Manifest:
    """Write a ledger, up to its checkpoint, into a new folder; keys are public, in base64.

    Errors: `LeavingError` (`folder_not_empty`), `PackError`. Then there is no such folder.
    """
    if folder.exists() and any(folder.iterdir()):
        raise LeavingError("folder_not_empty", f"{folder} holds something; name a new folder.")
    draft = folder.with_name(folder.name + ".part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        size = write_pack(url, ledger, draft, log_key=log_key, witness_key=witness_key)
        with psycopg.connect(url) as connection:
            head = connection.execute(
                "select seq from ledger.head where ledger = %s", (ledger,)
            ).fetchone()
            _write_keys(connection, ledger, size, draft / KEYS)
        _write_tables(draft)
        note = checkpoints.parse((draft / PROOFS[0]).read_text())
        manifest = Manifest(
            FORMAT,
            ledger,
            size,
            head[0] if head else size,
            note.root.hex(),
            dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            {file.name: measure(file) for file in sorted(draft.iterdir())},
        )
        (draft / MANIFEST).write_text(json.dumps(msgspec.to_builtins(manifest), indent=1) + "\n")
        for file in draft.iterdir():
            _make_durable(file)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
        _make_durable(folder.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return manifest


def measure(file: Path) -> tuple[int, str]:
    """Bytes and SHA-256 of a file."""
    with file.open("rb") as content:
        return file.stat().st_size, hashlib.file_digest(content, "sha256").hexdigest()


def _make_durable(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


# --- Parquet ------------------------------------------------------------------------------------

_COLUMNS = {
    "accounts": "seq:int64 account:string currency:string account_class:string "
    "normal_side:string custodial:bool gl_code:string owner:string floor:string ceiling:string "
    "recorded_at:string",
    "transactions": "seq:int64 recorded_at:string effective_at:string effective_date:string "
    "business_date:string kind:string actor:string channel:string counterparty:string "
    "counterparty_country:string rail_reference:string reverses:int64 imposed:bool batch:string",
    "entries": "seq:int64 entry_no:int32 account:string side:string amount:int64 currency:string",
    "idempotency": "seq:int64 digest:binary request_hash:binary",
}
"""Columns and types of each table. Amounts are minor units; times are text as in the events."""


class _Tables:
    """Parquet files that grow row by row."""

    def __init__(self, folder: Path, names: Iterable[str]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._pa = pa
        self._rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in names}
        self._schemas = {
            name: pa.schema(
                [
                    (column, pa.type_for_alias(kind))
                    for column, kind in (item.split(":") for item in _COLUMNS[name].split())
                ]
            )
            for name in self._rows
        }
        self._writers = {
            name: pq.ParquetWriter(folder / f"{name}.parquet", schema, compression="zstd")
            for name, schema in self._schemas.items()
        }

    def add(self, name: str, row: tuple[Any, ...]) -> None:
        """A row, in the order of the columns."""
        self._rows[name].append(row)
        if len(self._rows[name]) >= _ROWS:
            self._write(name)

    def _write(self, name: str) -> None:
        schema, rows = self._schemas[name], self._rows[name]
        columns = list(zip(*rows, strict=True)) or [()] * len(schema)
        arrays = [
            self._pa.array(column, field.type)
            for column, field in zip(columns, schema, strict=True)
        ]
        self._writers[name].write_table(self._pa.table(arrays, schema=schema))
        rows.clear()

    def close(self) -> None:
        """Write what is left."""
        for name, writer in self._writers.items():
            self._write(name)
            writer.close()


def _write_keys(connection: Any, ledger: str, size: int, file: Path) -> None:
    tables = _Tables(file.parent, [file.stem])
    with connection.cursor("export") as cursor:
        cursor.itersize = _ROWS
        cursor.execute(
            "select seq, digest, request_hash from ledger.idempotency "
            "where ledger = %s and seq <= %s order by seq",
            (ledger, size),
        )
        for row in cursor:
            tables.add(file.stem, row)
    tables.close()


def _write_tables(folder: Path) -> None:
    tables = _Tables(folder, ("accounts", "transactions", "entries"))
    for raw in events_of(folder):
        event = decode_journal(raw)
        if isinstance(event, TransactionPosted):
            facts = {**msgspec.to_builtins(event.context), **msgspec.structs.asdict(event)}
            facts.setdefault("channel", event.context.channel)
            tables.add("transactions", _row("transactions", facts))
            for number, entry in enumerate(event.entries):
                tables.add(
                    "entries",
                    (
                        event.seq,
                        number,
                        entry.account,
                        entry.side,
                        int(entry.amount),
                        entry.currency,
                    ),
                )
        elif isinstance(event, AccountOpened):
            tables.add("accounts", _row("accounts", msgspec.structs.asdict(event)))
    tables.close()


def _row(name: str, facts: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(facts.get(item.partition(":")[0]) for item in _COLUMNS[name].split())


def events_of(folder: Path) -> Iterator[bytes]:
    """The canonical bytes of an export's events, in order."""
    with (folder / EVENTS).open("rb") as lines:
        for line in lines:
            yield line.removesuffix(b"\n")
