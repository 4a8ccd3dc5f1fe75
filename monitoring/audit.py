"""Who did what in monitoring: a chain of rows, each with the digest of all before it (P11).

A row that was changed or taken out breaks the digest of every later one.
"""

from __future__ import annotations

import datetime as dt
import hashlib

import msgspec

from ledger_service.contract.events import timestamp
from monitoring.database import Connection

START = bytes(32)


def _digest(previous: bytes, fields: tuple[str, ...]) -> bytes:
    return hashlib.sha256(previous + msgspec.json.encode(fields)).digest()


def record(
    connection: Connection,
    *,
    actor: str,
    action: str,
    subject: str,
    outcome: str,
    detail: str = "",
    moment: dt.datetime,
) -> None:
    """Append one row in the caller's transaction; `action` is a permission, `outcome` a code."""
    connection.execute("select pg_advisory_xact_lock(hashtext('monitoring.audit'))")
    last = connection.execute("select seq, digest from audit order by seq desc limit 1").fetchone()
    seq, previous = (last["seq"] + 1, last["digest"]) if last else (1, START)
    digest = _digest(
        previous, (str(seq), timestamp(moment), actor, action, subject, outcome, detail)
    )
    connection.execute(
        "insert into audit (seq, recorded_at, actor, action, subject, outcome, detail, digest) "
        "values (%s, %s, %s, %s, %s, %s, %s, %s)",
        (seq, moment, actor, action, subject, outcome, detail, digest),
    )


def broken_at(connection: Connection) -> int | None:
    """The first `seq` at which the chain does not hold; None where it holds throughout."""
    previous, expected = START, 1
    for row in connection.execute("select * from audit order by seq"):
        fields = (
            str(row["seq"]),
            timestamp(row["recorded_at"]),
            *(row[name] for name in ("actor", "action", "subject", "outcome", "detail")),
        )
        if row["seq"] != expected or row["digest"] != _digest(previous, fields):
            return expected
        previous, expected = row["digest"], expected + 1
    return None
