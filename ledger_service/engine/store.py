"""The writer's SQL: taking a ledger over, loading what the book lacks, committing a batch."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import asyncpg

from ledger_service.contract import failpoints
from ledger_service.contract.events import (
    HoldPlaced,
    LedgerOpened,
    TransactionPosted,
    decode_journal,
    timestamp,
)
from ledger_service.domain.account import Account
from ledger_service.domain.book import Book
from ledger_service.domain.chart import Chart
from ledger_service.domain.memory import Lacks, absent
from ledger_service.engine import accruals, fast, stops
from ledger_service.engine.batch import Batch
from ledger_service.engine.closing import books_of
from ledger_service.engine.merkle import EMPTY_ROOT, Tree
from ledger_service.engine.stored_tree import load_tree

Connection = asyncpg.Connection
PARTITION_ROWS = 16_777_216
"""Rows of a partition of the journal, as the migration makes them."""
OPENING_TABLES = ("account", "balance")
"""Written before balances move: an account may be opened and moved in one commit."""
RECORD_TABLES = ("reversal", "capture", "accrual", "period", "declaration", "tile")
"""Both take the rows of `Batch.records`, in the order in which they stand here."""


class Fenced(Exception):
    """The head is not where this writer left it: another one has taken over."""


class KeyStands(Exception):
    """A command was decided as if its idempotency key were new, and something is committed under it."""


class ApprovalVoid(Exception):
    """The approval is not granted for exactly this command, or was consumed already."""


async def create_head(connection: Connection, ledger: str) -> None:
    """Make the row that a ledger's writer takes over; no effect where it is there."""
    await connection.execute(
        "insert into ledger.head values ($1, 0, 0, $2, null) on conflict do nothing",
        ledger,
        EMPTY_ROOT,
    )


async def epoch_of(connection: Connection, ledger: str) -> int:
    """The epoch of whoever took the ledger over last, or stopped it."""
    return await connection.fetchval("select epoch from ledger.head where ledger = $1", ledger) or 0


async def take_over(
    connection: Connection, ledger: str, charts: Mapping[str, Chart]
) -> tuple[int, Book, Tree]:
    """Raise the epoch, then read back where the ledger stands: epoch, empty-handed book, tree.

    The update waits for a commit in doubt; after it, whoever had the ledger before can't commit.
    Errors: `LedgerStopped`: whoever stops it raises the epoch too, so no stop is overlooked here.
    """
    failpoints.reach("takeover.before")
    row = await connection.fetchrow(
        "update ledger.head set epoch = epoch + 1 where ledger = $1 "
        "returning epoch, seq, recorded_at",
        ledger,
    )
    if row is None:
        raise LookupError(f"there is no ledger {ledger!r}")
    if await stops.open_stop(connection, ledger) is not None:
        raise stops.LedgerStopped
    failpoints.reach("takeover.after")
    seq = row["seq"]
    await connection.execute("select ledger.extend_partitions($1)", seq + PARTITION_ROWS)
    book = Book(ledger, charts)
    if seq:
        raw = await connection.fetchval(
            "select bytes from ledger.journal where ledger = $1 and seq = 1", ledger
        )
        opened = decode_journal(raw or b"null")
        if not isinstance(opened, LedgerOpened):
            raise ValueError(f"the first event of {ledger} does not open it")
        book.load_ledger(
            opened,
            seq,
            timestamp(row["recorded_at"]),
            await _events_of(connection, ledger, "period"),
            await _events_of(connection, ledger, "declaration"),
        )
    return row["epoch"], book, await load_tree(connection, ledger, seq)


async def _events_of(connection: Connection, ledger: str, table: str) -> list[Any]:
    """The events that a table names by their `seq`, in order."""
    rows = await connection.fetch(
        f"select j.bytes from ledger.{table} t join ledger.journal j using (ledger, seq) "
        "where t.ledger = $1 order by t.seq",
        ledger,
    )
    return [decode_journal(row["bytes"]) for row in rows]


async def load(connection: Connection, book: Book, lacks: Lacks) -> None:
    """Bring what commands lack into the book: one query for each kind."""
    for seq in lacks.transactions:
        await _load_original(connection, book, seq)
        source = book.originals.get(seq)
        if source is not None:
            lacks.accounts |= absent((leg[0] for leg in source.left), book)
    if lacks.holds:
        await _load_holds(connection, book, lacks)
    for through in lacks.closings:
        book.closings[through] = await books_of(connection, book, through)
    if lacks.digests:
        book.keys |= await find_keys(connection, lacks.digests)
    if lacks.accounts:
        await _load_accounts(connection, book, lacks.accounts)
    book.accruals = await accruals.load(connection, book, lacks) if lacks.accruals else {}


async def find_keys(
    connection: Connection, digests: Iterable[bytes]
) -> dict[bytes, tuple[int, bytes]]:
    """Those of the keys under which something is committed, with its `seq` and the request's hash."""
    rows = await connection.fetch("select * from ledger.find_keys($1)", b"".join(digests))
    return {row["digest"]: (row["seq"], row["request_hash"]) for row in rows}


async def _load_accounts(connection: Connection, book: Book, names: Iterable[str]) -> None:
    rows = await connection.fetch(
        "select a.account, a.number, a.currency, a.normal_side, a.custodial, a.owner, a.floor, "
        "a.ceiling, a.status, a.status_seq, b.debits, b.credits, b.pending_debits, "
        "b.pending_credits, b.version from ledger.account a join ledger.balance b using (ledger, number) "
        "where a.ledger = $1 and a.account = any($2)",
        book.ledger,
        list(names),
    )
    for row in rows:
        book.accounts[row["account"]] = Account(
            row["number"],
            row["currency"],
            row["normal_side"] == "debit",
            row["custodial"],
            row["owner"],
            None if row["floor"] is None else int(row["floor"]),
            None if row["ceiling"] is None else int(row["ceiling"]),
            row["status"],
            row["status_seq"],
            int(row["debits"]),
            int(row["credits"]),
            int(row["pending_debits"]),
            int(row["pending_credits"]),
            row["version"],
        )


async def _load_original(connection: Connection, book: Book, seq: int) -> None:
    rows = await connection.fetch(
        "select seq, bytes from ledger.journal where ledger = $1 and (seq = $2 or seq in "
        "(select r.seq from ledger.reversal r where r.ledger = $1 and r.reverses = $2)) "
        "order by seq",
        book.ledger,
        seq,
    )
    found = [decode_journal(row["bytes"]) for row in rows]
    posted = [event for event in found if isinstance(event, TransactionPosted)]
    if posted and posted[0].seq == seq:
        book.load_original(posted[0], posted[1:])


async def _load_holds(connection: Connection, book: Book, lacks: Lacks) -> None:
    rows = await connection.fetch(
        "select h.amounts, h.state, h.version, j.bytes "
        "from ledger.hold h join ledger.journal j using (ledger, seq) "
        "where h.ledger = $1 and h.seq = any($2)",
        book.ledger,
        list(lacks.holds),
    )
    for row in rows:
        event = decode_journal(row["bytes"])
        if isinstance(event, HoldPlaced):
            left = [abs(amount) for amount in row["amounts"]]
            book.load_hold(event, left, row["state"], row["version"])
            lacks.accounts |= absent((entry.account for entry in event.entries), book)


async def due_holds(connection: Connection, ledgers: Iterable[str]) -> dict[str, list[int]]:
    """Open holds whose time is over, by ledger; those first that have waited longest."""
    rows = await connection.fetch(
        "select ledger, seq from ledger.hold "
        "where ledger = any($1) and state = 'open' and expires_at <= now() "
        "order by expires_at limit 1000",
        list(ledgers),
    )
    due: dict[str, list[int]] = {}
    for row in rows:
        due.setdefault(row["ledger"], []).append(row["seq"])
    return due


async def read_events(connection: Any, ledger: str, seqs: Iterable[int]) -> dict[int, bytes]:
    """Canonical bytes of some events."""
    rows = await connection.fetch(
        "select seq, bytes from ledger.journal where ledger = $1 and seq = any($2)",
        ledger,
        list(seqs),
    )
    return {row["seq"]: row["bytes"] for row in rows}


async def stands_at(connection: Connection, ledger: str, epoch: int, seq: int) -> None:
    """Make sure that this writer still holds the ledger, where nothing is to be committed.

    A lock is a commit too: it waits for the standby, so a primary that was given up answers nothing.
    Errors: `Fenced`.
    """
    found = await connection.fetchval(
        "select 1 from ledger.head where ledger = $1 and epoch = $2 and seq = $3 for update",
        ledger,
        epoch,
        seq,
    )
    if found is None:
        raise Fenced


class Rows:
    """A batch's rows, frozen: what `commit` writes while the book goes on."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.new_holds, self.changed_holds = batch.hold_rows()
        self.balances = batch.balance_arrays()
        if not (self.new_holds or self.changed_holds):
            self.balances[-2:] = "{}", "{}"  # no hold has moved, so nothing pending has
        self.root = batch.grow()
        self.is_plain = not (
            batch.records or batch.changed or batch.approval or self.new_holds or self.changed_holds
        )
        """Whether one statement writes them all."""


async def commit(connection: Connection, rows: Rows, epoch: int) -> None:
    """Write a batch in one transaction, if the ledger is still ours and where we left it.

    Errors: `Fenced`, `KeyStands`, `ApprovalVoid`: nothing was written. Any other: not known.
    """
    failpoints.reach("commit.before_begin")
    if rows.is_plain:
        sent = asyncio.ensure_future(_write(connection, rows, epoch))
        await asyncio.sleep(0)
        failpoints.reach("commit.in_flight")
        await sent
    else:
        async with connection.transaction():
            await _copy(connection, rows.batch, OPENING_TABLES)
            await _write(connection, rows, epoch)
            await _write_records(connection, rows)
            failpoints.reach("commit.before_commit")
    failpoints.reach("commit.after_commit")


_POSTED = "transaction.posted"
_STANDS = "a key is recorded already"
"""What the table of keys says of one that stands."""
_COMMIT = (
    "select ledger.commit_batch($1, $2, $3, $4, $5, $6::text::timestamptz, $7, $8, "
    "$9::text::integer[], $10, $11, $12::text::bigint[], $13, $14::text::bigint[], "
    "$15::text::bigint[], $16::text::bigint[], $17::text::numeric[], $18::text::numeric[], "
    "$19::text::numeric[], $20::text::numeric[])"
)


async def _write(connection: Connection, rows: Rows, epoch: int) -> None:
    """Journal, keys, balances and head; where it is not in a transaction it is one."""
    batch = rows.batch
    try:
        is_ours = await connection.fetchval(
            _COMMIT,
            batch.ledger,
            epoch,
            batch.first_seq,
            batch.last_seq,
            rows.root,
            batch.recorded_at,
            None if batch.types.count(_POSTED) == len(batch.types) else batch.types,
            b"".join(batch.raws),
            fast.array(list(itertools.accumulate(map(len, batch.raws)))),
            b"".join(batch.leaf_hashes),
            b"".join(batch.digests),
            None if len(batch.digests) == len(batch.raws) else fast.array(batch.key_seqs),
            b"".join(batch.request_hashes),
            *rows.balances,
        )
    except asyncpg.UniqueViolationError as error:
        if error.args[0] == _STANDS:
            raise KeyStands from error
        raise
    if not is_ours:
        raise Fenced


async def _copy(connection: Connection, batch: Batch, tables: Sequence[str]) -> None:
    for table in tables:
        if records := batch.records.get(table):
            await connection.copy_records_to_table(table, schema_name="ledger", records=records)


async def _write_records(connection: Connection, rows: Rows) -> None:
    """What only some events lead to."""
    batch = rows.batch
    if batch.approval is not None:
        approval, digest, seq = batch.approval
        valid = await connection.fetchval(
            "select security.consume_approval($1, $2, $3, $4)", approval, digest, batch.ledger, seq
        )
        if not valid:
            raise ApprovalVoid
    await _copy(connection, batch, RECORD_TABLES)
    if batch.changed:
        await connection.executemany(
            "update ledger.account set status = $3, status_seq = $4 "
            "where ledger = $1 and account = $2",
            [(batch.ledger, *change) for change in batch.changed],
        )
    if rows.new_holds:
        await connection.copy_records_to_table("hold", schema_name="ledger", records=rows.new_holds)
    if rows.changed_holds:
        await connection.executemany(
            "update ledger.hold set state = $3, version = $4, expires_at = $5, numbers = $6, "
            "amounts = $7 where ledger = $1 and seq = $2",
            rows.changed_holds,
        )
