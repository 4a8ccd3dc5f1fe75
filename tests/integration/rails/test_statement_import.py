"""A bank's file through the API into the stream: once, whole, and without what it says of people."""

from __future__ import annotations

import asyncio
import datetime as dt

import pytest

from ledger_service.contract.events import (
    StatementAccountRegistered,
    StatementLine,
    StatementReceived,
    decode_stream,
)
from ledger_service.rails.statements import bai2_writer, camt053
from ledger_service.rails.statements.model import Line, Statement
from tests.ledger_api import Api, serving

DAY = dt.date(2026, 7, 1)
NOW = dt.datetime(2026, 7, 2, tzinfo=dt.UTC)
NUMBER = "026009593001234"
SSN = "078-05-1120"


@pytest.fixture
async def api(ledger_database, monkeypatch):
    async with serving(ledger_database, monkeypatch) as running:
        yield running


def _statement(number: str = NUMBER, closing: int | None = 1_500) -> Statement:
    lines = (
        Line("credit", 2_000, DAY, "142", "pay.7KQ", f"PAYROLL OF JANE CANARY {SSN}"),
        Line("debit", 400, DAY, "455", SSN, "BILL"),
        Line("debit", 100, DAY, "475", None),
    )
    return Statement(number, "USD", DAY, 0, closing, lines)


def _file(*statements: Statement) -> bytes:
    return bai2_writer.write(statements, sender="BANK", receiver="US", created=NOW)


async def _register(api: Api, number: str = NUMBER, **changes):
    body = {
        "bank": "sandbox_bank",
        "account_number": number,
        "ledger": "books",
        "account": "bank:fbo",
        "purpose": "fbo",
        **changes,
    }
    return await api.call("integrator", "POST", "/v1/statement-accounts", json=body)


async def _send(api: Api, raw: bytes):
    return await api.call("service", "POST", "/v1/statements?bank=sandbox_bank", content=raw)


async def _events(api: Api):
    rows = await api.owner.fetch(
        "select bytes from stream.event where stream = 'statements' order by seq"
    )
    return [decode_stream(row["bytes"]) for row in rows]


async def test_a_file_is_announced_once_and_nothing_personal_with_it(api: Api):
    token = (await _register(api)).json()["statement_account"]
    raw = _file(_statement())
    first = await _send(api, raw)
    assert (first.status_code, first.json()["statements"], first.json()["lines"]) == (201, 1, 3)
    again = await _send(api, raw)
    assert (again.status_code, again.json()["duplicate"], again.json()["lines"]) == (200, True, 0)
    # The same day in another file is the same statement, not more money.
    resent = await _send(api, _file(_statement()).replace(b",260702,0000,1,", b",260702,0000,2,"))
    assert [item["reason"] for item in resent.json()["quarantined"]] == ["statement_known"]

    registered, received, *lines = await _events(api)
    assert isinstance(registered, StatementAccountRegistered)
    assert isinstance(received, StatementReceived)
    assert (received.statement_account, received.closing_balance) == (token, "1500")
    assert (received.opening_balance, received.line_count) == ("0", 3)
    assert [(line.side, line.amount) for line in lines if isinstance(line, StatementLine)] == [
        ("credit", "2000"),
        ("debit", "400"),
        ("debit", "100"),
    ]
    assert lines[0].reference == "pay.7KQ"
    assert lines[1].reference.startswith("ref_")
    assert lines[2].reference is None
    stored = b"".join(
        row["bytes"] for row in await api.owner.fetch("select bytes from stream.event")
    )
    for table in ("account", "file", "statement", "quarantine"):
        stored += str(await api.owner.fetch(f"select * from statement.{table}")).encode()
    for canary in (NUMBER, SSN, "CANARY"):
        assert canary.encode() not in stored


async def test_an_unknown_account_waits_in_quarantine_until_it_is_registered(api: Api):
    await _register(api)
    raw = _file(_statement(), _statement("999"), _statement("998", closing=None))
    sent = (await _send(api, raw)).json()
    assert (sent["statements"], sent["duplicate"]) == (1, False)
    assert [(item["position"], item["reason"]) for item in sent["quarantined"]] == [
        (2, "unknown_statement_account"),
        (3, "unknown_statement_account"),
    ]
    await _register(api, "999", account="bank:operating", purpose="operating")
    await _register(api, "998", account="bank:operating", purpose="operating")
    sent = (await _send(api, raw)).json()
    assert (sent["statements"], sent["duplicate"]) == (1, False)
    assert [(item["position"], item["reason"]) for item in sent["quarantined"]] == [
        (3, "no_closing_balance")
    ]
    [file] = (await api.call("auditor", "GET", "/v1/statements")).json()["files"]
    assert (file["statements"], file["imported"], file["quarantined"]) == (3, 2, 1)


async def test_two_deliveries_at_once_import_once(api: Api):
    await _register(api)
    raw = _file(_statement())
    answers = await asyncio.gather(*(_send(api, raw) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 200, 201]
    assert sum(isinstance(event, StatementReceived) for event in await _events(api)) == 1


async def test_what_is_no_statement_leaves_nothing(api: Api):
    await _register(api)
    raw = camt053.write([_statement()], message_id="m", created=NOW)
    refused = await _send(api, raw.replace(b">20.00<", b">20.01<", 1))
    assert refused.status_code == 422
    assert (refused.json()["code"], refused.json()["statement_code"]) == (
        "bad_statement",
        "control_differs",
    )
    assert await api.owner.fetchval("select count(*) from statement.file") == 0
    assert len(await _events(api)) == 1
    assert (await _send(api, raw)).status_code == 201


async def test_registering_is_idempotent_and_conflicts_are_named(api: Api):
    first, again = await _register(api), await _register(api)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    conflict = await _register(api, account="bank:operating")
    assert (conflict.status_code, conflict.json()["code"]) == (409, "statement_account_conflict")
    assert len(await _events(api)) == 1
    assert (
        await api.call("analyst", "POST", "/v1/statements?bank=b2", content=b"")
    ).status_code == 403
