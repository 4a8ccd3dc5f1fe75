"""`tally import`: an exported ledger into an installation where it is empty.

Everything happens in one transaction, after every byte has been checked: the files against the
manifest, each event against the rules of the journal, their tree against the signed checkpoint. What
arrives is the journal and the hashes of requests; everything else is derived from the journal.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import psycopg

from ledger_service.contract import audit_rows, events
from ledger_service.contract.events import LedgerOpened, decode_journal
from ledger_service.engine import checkpoints, rebuild
from ledger_service.engine.charts import known_charts
from ledger_service.engine.fold import Fold
from ledger_service.engine.leaving import (
    EVENTS,
    FORMAT,
    KEYS,
    MANIFEST,
    PROOFS,
    LeavingError,
    Manifest,
    events_of,
    measure,
)
from ledger_service.engine.merkle import EMPTY_ROOT, Tree, leaf_hash
from ledger_service.engine.projections import PROJECTIONS
from ledger_service.engine.store import PARTITION_ROWS

_HELD = 20_000
"""Events that are held at a time."""


def arrive(url: str, folder: Path, *, log_key: str = "") -> Manifest:
    """Import an export into the database at `url` (as its owner); gives its manifest.

    `log_key`: public key, in base64, that must have signed the checkpoint; where none is given, the
    export's own. Errors: `LeavingError` (`not_an_export`, `export_torn`, `export_unsound`,
    `wrong_root`, `unknown_chart`, `ledger_not_empty`): nothing has changed.
    """
    manifest = _read_manifest(folder)
    for name, measured in manifest.files.items():
        if not (folder / name).is_file() or measure(folder / name) != measured:
            raise LeavingError(
                "export_torn", f"{name} is not as it was exported; copy the export again."
            )
    with psycopg.connect(url) as connection:
        _claim(connection, manifest)
        tree, recorded_at = _store_events(connection, manifest.ledger, folder)
        _check_root(folder, manifest, tree, log_key)
        _store_keys(connection, manifest.ledger, folder)
        connection.execute(
            "update ledger.head set seq = %s, root = %s, recorded_at = %s, epoch = epoch + 1 "
            "where ledger = %s",
            (tree.size, tree.root(), recorded_at, manifest.ledger),
        )
        rebuild.derive(connection, manifest.ledger, tree.size, but="idempotency")
        found = rebuild.drift(connection, manifest.ledger, PROJECTIONS["idempotency"])
        if found.differing:
            raise LeavingError(
                "export_unsound",
                f"The idempotency keys are not those of the events: {found.places}",
            )
        _record(connection, manifest.ledger, tree.size)
    return manifest


def _record(connection: psycopg.Connection[Any], ledger: str, seq: int) -> None:
    """Tell the audit log: the approvals of what came were given, and stay, where it came from."""
    text = audit_rows.row(
        actor="owner", action="ledger.imported", subject=ledger, details={"seq": seq}
    )
    connection.execute("select security.append_audit(%s)", (text,))


def _read_manifest(folder: Path) -> Manifest:
    try:
        manifest = msgspec.json.decode((folder / MANIFEST).read_bytes(), type=Manifest)
    except (OSError, msgspec.DecodeError):
        raise LeavingError("not_an_export", f"{folder} has no readable {MANIFEST}.") from None
    if manifest.format != FORMAT or not {EVENTS, KEYS, *PROOFS} <= manifest.files.keys():
        raise LeavingError("not_an_export", f"{MANIFEST} is not one of {FORMAT}.")
    return manifest


def _claim(connection: psycopg.Connection[Any], manifest: Manifest) -> None:
    """Make the ledger's head, or take that of one that is empty; its writer waits meanwhile."""
    connection.execute(
        "insert into ledger.head values (%s, 0, 0, %s, null) on conflict do nothing",
        (manifest.ledger, EMPTY_ROOT),
    )
    head = connection.execute(
        "select seq from ledger.head where ledger = %s for update", (manifest.ledger,)
    ).fetchone()
    if head is None or head[0]:
        raise LeavingError(
            "ledger_not_empty", f"{manifest.ledger} has events here; import it elsewhere."
        )
    connection.execute(
        "delete from ledger.projection where ledger = %s and seq = 0", (manifest.ledger,)
    )
    connection.execute("select ledger.extend_partitions(%s)", (manifest.seq + PARTITION_ROWS,))


def _store_events(
    connection: psycopg.Connection[Any], ledger: str, folder: Path
) -> tuple[Tree, dt.datetime]:
    tree, fold = Tree(), Fold()
    contents = events_of(folder)
    while batch := list(islice(contents, _HELD)):
        leaf_hashes: list[bytes] = []
        with connection.cursor().copy(
            "copy ledger.journal (ledger, seq, event_type, recorded_at, bytes, leaf_hash) from stdin"
        ) as copy:
            for raw in batch:
                event = _checked(ledger, tree.size + len(leaf_hashes) + 1, raw, fold)
                leaf_hashes.append(leaf_hash(raw))
                recorded_at = dt.datetime.fromisoformat(event.recorded_at)
                kind = events.event_type(event)
                copy.write_row((ledger, event.seq, kind, recorded_at, raw, leaf_hashes[-1]))
        with connection.cursor().copy(
            "copy ledger.tile (ledger, level, tile_index, hashes, root) from stdin"
        ) as copy:
            for tile in tree.extend(leaf_hashes):
                copy.write_row((ledger, *msgspec.structs.astuple(tile)))
    if not tree.size:
        raise LeavingError("export_unsound", "The export holds no event.")
    return tree, dt.datetime.fromisoformat(fold.recorded_at)


def _checked(ledger: str, seq: int, raw: bytes, fold: Fold) -> events.JournalEvent:
    """The event in `raw`, if it may follow. Errors: `export_unsound`, `unknown_chart`."""
    try:
        event = decode_journal(raw)
        sound = (
            events.encode(event) == raw
            and (event.ledger, event.seq) == (ledger, seq)
            and event.recorded_at >= fold.recorded_at
            and isinstance(event, LedgerOpened) == (seq == 1)
            and fold.apply(event)
        )
    except (msgspec.DecodeError, KeyError, ValueError):
        sound, event = False, None
    if not sound or event is None:
        raise LeavingError("export_unsound", f"Line {seq} is not the event that must stand there.")
    if isinstance(event, LedgerOpened) and event.chart not in known_charts():
        raise LeavingError("unknown_chart", f"The chart {event.chart} is not known here.")
    fold.recorded_at = event.recorded_at
    return event


def _check_root(folder: Path, manifest: Manifest, tree: Tree, log_key: str) -> None:
    try:
        text = (folder / PROOFS[0]).read_text()
        note = checkpoints.parse(text)
        key = log_key or json.loads((folder / PROOFS[1]).read_text()).get("log", "")
        if key:
            checkpoints.verify(text, base64.b64decode(key))
    except (checkpoints.CheckpointError, OSError, ValueError) as error:
        raise LeavingError("wrong_root", f"The checkpoint does not hold: {error}") from None
    if (note.size, note.root) != (tree.size, tree.root()) or (
        manifest.seq,
        manifest.root,
    ) != (tree.size, tree.root().hex()):
        raise LeavingError(
            "wrong_root",
            f"{tree.size} events with root {tree.root().hex()} are not what the checkpoint states.",
        )


def _store_keys(connection: psycopg.Connection[Any], ledger: str, folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def rows() -> Iterator[tuple[Any, ...]]:
        for batch in pq.ParquetFile(folder / KEYS).iter_batches(_HELD):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    try:
        with connection.cursor().copy(
            "copy ledger.idempotency (ledger, seq, digest, request_hash) from stdin"
        ) as copy:
            for row in rows():
                copy.write_row((ledger, *row))
    except (pa.ArrowInvalid, psycopg.errors.UniqueViolation, psycopg.DataError) as error:
        raise LeavingError("export_unsound", f"{KEYS} can't be read: {error}") from None
