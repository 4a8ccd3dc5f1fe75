"""Reading personal data for a stated purpose, keeping it as long as the law asks, and erasing it.

The caller puts each of these on the audit log in the same transaction.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal

import asyncpg

from ledger_service.contract.events import PartyRegistered
from ledger_service.engine import streams
from ledger_service.parties import seal
from ledger_service.parties.errors import PartyRefusal
from ledger_service.parties.registry import PERSONAL_FIELDS, STREAM, Connection

Purpose = Literal[
    "alert_review", "case_investigation", "regulatory_filing", "customer_request", "legal_process"
]


async def _locked(connection: Connection, party_id: str) -> asyncpg.Record:
    row = await connection.fetchrow(
        "select * from vault.party where party_id = $1 for update", party_id
    )
    if row is None:
        raise PartyRefusal("unknown_party", "There is no such party.")
    if row["erased_at"] is not None:
        raise PartyRefusal("party_erased", "This party was erased; its data can't be read again.")
    return row


async def reveal(
    connection: Connection, party_id: str, fields: Sequence[str]
) -> dict[str, str | None]:
    """Personal fields in the clear; None for one that was never given.

    Errors: `unknown_party`, `party_erased`, `unknown_field`; `SealBroken` where a stored value was
    changed or moved.
    """
    if not fields or any(name not in PERSONAL_FIELDS for name in fields):
        raise PartyRefusal("unknown_field", f"Fields are of {', '.join(PERSONAL_FIELDS)}.")
    async with connection.transaction():
        party = await _locked(connection, party_id)
        rows = await connection.fetch(
            "select field, sealed from vault.field where party_id = $1 and field = any($2)",
            party_id,
            list(fields),
        )
    key = seal.unwrap(party["key_id"], bytes(party["wrapped_key"]), party_id)
    found = {
        row["field"]: seal.open_sealed(
            key, bytes(row["sealed"]), f"{party_id}/{row['field']}"
        ).decode()
        for row in rows
    }
    return {name: found.get(name) for name in fields}


async def retain(
    connection: Connection, party_id: str, *, legal_hold: bool, retain_until: dt.date | None
) -> None:
    """Say how long a party must be kept: while `legal_hold`, and to the end of `retain_until`.

    Errors: `unknown_party`, `party_erased`.
    """
    async with connection.transaction():
        await _locked(connection, party_id)
        await connection.execute(
            "update vault.party set legal_hold = $2, retain_until = $3 where party_id = $1",
            party_id,
            legal_hold,
            retain_until,
        )


async def erase(connection: Connection, party_id: str, today: dt.date) -> int:
    """Destroy a party's key, and with it every personal field, in all backups too once the key of
    keys is rotated; publish that it is erased. Gives the new version.

    Errors: `unknown_party`, `party_erased`, `retention_applies`.
    """
    async with connection.transaction():
        party = await _locked(connection, party_id)
        if party["legal_hold"]:
            raise PartyRefusal("retention_applies", "A legal hold forbids erasing this party.")
        if party["retain_until"] is not None and party["retain_until"] >= today:
            last_day = party["retain_until"].isoformat()
            raise PartyRefusal(
                "retention_applies",
                f"The law keeps this party until {last_day}; erase it after that day.",
                retain_until=last_day,
            )
        version = party["version"] + 1
        await connection.execute(
            """update vault.party set wrapped_key = null, reference_digest = null,
                      erased_at = now(), version = $2 where party_id = $1""",
            party_id,
            version,
        )
        await connection.execute("delete from vault.blind_index where party_id = $1", party_id)
        await connection.execute("delete from vault.field where party_id = $1", party_id)
        await streams.append(connection, STREAM, [(party_id, _erased(party, version))])
    return version


def _erased(party: asyncpg.Record, version: int) -> streams.Maker:
    return lambda seq, recorded_at: PartyRegistered(
        stream=STREAM,
        seq=seq,
        recorded_at=recorded_at,
        party=party["party_id"],
        kind=party["kind"],
        country=party["country"],
        risk_tier=party["risk_tier"],
        version=version,
        erased=True,
    )


async def rewrap(connection: Connection, limit: int = 1000) -> int:
    """Move up to `limit` parties and files each to the current key of keys; gives how many. Call it
    until it gives 0, then take the old key out of TALLYSTICK_VAULT_KEY.
    """
    current, _ = seal.wrap(seal.new_key(), "nobody")
    moved = 0
    for table, name in (("vault.party", "party_id"), ("vault.file", "file_id")):
        async with connection.transaction():
            rows = await connection.fetch(
                f"""select {name} as id, key_id, wrapped_key from {table}
                     where key_id <> $1 and wrapped_key is not null limit $2 for update""",
                current,
                limit,
            )
            for row in rows:
                key = seal.unwrap(row["key_id"], bytes(row["wrapped_key"]), row["id"])
                await connection.execute(
                    f"update {table} set key_id = $2, wrapped_key = $3 where {name} = $1",
                    row["id"],
                    *seal.wrap(key, row["id"]),
                )
            moved += len(rows)
    return moved
