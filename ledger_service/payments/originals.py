"""The transaction that is to be reversed, read from the journal, and what is left of it."""

from __future__ import annotations

import collections
import datetime as dt

import msgspec

from ledger_service.contract.events import TransactionPosted, decode_journal
from ledger_service.security.identities import Connection


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """What a policy needs to know of a transaction."""

    kind: str
    imposed: bool
    effective_at: dt.datetime
    left: dict[str, int]
    """Minor units of the debit side by currency, less what reversals took already."""

    def age_days(self, now: dt.datetime) -> int:
        """Whole days since it took effect; 0 where that lies ahead."""
        return max(0, (now - self.effective_at).days)


async def read(connection: Connection, ledger: str, seq: int) -> Original | None:
    """The transaction with that `seq`, or None where the ledger has no such transaction."""
    rows = await connection.fetch(
        "select bytes from ledger.journal where ledger = $1 and seq = $2 union all "
        "select j.bytes from ledger.reversal r join ledger.journal j using (ledger, seq) "
        "where r.ledger = $1 and r.reverses = $2",
        ledger,
        seq,
    )
    events = [decode_journal(row["bytes"]) for row in rows]
    posted = [event for event in events if isinstance(event, TransactionPosted)]
    original = next((event for event in posted if event.seq == seq), None)
    if original is None:
        return None
    left = _debits(original)
    for event in posted:
        if event.reverses == seq:
            left.subtract(_debits(event))
    return Original(
        kind=original.kind,
        imposed=original.imposed,
        effective_at=dt.datetime.fromisoformat(original.effective_at),
        left=dict(left),
    )


def _debits(event: TransactionPosted) -> collections.Counter[str]:
    total: collections.Counter[str] = collections.Counter()
    for entry in event.entries:
        if entry.side == "debit":
            total[entry.currency] += int(entry.amount)
    return total
