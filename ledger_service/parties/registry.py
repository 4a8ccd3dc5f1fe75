"""Persons and businesses: registered once, known everywhere else by an opaque random id.

What others may know (kind, country, risk tier) goes to the `parties` stream in the same
transaction; the rest stays here, sealed (P10).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import asyncpg

from ledger_service.contract.events import PartyRegistered
from ledger_service.contract.identifiers import random_id
from ledger_service.engine import streams
from ledger_service.parties import seal
from ledger_service.parties.errors import PartyRefusal

PERSONAL_FIELDS = ("name", "tax_id", "birth_date", "address", "accounts")
STREAM = "parties"

Kind = Literal["person", "business"]
RiskTier = Literal["low", "medium", "high"]
Connection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy


class NewParty(NamedTuple):
    """Who is to be registered. `personal` is text by name of PERSONAL_FIELDS; `accounts` in it is
    one account number a line. `reference` is the registrant's own name for the party: registering
    the same reference again gives the same party.
    """

    kind: Kind
    country: str
    risk_tier: RiskTier
    personal: dict[str, str]
    reference: str | None = None


class Registered(NamedTuple):
    """What came of one registration."""

    party: str
    status: Literal["registered", "known_reference", "known_tax_id"]


class Party(NamedTuple):
    """What others may know."""

    party: str
    kind: Kind
    country: str
    risk_tier: RiskTier
    version: int
    registered_at: dt.datetime
    retain_until: dt.date | None
    legal_hold: bool
    erased: bool


def reference_digest(reference: str) -> bytes:
    """How a registrant's own reference is kept."""
    return seal.keyed_hash("reference", reference.encode("utf-8", "surrogatepass"))


def tax_id_digest(kind: Kind, tax_id: str) -> bytes:
    """The blind index of a tax id: equal for equal numbers of one kind, however written."""
    plain = "".join(sign for sign in tax_id if sign.isalnum()).upper()
    return seal.keyed_hash(f"tax id of a {kind}", plain.encode("utf-8", "surrogatepass"))


async def register(
    connection: Connection, parties: Sequence[NewParty], registered_by: str
) -> list[Registered]:
    """Register parties, all in one transaction; a verdict for each, in their order.

    A known reference or tax id gives the party that has it; nothing of the new data is kept.
    Errors: `unknown_field`.
    """
    for unknown in {name for party in parties for name in party.personal} - set(PERSONAL_FIELDS):
        raise PartyRefusal("unknown_field", f"There is no personal field {unknown!r}.")
    async with connection.transaction():
        # Registrations wait for each other here: two at once could not see each other's tax ids.
        await connection.execute("select pg_advisory_xact_lock(hashtext('vault.register'))")
        known = await _known(connection, parties)
        verdicts: list[Registered] = []
        fresh: list[tuple[str, NewParty]] = []
        for party in parties:
            verdict = _verdict(party, known)
            verdicts.append(verdict)
            if verdict.status == "registered":
                fresh.append((verdict.party, party))
        await _store(connection, fresh, registered_by)
    return verdicts


async def _known(connection: Connection, parties: Sequence[NewParty]) -> dict[bytes, str]:
    references = [reference_digest(one.reference) for one in parties if one.reference]
    tax_ids = [
        tax_id_digest(one.kind, one.personal["tax_id"]) for one in parties if _has_tax_id(one)
    ]
    rows = await connection.fetch(
        """select reference_digest as digest, party_id from vault.party
            where reference_digest = any($1::bytea[])
           union all
           select digest, party_id from vault.blind_index
            where field = 'tax_id' and digest = any($2::bytea[])""",
        references,
        tax_ids,
    )
    return {bytes(row["digest"]): row["party_id"] for row in rows}


def _has_tax_id(party: NewParty) -> bool:
    return "tax_id" in party.personal


def _verdict(party: NewParty, known: dict[bytes, str]) -> Registered:
    """Decide on one party, and remember it for the next ones of the same batch."""
    reference = reference_digest(party.reference) if party.reference else None
    tax_id = tax_id_digest(party.kind, party.personal["tax_id"]) if _has_tax_id(party) else None
    if reference in known:
        return Registered(known[reference], "known_reference")
    if tax_id in known:
        return Registered(known[tax_id], "known_tax_id")
    party_id = random_id("pty")
    known.update({digest: party_id for digest in (reference, tax_id) if digest})
    return Registered(party_id, "registered")


async def _store(
    connection: Connection, fresh: Sequence[tuple[str, NewParty]], registered_by: str
) -> None:
    if not fresh:
        return
    rows: list[tuple[Any, ...]] = []
    fields: list[tuple[str, str, bytes]] = []
    indexes: list[tuple[str, bytes, str]] = []
    for party_id, party in fresh:
        key = seal.new_key()
        digest = reference_digest(party.reference) if party.reference else None
        common = (party.kind, party.country, party.risk_tier, 1)
        rows.append((party_id, *common, *seal.wrap(key, party_id), digest, registered_by))
        fields.extend(
            (party_id, name, seal.seal(key, value.encode(), f"{party_id}/{name}"))
            for name, value in party.personal.items()
        )
        if _has_tax_id(party):
            tax_id = tax_id_digest(party.kind, party.personal["tax_id"])
            indexes.append(("tax_id", tax_id, party_id))
    await connection.executemany(
        """insert into vault.party (party_id, kind, country, risk_tier, version,
                                    key_id, wrapped_key, reference_digest, registered_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8, $9)""",
        rows,
    )
    await connection.executemany("insert into vault.field values ($1, $2, $3)", fields)
    await connection.executemany("insert into vault.blind_index values ($1, $2, $3)", indexes)
    await streams.append(
        connection,
        STREAM,
        [(party_id, _announcement(party_id, party)) for party_id, party in fresh],
    )


def _announcement(party_id: str, party: NewParty) -> streams.Maker:
    return lambda seq, recorded_at: PartyRegistered(
        stream=STREAM,
        seq=seq,
        recorded_at=recorded_at,
        party=party_id,
        kind=party.kind,
        country=party.country,
        risk_tier=party.risk_tier,
        version=1,
    )


async def find(connection: Connection, party_id: str) -> Party:
    """What others may know of a party. Errors: `unknown_party`."""
    row = await connection.fetchrow(
        """select party_id as party, kind, country, risk_tier, version, registered_at, retain_until,
                  legal_hold, erased_at is not null as erased
             from vault.party where party_id = $1""",
        party_id,
    )
    if row is None:
        raise PartyRefusal("unknown_party", "There is no such party.")
    return Party(**dict(row))
