"""What the API reads of a ledger's posting rules, and of the interest that has accrued by them."""

from __future__ import annotations

from typing import Any

import msgspec

from ledger_service.contract.events import TransactionPosted, decode_journal


async def rules(connection: Any, ledger: str) -> list[dict[str, Any]]:
    """Everything that was declared of every rule, by rule and version."""
    rows = await connection.fetch(
        "select j.bytes from ledger.declaration d join ledger.journal j using (ledger, seq) "
        "where d.ledger = $1 and d.event_type in ('rule.declared', 'rule.withdrawn') "
        "order by d.name, d.seq",
        ledger,
    )
    return [msgspec.json.decode(row["bytes"]) for row in rows]


async def accruals(connection: Any, ledger: str, account: str) -> list[dict[str, Any]] | None:
    """What has accrued on an account and is not capitalized, by rule; None: no such account."""
    number = await connection.fetchval(
        "select number from ledger.account where ledger = $1 and account = $2", ledger, account
    )
    if number is None:
        return None
    rows = await connection.fetch(
        "select j.bytes from (select rule, max(seq) as seq from ledger.accrual "
        "where ledger = $1 and number = $2 group by rule) as last "
        "join ledger.journal j on j.ledger = $1 and j.seq = last.seq order by last.rule",
        ledger,
        number,
    )
    return [_accrued(decode_journal(row["bytes"])) for row in rows]


def _accrued(event: Any) -> dict[str, Any]:
    applied = event.applied if isinstance(event, TransactionPosted) else None
    if applied is None:
        raise ValueError(f"event {event.seq} accrues nothing")
    return {
        "rule": applied.rule,
        "period_start": applied.period_start,
        "through": applied.last_day,
        "accrued": applied.accrued,
        "carried": applied.carried,
        "true_up": applied.true_up,
        "seq": event.seq,
    }
