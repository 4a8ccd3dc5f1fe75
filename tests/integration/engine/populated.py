"""A database with rows in every table, made through the doors that make them in production."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger_service.engine import checkpoints
from ledger_service.engine.verify import Keys
from ledger_service.payments import reversals
from ledger_service.rails.statements import bai2_writer
from ledger_service.rails.statements.model import Line, Statement
from ledger_service.security import identities
from tests.ledger_api import KEYS as SETTINGS
from tests.ledger_api import PASSWORD, Services, processes
from tests.servers import LedgerDatabase

LOG, WITNESS = (Ed25519PrivateKey.from_private_bytes(seed * 32) for seed in (b"l", b"w"))
KEYS = Keys(checkpoints.public_bytes(LOG), checkpoints.public_bytes(WITNESS))
LEDGER = "books"
A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
DAY = dt.date(2026, 7, 1)
NUMBER = "026009593001234"


def populate(database: LedgerDatabase, folder: Path, patch: Any) -> None:
    """Post 300 transactions, reverse one, register and erase parties, import statements, sign in."""
    for name, value in SETTINGS.items():
        patch.setenv(name, value)
    with processes(database, folder) as services, services.client() as api:
        open_books(api)
        _parties(api)
        _statements(api)
        asyncio.run(make_people(database.owner_url))
        _reversal(api, services)
        _holds_and_periods(api)
        _rules(api)
    _checkpoint(database)
    with psycopg.connect(database.owner_url) as connection:
        connection.execute(
            "insert into stream.relay_position values ('tallystick.books.journal.v1', 17)"
        )


def _done(answer: httpx.Response) -> Any:
    assert answer.status_code < 300, answer.text
    return answer.json()


def open_books(api: httpx.Client) -> None:
    opening = {
        "ledger": LEDGER, "currencies": ["USD"], "time_zone": "America/New_York",
        "cut_off": "17:00", "calendar": "us_federal_reserve", "chart": "us_fintech_fbo/1",
    }  # fmt: skip
    _done(api.post("/v1/ledgers", json=opening))
    for account in (A, B, FBO):
        body = {"account": account, "currency": "USD"}
        _done(api.post(f"/v1/ledgers/{LEDGER}/accounts", json=body))
    batch = [
        {
            "idempotency_key": f"k{number}", "kind": "transfer",
            "metadata": {"invoice": f"i{number % 7}"},
            **({"effective_at": "2026-06-30T12:00:00Z"} if number == 9 else {}),
            "entries": [
                {"account": A, "side": "debit", "amount": "100", "currency": "USD"},
                {"account": B, "side": "credit", "amount": "100", "currency": "USD"},
            ],
        }
        for number in range(300)
    ]  # fmt: skip
    _done(api.post(f"/v1/ledgers/{LEDGER}/transactions:batch", json={"transactions": batch}))


def _holds_and_periods(api: httpx.Client) -> None:
    """A hold captured in part and one still whole; a month closed and a day attested."""
    entries = [
        {"account": A, "side": "debit", "amount": "60", "currency": "USD"},
        {"account": B, "side": "credit", "amount": "60", "currency": "USD"},
    ]
    for key in ("h1", "h2"):
        body = {"idempotency_key": key, "kind": "card_purchase", "entries": entries}
        placed = _done(api.post(f"/v1/ledgers/{LEDGER}/holds", json=body))["seq"]
    part = {"idempotency_key": "c1", "amount": "25", "ends_hold": False}
    _done(api.post(f"/v1/ledgers/{LEDGER}/holds/{placed}:capture", json=part))
    _done(api.post(f"/v1/ledgers/{LEDGER}/periods:close", json={"through": "2026-01-31"}))
    _done(api.post(f"/v1/ledgers/{LEDGER}/days/2026-02-03:attest", json={"reference": "stm"}))


def _rules(api: httpx.Client) -> None:
    """A currency of the ledger's own, and interest by a rule, accrued and capitalized."""
    for account in ("expense:interest", "payable:interest"):
        body = {"account": account, "currency": "USD"}
        _done(api.post(f"/v1/ledgers/{LEDGER}/accounts", json=body))
    coins = {"currency": "POINTS", "exponent": 0}
    _done(api.post(f"/v1/ledgers/{LEDGER}/currencies", json=coins))
    rule = {
        "rule": "save", "since": "2026-01-01", "kind": "interest", "currency": "USD",
        "tiers": [{"rate": "0.5"}], "day_count": "ACT/360",
        "debit": [{"account": "expense:interest", "weight": 1}],
        "credit": [{"account": "payable:interest", "weight": 1}],
    }  # fmt: skip
    path = f"/v1/ledgers/{LEDGER}/rules"
    approval = _done(api.post(path, json=rule))["approval"]
    approve(api, approval)
    _done(api.post(path, json={**rule, "approval": approval}))
    path += "/save"
    through = (dt.datetime.now(dt.UTC) - dt.timedelta(days=2)).date().isoformat()
    accrual = {"idempotency_key": "a1", "account": B, "through": through}
    _done(api.post(f"{path}:accrue", json=accrual))
    _done(api.post(f"{path}:capitalize", json={"idempotency_key": "a2", "account": B}))


def _parties(api: httpx.Client) -> None:
    for number in (1, 2):
        body = {
            "kind": "person", "country": "US", "risk_tier": "low", "name": f"Canary {number}",
            "tax_id": f"078-05-112{number}", "birth_date": "1980-01-01", "accounts": [],
        }  # fmt: skip
        party = _done(api.post("/v1/parties", json=body))["party"]
    _done(api.request("DELETE", f"/v1/parties/{party}"))


def _statements(api: httpx.Client) -> None:
    body = {
        "bank": "sandbox_bank", "account_number": NUMBER, "ledger": LEDGER, "account": FBO,
        "purpose": "fbo",
    }  # fmt: skip
    _done(api.post("/v1/statement-accounts", json=body))
    line = Line("credit", 1_500, DAY, "142", "pay.7KQ", "PAYROLL")
    days = [Statement(number, "USD", DAY, 0, 1_500, (line,)) for number in (NUMBER, "99887766")]
    now = dt.datetime(2026, 7, 2, tzinfo=dt.UTC)
    raw = bai2_writer.write(days, sender="BANK", receiver="US", created=now)
    imported = _done(api.post("/v1/statements?bank=sandbox_bank", content=raw))
    assert (imported["statements"], len(imported["quarantined"])) == (1, 1)


async def make_people(owner_url: str) -> None:
    owner = await asyncpg.connect(owner_url)
    try:
        for role in ("operator", "approver"):
            await identities.create_user(owner, role, PASSWORD, [role])
    finally:
        await owner.close()


def sign_in(api: httpx.Client, user: str) -> dict[str, str]:
    """Headers of a session."""
    body = {"username": user, "password": PASSWORD}
    return {"Authorization": f"Bearer {_done(api.post('/v1/sessions', json=body))['token']}"}


def approve(api: httpx.Client, approval: str) -> None:
    """As the approver, in a session of their own."""
    found = _done(api.get(f"/v1/approvals/{approval}"))
    body = {"decision": "approve", "digest": found["digest"], "reason": "looked at it"}
    headers = sign_in(api, "approver")
    _done(api.post(f"/v1/approvals/{approval}/decisions", json=body, headers=headers))


def _reversal(api: httpx.Client, services: Services) -> None:
    wrong = {"username": "nobody", "password": "x"}
    assert api.post("/v1/sessions", json=wrong).status_code == 401
    ask = {"transaction": 9, "reason": "duplicate", "idempotency_key": "r"}
    asked = _done(api.post(f"/v1/ledgers/{LEDGER}/reversals", json=ask))
    approve(api, asked["approval"])
    body = {
        "idempotency_key": "r", "approval": asked["approval"], "reason": "duplicate",
        "reversal": asked["reversal"],
    }  # fmt: skip
    executed = _done(api.post(f"/v1/ledgers/{LEDGER}/transactions/9:reverse", json=body))
    asyncio.run(_executed(services.owner_url, asked["reversal"], executed["seq"]))


async def _executed(owner_url: str, reversal: str, seq: int) -> None:
    """What the worker writes on the way."""
    owner = await asyncpg.connect(owner_url)
    try:
        for status in ("awaiting_approval", "approved"):
            await reversals.advance(owner, reversal, status, actor="worker")
        await reversals.advance(owner, reversal, "executed", actor="worker", executed_seq=seq)
    finally:
        await owner.close()


def _checkpoint(database: LedgerDatabase) -> None:
    """A checkpoint of everything, cosigned, in the place of those that happened to be made."""

    async def connect() -> asyncpg.Connection:
        return await asyncpg.connect(database.url("writer"))

    with psycopg.connect(database.owner_url) as connection:
        connection.execute("delete from ledger.checkpoint")
    size = asyncio.run(checkpoints.Publisher(LOG, "log.test").publish(connect, LEDGER))
    with psycopg.connect(database.owner_url) as connection:
        row = connection.execute("select note from ledger.checkpoint").fetchone()
        assert row is not None
        line = checkpoints.cosign(checkpoints.parse(row[0]), "w.test", WITNESS, 1_780_000_000)
        connection.execute(
            "insert into ledger.cosignature values (%s, %s, 'w.test', %s)", (LEDGER, size, line)
        )
