"""The vault through its routes: registering, reading by purpose, keeping, erasing, files."""

from __future__ import annotations

import base64

import asyncpg
import pytest

from ledger_service.contract.events import decode_stream
from ledger_service.parties import disclosure, files, registry, seal
from tests.ledger_api import Api

ADA = {
    "kind": "person",
    "name": "Ada Canary",
    "country": "US",
    "risk_tier": "low",
    "tax_id": "078-05-1120",
    "birth_date": "1970-12-31",
    "address": "1 Main Street, Springfield",
    "accounts": ["000123456789", "DE89 3704 0044 0532 0130 00"],
}


async def register(api: Api, **changes) -> str:
    answer = await api.call("operator", "POST", "/v1/parties", json={**ADA, **changes})
    assert answer.status_code == 201, answer.text
    return answer.json()["party"]


async def reveal(api: Api, party: str, *fields: str, role: str = "compliance"):
    body = {"purpose": "alert_review", "fields": list(fields)}
    return await api.call(role, "POST", f"/v1/parties/{party}/reveal", json=body)


async def test_a_party_is_sealed_announced_and_read_by_purpose(api: Api):
    answer = await api.call("operator", "POST", "/v1/parties", json=ADA)
    party = answer.json()["party"]
    assert answer.json()["accounts"] == [seal.token("000123456789"), seal.token(ADA["accounts"][1])]
    [event] = await api.owner.fetch("select subject, bytes from stream.event")
    announced = decode_stream(bytes(event["bytes"]))
    assert (announced.party, announced.version, announced.erased) == (party, 1, False)
    shown = await api.call("analyst", "GET", f"/v1/parties/{party}")
    assert shown.json()["risk_tier"] == "low"
    assert "Ada" not in shown.text

    assert (await reveal(api, party, "name", role="operator")).status_code == 403
    seen = await reveal(api, party, "name", "tax_id", "accounts")
    assert seen.json()["fields"] == {
        "name": ADA["name"],
        "tax_id": ADA["tax_id"],
        "accounts": "\n".join(ADA["accounts"]),
    }
    log = (await api.call("auditor", "GET", "/v1/audit-log")).json()["rows"]
    row = next(row for row in log if row["action"] == "party.revealed")
    assert row["subject"] == party
    assert row["details"]["purpose"] == "alert_review"
    assert row["details"]["fields"] == "accounts name tax_id"


async def test_a_repeat_is_recognised_by_reference_or_tax_id(api: Api):
    party = await register(api, reference="customer 42")
    again = await api.call(
        "operator", "POST", "/v1/parties", json={**ADA, "reference": "customer 42"}
    )
    assert (again.status_code, again.json()["party"]) == (200, party)
    twin = await api.call(
        "operator", "POST", "/v1/parties", json={**ADA, "tax_id": "078051120", "name": "Twin"}
    )
    assert twin.status_code == 409
    assert twin.json()["party"] == party
    assert (await register(api, kind="business")) != party
    batch = {
        "parties": [
            {**ADA, "tax_id": "111-22-3333"},
            {**ADA, "tax_id": "111 22 3333"},
            {**ADA, "tax_id": None},
            ADA,
        ]
    }
    answer = await api.call("integrator", "POST", "/v1/parties:batch", json=batch)
    results = answer.json()["results"]
    assert [one["status"] for one in results] == [
        "registered",
        "known_tax_id",
        "registered",
        "known_tax_id",
    ]
    assert results[0]["party"] == results[1]["party"]
    assert results[3]["party"] == party
    announced = await api.owner.fetchval("select count(*) from stream.event")
    assert announced == await api.owner.fetchval("select count(*) from vault.party") == 4


async def test_a_value_moved_to_another_place_does_not_open(api: Api):
    ada = await register(api)
    eve = await register(api, tax_id="111-22-3333", name="Eve")
    await api.owner.execute(
        """update vault.field f set sealed = o.sealed from vault.field o
            where f.party_id = $1 and f.field = 'address'
              and o.party_id = $1 and o.field = 'tax_id'""",
        ada,
    )
    answer = await reveal(api, ada, "address")
    assert answer.status_code == 500
    assert ADA["tax_id"] not in answer.text
    await api.owner.execute(
        """update vault.party p set wrapped_key = o.wrapped_key from vault.party o
            where p.party_id = $1 and o.party_id = $2""",
        eve,
        ada,
    )
    assert (await reveal(api, eve, "name")).status_code == 500


async def test_erasing_destroys_the_key_unless_the_law_forbids(api: Api):
    party = await register(api, reference="customer 42")
    path = f"/v1/parties/{party}"
    for hold in (
        {"legal_hold": True, "retain_until": None},
        {"legal_hold": False, "retain_until": "2999-12-31"},
    ):
        assert (
            await api.call("compliance", "POST", f"{path}/retention", json=hold)
        ).status_code == 200
        refused = await api.call("administrator", "DELETE", path)
        assert refused.status_code == 409
        assert refused.json()["code"] == "retention_applies"
    assert (await reveal(api, party, "name")).status_code == 200
    past = {"legal_hold": False, "retain_until": "2020-01-01"}
    await api.call("compliance", "POST", f"{path}/retention", json=past)
    erased = await api.call("administrator", "DELETE", path)
    assert erased.json() == {"party": party, "version": 2, "erased": True}

    assert (await reveal(api, party, "name")).json()["code"] == "party_erased"
    assert (await api.call("administrator", "DELETE", path)).json()["code"] == "party_erased"
    assert (await api.call("analyst", "GET", path)).json()["erased"] is True
    row = await api.owner.fetchrow("select * from vault.party")
    assert row["wrapped_key"] is None
    assert row["reference_digest"] is None
    for table in ("vault.field", "vault.blind_index"):
        assert await api.owner.fetchval(f"select count(*) from {table}") == 0
    last = await api.owner.fetchval("select bytes from stream.event order by seq desc limit 1")
    assert decode_stream(bytes(last)).erased
    log = (await api.call("auditor", "GET", "/v1/audit-log")).json()["rows"]
    outcomes = [row["outcome"] for row in log if row["action"] == "party.erased"]
    assert outcomes == ["refused", "refused", "done", "refused"]


async def test_files_are_sealed_found_again_and_survive_a_rotation(
    api: Api, monkeypatch, ledger_database
):
    content = b"01,PARTNER,000123456789\n" * 100
    stored = await files.store_file(api.pool, content, "bai2", "sandbox_bank")
    again = await files.store_file(api.pool, content, "bai2", "sandbox_bank")
    assert (again.file, stored.duplicate, again.duplicate) == (stored.file, False, True)
    sealed = await api.owner.fetchval("select sealed from vault.file")
    assert b"000123456789" not in bytes(sealed)
    party = await register(api)

    old = base64.b64encode(b"v" * 32).decode()
    new = base64.b64encode(b"w" * 32).decode()
    monkeypatch.setenv("TALLYSTICK_VAULT_KEY", f"{new},{old}")
    async with api.pool.acquire() as connection:
        assert await disclosure.rewrap(connection) == 2
        assert await disclosure.rewrap(connection) == 0
        monkeypatch.setenv("TALLYSTICK_VAULT_KEY", new)
        assert await files.read_file(connection, stored.file) == content
        assert (await disclosure.reveal(connection, party, ["name"]))["name"] == ADA["name"]


async def test_only_the_api_reads_the_vault(api: Api, ledger_database):
    await register(api)
    for role in ("writer", "relay", "worker"):
        connection = await asyncpg.connect(ledger_database.url(role))
        try:
            for table in ("party", "field", "blind_index", "file"):
                with pytest.raises(asyncpg.InsufficientPrivilegeError):
                    await connection.fetch(f"select * from vault.{table}")
        finally:
            await connection.close()


async def test_a_party_that_can_not_be_announced_is_not_registered(api: Api):
    await api.owner.execute("delete from stream.head where stream = 'parties'")
    async with api.pool.acquire() as connection:
        with pytest.raises(LookupError):
            await registry.register(
                connection, [registry.NewParty("person", "US", "low", {"name": "x"})], "key_a"
            )
    assert await api.owner.fetchval("select count(*) from vault.party") == 0
