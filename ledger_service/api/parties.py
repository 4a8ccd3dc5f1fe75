"""Parties: registering, what others may know, and the audited ways to what they may not."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import AfterValidator, Field
from starlette.responses import JSONResponse, Response

from ledger_service.api.audit import recorded
from ledger_service.api.bodies import Body, DateText, ShortText, Text
from ledger_service.api.problems import Problem
from ledger_service.api.who import Principal, require
from ledger_service.contract.events import timestamp
from ledger_service.contract.identifiers import PARTY
from ledger_service.parties import disclosure, registry, seal
from ledger_service.parties.registry import NewParty, Registered

router = APIRouter(tags=["parties"])

BATCH_MAX_BYTES = 8 * 1024 * 1024


def _party_id(text: str) -> str:
    # What is not the id of a party may be anything, a tax id too: it goes no further than here.
    if not PARTY.match(text):
        raise Problem("unknown_party", "There is no such party.")
    return text


PartyId = Annotated[str, AfterValidator(_party_id)]


class PartyBody(Body):
    """Who is to be registered. All but kind, country and risk tier is personal and is sealed."""

    kind: Literal["person", "business"]
    name: ShortText
    country: Annotated[str, Field(pattern=r"^[A-Z]{2}$")]
    risk_tier: Literal["low", "medium", "high"]
    tax_id: Annotated[Text, Field(min_length=4, max_length=32)] | None = None
    birth_date: DateText | None = None
    address: Annotated[Text, Field(min_length=1, max_length=500)] | None = None
    accounts: Annotated[
        list[Annotated[Text, Field(min_length=4, max_length=40)]], Field(max_length=20)
    ] = Field(default=[])
    """Account numbers at other banks; the answer gives the token that stands for each."""
    reference: ShortText | None = None
    """The caller's own name for the party, of which only a keyed hash is kept. A repeat gives the
    same party."""

    def as_party(self) -> NewParty:
        """For the vault."""
        personal = {
            "name": self.name,
            "tax_id": self.tax_id,
            "birth_date": self.birth_date,
            "address": self.address,
            "accounts": "\n".join(self.accounts) or None,
        }
        return NewParty(
            self.kind,
            self.country,
            self.risk_tier,
            {name: value for name, value in personal.items() if value is not None},
            self.reference,
        )


class Batch(Body):
    """Up to 1,000 parties, registered together."""

    parties: Annotated[list[PartyBody], Field(min_length=1, max_length=1000)]


class Disclosure(Body):
    """Which personal fields are read, and what for."""

    purpose: disclosure.Purpose
    fields: Annotated[
        list[Literal["name", "tax_id", "birth_date", "address", "accounts"]],
        Field(min_length=1, max_length=10),
    ]


class Retention(Body):
    """How long a party must be kept."""

    legal_hold: bool
    retain_until: DateText | None = None


def _answer(body: PartyBody, verdict: Registered) -> dict[str, Any]:
    return {
        "party": verdict.party,
        "status": verdict.status,
        "accounts": [seal.token(number) for number in body.accounts],
    }


async def _register(
    request: Request, who: Principal, bodies: list[PartyBody]
) -> list[dict[str, Any]]:
    async with request.app.state.pool.acquire() as connection:
        verdicts = await registry.register(
            connection, [body.as_party() for body in bodies], who.actor
        )
    return [_answer(body, verdict) for body, verdict in zip(bodies, verdicts, strict=True)]


@router.post("/v1/parties", status_code=201)
async def register(
    body: PartyBody, who: Annotated[Principal, require("parties.register")], request: Request
) -> Response:
    """Register a person or business: 201 with a random opaque id, 200 for a known reference.

    A tax id that is known already is refused with 409 `duplicate_party`, which names the party.
    """
    [answer] = await _register(request, who, [body])
    if answer["status"] == "known_tax_id":
        raise Problem(
            "duplicate_party", "A party with this tax id is registered.", party=answer["party"]
        )
    return JSONResponse(answer, 201 if answer["status"] == "registered" else 200)


@router.post("/v1/parties:batch", max_body_size=BATCH_MAX_BYTES)
async def register_batch(
    body: Batch, who: Annotated[Principal, require("parties.register")], request: Request
) -> dict[str, Any]:
    """Register up to 1,000 parties in one transaction; a verdict for each, in their order."""
    return {"results": await _register(request, who, body.parties)}


@router.get("/v1/parties/{party}")
async def show(
    party: PartyId, _who: Annotated[Principal, require("parties.read")], request: Request
) -> dict[str, Any]:
    """What others may know of a party: nothing personal."""
    async with request.app.state.pool.acquire() as connection:
        found = await registry.find(connection, party)
    return {**found._asdict(), "registered_at": timestamp(found.registered_at)}


@router.post("/v1/parties/{party}/reveal")
async def reveal(
    party: PartyId,
    body: Disclosure,
    who: Annotated[Principal, require("parties.reveal")],
    request: Request,
) -> dict[str, Any]:
    """Personal fields in the clear, for a purpose; on the audit log before anything is shown."""
    details = {"purpose": body.purpose, "fields": " ".join(sorted(set(body.fields)))}
    async with recorded(request, who, "party.revealed", party, details) as connection:
        fields = await disclosure.reveal(connection, party, body.fields)
    return {"party": party, "fields": fields}


@router.post("/v1/parties/{party}/retention")
async def retain(
    party: PartyId,
    body: Retention,
    who: Annotated[Principal, require("parties.retain")],
    request: Request,
) -> dict[str, Any]:
    """Set or lift the legal hold and the last day of retention."""
    details = {"legal_hold": body.legal_hold, "retain_until": body.retain_until}
    until = dt.date.fromisoformat(body.retain_until) if body.retain_until else None
    async with recorded(request, who, "party.retained", party, details) as connection:
        await disclosure.retain(connection, party, legal_hold=body.legal_hold, retain_until=until)
    return {"party": party, **details}


@router.delete("/v1/parties/{party}")
async def erase(
    party: PartyId, who: Annotated[Principal, require("parties.erase")], request: Request
) -> dict[str, Any]:
    """Destroy the party's key: its personal data is gone for good, its id and all proofs stay."""
    async with recorded(request, who, "party.erased", party, {}) as connection:
        version = await disclosure.erase(connection, party, dt.datetime.now(dt.UTC).date())
    return {"party": party, "version": version, "erased": True}
