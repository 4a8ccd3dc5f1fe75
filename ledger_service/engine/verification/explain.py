"""`tally verify --explain`: what a finding means and what to do; what is known of one event."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import psycopg
from psycopg.rows import dict_row

from ledger_service.contract.events import TransactionPosted, decode_journal
from ledger_service.engine.merkle import TILE_WIDTH, leaf_hash
from ledger_service.engine.verification.report import Connection, Row

_REWRITTEN = (
    "History was changed after it was written, or a disk lost it. Keep the machine as it is, compare "
    "the event with Kafka's record of the same seq and with the last backup (its leaf hash tells "
    "which is the original), put the original back, then verify in full."
)
_DERIVED = (
    "The table does not follow from the journal. The journal is the truth if the tree holds: run "
    "tally verify --full, then tally rebuild makes the rows anew (the verifier does so by itself for "
    "what only readers use)."
)
_BESIDE = (
    "Two tables contradict each other. Compare the row with the audit log and the last backup."
)

EXPLANATIONS: dict[str, str] = {
    # journal and tree
    "gap": "Events are missing in the middle. " + _REWRITTEN,
    "bytes_changed": "The event's bytes do not give the hash that stands beside them. "
    + _REWRITTEN,
    "verified_history_changed": "What was found sound before reads otherwise now. " + _REWRITTEN,
    "not_an_event": "The bytes are no event of this version. " + _REWRITTEN,
    "not_canonical": "The bytes are not those that the engine writes. " + _REWRITTEN,
    "wrong_ledger": "The event names another ledger than its row. " + _REWRITTEN,
    "wrong_seq": "The seq that is stated is not that of the events. " + _REWRITTEN,
    "wrong_type": "The row's type is not the event's. " + _REWRITTEN,
    "wrong_time": "The row's time is not the event's. " + _REWRITTEN,
    "time_goes_back": "An event was recorded before the one before it. " + _REWRITTEN,
    "unbalanced": "Debits and credits of a transaction differ. " + _REWRITTEN,
    "not_applicable": "The event moves an account that is not open, or no amount. " + _REWRITTEN,
    "reverses_the_future": "It reverses what does not come before it. " + _REWRITTEN,
    "tile_differs": "A tile of the tree holds another hash than its events give. " + _REWRITTEN,
    "tile_root": "The hash above a tile is not that of its hashes. " + _REWRITTEN,
    "tile_count": "Tiles are missing, or there are more than the events fill. " + _REWRITTEN,
    "wrong_root": "The root that is stated is not that of the events. " + _REWRITTEN,
    # checkpoints
    "root_differs": "What was signed is not what stands there now. " + _REWRITTEN,
    "beyond_journal": "More was signed or verified than the journal holds. " + _REWRITTEN,
    "bad_signature": "A signature does not hold with the key given. Is it the right key? If it is, "
    "the note was changed: compare it with what the witness and auditors have kept.",
    "note_differs": "A checkpoint's row and its signed note differ. The note is what counts.",
    "not_cosigned": "Checkpoints were published, and the witness has not cosigned them in time. Is it up, "
    "does its /readyz name a refusal? Once it runs it takes them all, in order. What is smaller than its "
    "last one it never signs again: see docs/operations.md, A checkpoint without cosignature.",
    "no_checkpoint": "A cosignature of no checkpoint: the checkpoint was removed. " + _REWRITTEN,
    # what follows from the journal
    "differs_from_journal": _DERIVED,
    "row_missing": "A row is missing. " + _DERIVED,
    "not_in_journal": "A row, or a record, of nothing that is in the journal. " + _DERIVED,
    "ahead_of_journal": "A projection says that it followed more than the journal holds. "
    + _DERIVED,
    "not_comparable": "The journal holds bytes that can't be read; see its own findings first.",
    "interest_differs": "The interest or true-up that an event states is not that of the balances before "
    "it. Run tally rebuild history first: they are what it is worked out from. If it still differs, "
    "the event is wrong: correct it by an adjustment, and say so to whoever it was paid to.",
    # Kafka
    "foreign_record": "The relay did not write this record. Set the topic's ACL.",
    "bytes_differ": "Kafka and the journal hold different bytes. " + _REWRITTEN,
    "out_of_order": "Records are missing, repeated or out of order. Consumers must not go on; "
    "publish the topic anew from the journal.",
    "topic_unreadable": "The topic can't be read. Is the address right, is Kafka up?",
    # beside the ledgers
    "bad_lease": _BESIDE,
    "resumed_without_approval": "A stopped ledger was opened again without two people. " + _BESIDE,
    "no_such_ledger": _BESIDE,
    "beyond_source": _BESIDE,
    "chain_broken": "The audit log was changed at or before this row. " + _REWRITTEN,
    "wrong_head": "Rows at the end of the audit log are missing. " + _REWRITTEN,
    "unapproved": "A posting rule is in force without a second person, although others before it took "
    "two: whoever wrote it went past the API and the writer. Withdraw it, and look for who did.",
    "digest_differs": "What was approved was changed afterwards. " + _BESIDE,
    "not_decided_on_record": _BESIDE,
    "not_asked_on_record": _BESIDE,
    "bad_identity": _BESIDE,
    "bad_session": _BESIDE,
    "bad_attempts": _BESIDE,
    "differs_from_stream": _BESIDE,
    "not_erased": "Something of an erased or unknown party is left. " + _BESIDE,
    "not_sealed": _BESIDE,
    "differs_from_approval": _BESIDE,
    "differs_from_reversal": _BESIDE,
    "differs_from_vault": _BESIDE,
    "no_such_file": _BESIDE,
    "wrong_version": "Migrations were not run as one series. Run tally migrate.",
    "wrong_stream": "The event names another stream than its row. " + _BESIDE,
    "wrong_subject": "The event is of another subject than its row. " + _BESIDE,
    # verification itself
    "table_without_check": "Add a line to the tables of engine/verify.py: what is not checked is "
    "not promised.",
    "ledger_not_open": "There is no ledger of this name; GET /v1/ledgers lists them.",
}


def explain_event(url: str, ledger: str, seq: int) -> Iterator[str]:
    """What the tables say of one event, line by line."""
    with psycopg.connect(url) as connection:
        found: Connection = connection
        found.row_factory = dict_row
        row = found.execute(
            "select recorded_at, event_type, bytes, leaf_hash from ledger.journal "
            "where ledger = %s and seq = %s",
            (ledger, seq),
        ).fetchone()
        if row is None:
            yield f"{ledger} has no event {seq} in its journal."
            return
        yield from _event(row)
        yield from _tree(found, ledger, seq, leaf_hash(row["bytes"]))
        yield from _accounts(found, ledger, row["bytes"])


def _event(row: Row) -> Iterator[str]:
    hashed = leaf_hash(row["bytes"])
    yield f"{row['event_type']}, recorded {row['recorded_at']:%Y-%m-%d %H:%M:%S.%f%z}"
    yield row["bytes"].decode("utf-8", "replace")
    agrees = "as stored" if hashed == row["leaf_hash"] else f"stored: {row['leaf_hash'].hex()}"
    yield f"leaf hash {hashed.hex()} ({agrees})"


def _tree(connection: Connection, ledger: str, seq: int, hashed: bytes) -> Iterator[str]:
    index, offset = divmod(seq - 1, TILE_WIDTH)
    tile = connection.execute(
        "select hashes from ledger.tile where ledger = %s and level = 0 and tile_index = %s",
        (ledger, index),
    ).fetchone()
    if tile is None:
        yield f"tile 0/{index} is not full yet"
    else:
        kept = tile["hashes"][32 * offset : 32 * offset + 32]
        yield f"tile 0/{index} holds {'the same' if kept == hashed else kept.hex()} at {offset}"
    row = connection.execute(
        "select size, created_at from ledger.checkpoint where ledger = %s and size >= %s "
        "order by size limit 1",
        (ledger, seq),
    ).fetchone()
    yield (
        f"first signed in the checkpoint of {row['size']} events, {row['created_at']:%Y-%m-%d %H:%M:%S}"
        if row
        else "in no checkpoint yet"
    )


def _accounts(connection: Connection, ledger: str, raw: bytes) -> Iterator[str]:
    try:
        event = decode_journal(raw)
    except (msgspec.ValidationError, msgspec.DecodeError):
        yield "the bytes are no event"
        return
    if not isinstance(event, TransactionPosted):
        return
    names = sorted({entry.account for entry in event.entries})
    rows = connection.execute(
        "select a.account, b.debits, b.credits, b.version from ledger.account a "
        "join ledger.balance b using (ledger, number) where ledger = %s and account = any(%s)",
        (ledger, names),
    )
    for row in rows:
        yield (
            f"{row['account']}: debits {row['debits']}, credits {row['credits']}, "
            f"last moved by {row['version']}"
        )
