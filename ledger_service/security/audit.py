"""The audit log: who read, decided, was refused or failed; each row sealed to the one before (P11).

A row's hash covers the previous row's hash, its own number and its content, and the database
computes it under a lock: the serving role may only call that function. A changed, removed or
inserted row breaks the chain from there on; `verify_chain` says where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ledger_service.contract import audit_rows
from ledger_service.contract.audit_rows import Outcome
from ledger_service.contract.identifiers import refuse_personal
from ledger_service.security.identities import Connection

_BEGINNING = bytes(32)
_PAGE = 5000


class AuditRow(NamedTuple):
    """One entry of the log; `hash` in hex seals it and everything before it."""

    seq: int
    recorded_at: str
    actor: str
    action: str
    subject: str
    outcome: str
    details: dict[str, Any]
    hash: str


class Verdict(NamedTuple):
    """What a check of the chain found. `broken_at` is the first `seq` that does not fit."""

    rows: int
    broken_at: int | None


async def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    outcome: Outcome = "done",
    details: Mapping[str, str | int | bool | None] | None = None,
) -> int:
    """Append one row; gives its `seq`. In the caller's transaction, if there is one: then the row
    and the act it tells of are kept together or not at all.

    The parameters are those of `audit_rows.row`. Errors: `personal_data_refused`.
    """
    facts = dict(details or {})
    for name, value in {"subject": subject, **facts}.items():
        if isinstance(value, str):
            refuse_personal(value, f"audit log's {name}")
    text = audit_rows.row(
        actor=actor, action=action, subject=subject, outcome=outcome, details=facts
    )
    seq: Any = await connection.fetchval("select security.append_audit($1)", text)
    return int(seq)


async def read_log(
    connection: Connection, *, after: int = 0, limit: int = 100, actor: str | None = None
) -> list[AuditRow]:
    """Rows after `seq` `after`, oldest first; of one actor, if given."""
    rows = await connection.fetch(
        """select seq, content, hash from security.audit_log
            where seq > $1 and ($3::text is null or actor = $3) order by seq limit $2""",
        after,
        limit,
        actor,
    )
    return [
        AuditRow(seq=row["seq"], hash=bytes(row["hash"]).hex(), **json.loads(row["content"]))
        for row in rows
    ]


async def verify_chain(connection: Connection) -> Verdict:
    """Compute every hash again, from the first row to the head."""
    previous, count = _BEGINNING, 0
    while True:
        page = await connection.fetch(
            """select seq, content, hash from security.audit_log
                where seq > $1 order by seq limit $2""",
            count,
            _PAGE,
        )
        for row in page:
            number = count + 1
            sealed = previous + number.to_bytes(8, "big") + row["content"].encode()
            previous = hashlib.sha256(sealed).digest()
            if row["seq"] != number or bytes(row["hash"]) != previous:
                return Verdict(count, number)
            count = number
        if len(page) < _PAGE:
            break
    head = await connection.fetchrow("select seq, hash from security.audit_head")
    at_head = head is not None and head["seq"] == count and bytes(head["hash"]) == previous
    return Verdict(count, None if at_head else count + 1)
