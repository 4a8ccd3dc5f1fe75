"""What the API reads: projections, in the same database as the journal.

A read sees everything that was answered before it was asked: balances and links move in the commit
itself, and where a read needs what follows it waits for that. Each question is one statement, or one
snapshot where it takes two.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from ledger_service.contract.events import (
    CurrencyDeclared,
    LedgerOpened,
    TransactionPosted,
    decode_journal,
)
from ledger_service.contract.money import EXPONENTS
from ledger_service.contract.topics import journal_topic
from ledger_service.engine.event_sql import same_digest
from ledger_service.engine.projections import HISTORY

PAGE_MAX = 1000
LAST_SEQ = 2**63 - 1

_LEDGERS_SQL = (
    "select h.ledger, h.seq, j.bytes, array(select c.bytes from ledger.declaration d "
    "join ledger.journal c using (ledger, seq) where d.ledger = h.ledger "
    "and d.event_type = 'currency.declared' order by d.seq) as declared "
    "from ledger.head h join ledger.journal j on j.ledger = h.ledger and j.seq = 1 "
)
_ACCOUNT_SQL = (
    "select a.account, a.number, a.currency, a.account_class, a.normal_side, a.custodial, "
    "a.gl_code, a.owner, a.floor, a.ceiling, a.status, b.debits, b.credits, b.pending_debits, "
    "b.pending_credits, b.version "
    "from ledger.account a join ledger.balance b using (ledger, number) where a.ledger = $1 "
)


async def ledgers(connection: Any) -> list[dict[str, Any]]:
    """Every open ledger, with the properties it was opened with and where it stands."""
    rows = await connection.fetch(_LEDGERS_SQL + "order by h.ledger")
    return [_ledger(row) for row in rows]


async def ledger(connection: Any, name: str) -> dict[str, Any] | None:
    """One open ledger, or None."""
    row = await connection.fetchrow(
        _LEDGERS_SQL + "where h.ledger = $1",
        name,
    )
    return _ledger(row) if row else None


def _ledger(row: Any) -> dict[str, Any]:
    opened = msgspec.json.decode(row["bytes"], type=LedgerOpened)
    exponents = {currency: EXPONENTS[currency] for currency in opened.currencies}
    for raw in row["declared"]:
        declared = msgspec.json.decode(raw, type=CurrencyDeclared)
        exponents[declared.currency] = declared.exponent
    return {
        "ledger": row["ledger"],
        "seq": row["seq"],
        "currencies": list(exponents),
        "exponents": exponents,
        "time_zone": opened.time_zone,
        "cut_off": opened.cut_off,
        "calendar": opened.calendar,
        "chart": opened.chart,
        "opened_at": opened.recorded_at,
    }


async def head_seq(connection: Any, name: str) -> int | None:
    """`seq` of the last event; None where there is no such ledger."""
    return await connection.fetchval("select seq from ledger.head where ledger = $1", name)


async def seq_known_at(connection: Any, name: str, moment: dt.datetime) -> int:
    """`seq` of the last event recorded by `moment`, with it; 0 before the first."""
    return await connection.fetchval("select ledger.seq_known_at($1, $2)", name, moment)


async def seq_known_before(connection: Any, name: str, moment: dt.datetime) -> int:
    """`seq` of the last event recorded before `moment`, which has microseconds; 0 where none is."""
    return await seq_known_at(connection, name, moment - dt.timedelta(microseconds=1))


async def progress(connection: Any, name: str) -> dict[str, int] | None:
    """How far the journal is, what follows it, and how far the relay says that it has published."""
    posted = await head_seq(connection, name)
    if posted is None:
        return None
    published = await connection.fetchval(
        "select seq from stream.relay_position where topic = $1", journal_topic(name)
    )
    followed = await connection.fetchval(
        "select seq from ledger.projection where ledger = $1 and name = $2", name, HISTORY.name
    )
    return {
        "posted_seq": posted,
        "history_seq": followed or 0,
        "published_seq": published or 0,
    }


# --- accounts -----------------------------------------------------------------------------------


async def accounts(
    connection: Any, name: str, *, after: str = "", limit: int = 100, prefix: str = ""
) -> list[dict[str, Any]]:
    """Accounts by id, from the one after `after` on; only those that begin with `prefix`."""
    rows = await connection.fetch(
        _ACCOUNT_SQL + "and a.account > $2 and a.account >= $3 and a.account < $4 "
        "order by a.account limit $5",
        name,
        after,
        prefix,
        prefix + "\uffff",
        min(limit, PAGE_MAX),
    )
    return [_account(row) for row in rows]


async def number_of(connection: Any, name: str, account_id: str) -> int | None:
    """What names an account in other tables; None where there is none."""
    return await connection.fetchval(
        "select number from ledger.account where ledger = $1 and account = $2", name, account_id
    )


async def account(connection: Any, name: str, account_id: str) -> dict[str, Any] | None:
    """One account with its balances, or None."""
    row = await connection.fetchrow(_ACCOUNT_SQL + "and a.account = $2", name, account_id)
    return _account(row) if row else None


def _account(row: Any) -> dict[str, Any]:
    debits, credits_ = int(row["debits"]), int(row["credits"])
    posted = debits - credits_ if row["normal_side"] == "debit" else credits_ - debits
    pending = row["pending_credits" if row["normal_side"] == "debit" else "pending_debits"]
    secured = posted - int(pending)
    floor = None if row["floor"] is None else int(row["floor"])
    return {
        "account": row["account"],
        "currency": row["currency"],
        "account_class": row["account_class"],
        "normal_side": row["normal_side"],
        "custodial": row["custodial"],
        "gl_code": row["gl_code"],
        "owner": row["owner"],
        "floor": None if floor is None else str(floor),
        "ceiling": None if row["ceiling"] is None else str(int(row["ceiling"])),
        "status": row["status"],
        "debits": str(debits),
        "credits": str(credits_),
        "posted": str(posted),
        "pending_debits": str(int(row["pending_debits"])),
        "pending_credits": str(int(row["pending_credits"])),
        # What may still be taken; without a floor there is no such bound, and what is not held stands.
        "available": str(max(secured - floor, 0) if floor is not None else secured),
        "opened_seq": row["number"],
        "seq": row["version"],
    }


# --- transactions and events --------------------------------------------------------------------


async def transaction(connection: Any, name: str, seq: int) -> dict[str, Any] | None:
    """A transaction's event with the `seq` of its reversals; None where `seq` is none."""
    raw = await connection.fetchval(
        "select bytes from ledger.journal where ledger = $1 and seq = $2", name, seq
    )
    if raw is None or not isinstance(decode_journal(raw), TransactionPosted):
        return None
    reversals = await connection.fetch(
        "select seq from ledger.reversal where ledger = $1 and reverses = $2 order by seq",
        name,
        seq,
    )
    return {**msgspec.json.decode(raw), "reversed_by": [row["seq"] for row in reversals]}


async def seq_of_key(connection: Any, name: str, digest: bytes) -> int | None:
    """`seq` of what was posted under an idempotency key, by its digest; None where nothing was."""
    return await connection.fetchval(
        f"select i.seq from (select $1::bytea as digest) as wanted join ledger.idempotency i "
        f"on {same_digest('i', 'wanted')} where i.ledger = $2",
        digest,
        name,
    )


async def event_bytes(
    connection: Any, name: str, *, after_seq: int, limit: int
) -> AsyncIterator[bytes]:
    """Canonical bytes of up to `limit` events after `after_seq`, in order."""
    while limit > 0:
        rows = await connection.fetch(
            "select seq, bytes from ledger.journal "
            "where ledger = $1 and seq > $2 and seq <= $2 + $3 order by seq",
            name,
            after_seq,
            min(limit, PAGE_MAX),
        )
        for row in rows:
            yield row["bytes"]
        if not rows:
            return
        after_seq = rows[-1]["seq"]
        limit -= len(rows)


_NOTES = """
  select c.size, c.note || coalesce(
           (select string_agg(s.line || E'\\n', '' order by s.witness) from ledger.cosignature s
             where s.ledger = c.ledger and s.size = c.size), '') as note
    from ledger.checkpoint c where c.ledger = $1
"""
"""Signed notes, each with its cosignatures."""


async def latest_checkpoint(connection: Any, name: str) -> str | None:
    """The newest note with its cosignatures; None before the first."""
    row = await connection.fetchrow(f"{_NOTES} order by c.size desc limit 1", name)
    return row["note"] if row else None


async def checkpoint(connection: Any, name: str, size: int) -> str | None:
    """The note of one size with its cosignatures, or None."""
    row = await connection.fetchrow(f"{_NOTES} and c.size = $2", name, size)
    return row["note"] if row else None


async def checkpoints(
    connection: Any, name: str, *, after_size: int, limit: int
) -> list[dict[str, Any]]:
    """Up to `limit` checkpoints larger than `after_size`, by size: `size` and `note`."""
    rows = await connection.fetch(
        f"{_NOTES} and c.size > $2 order by c.size limit $3", name, after_size, limit
    )
    return [dict(row) for row in rows]


async def add_cosignature(connection: Any, name: str, size: int, witness: str, line: str) -> None:
    """Keep a witness's line; the first of each witness and size stays."""
    await connection.execute(
        "insert into ledger.cosignature (ledger, size, witness, line) values ($1, $2, $3, $4) "
        "on conflict do nothing",
        name,
        size,
        witness,
        line,
    )
