"""Maker and checker: in the code, and in the database where the code fails."""

from __future__ import annotations

import asyncio
import datetime as dt

import asyncpg
import msgspec
import pytest

from ledger_service.contract.identifiers import IdentifierError
from ledger_service.contract.rules import Tier
from ledger_service.domain.approval import (
    correction_content,
    declaration_content,
    reversal_content,
)
from ledger_service.security import approvals, identities
from tests.ledger_api import Api
from tests.ledger_book import fee_rule, parts


def content(amount: str = "1250", reversal: str = "rev_a") -> dict:
    return reversal_content(
        ledger="simulated", transaction=7, amount=amount, reason="duplicate", reversal=reversal
    )


async def ask(api: Api, requested_by: str, **options) -> approvals.Approval:
    async with api.pool.acquire() as connection, connection.transaction():
        return await approvals.request_approval(
            connection, content(), subject="rev_a", requested_by=requested_by, **options
        )


async def decide(api: Api, approval: approvals.Approval, headers: dict, **changes):
    body = {"decision": "approve", "digest": approval.digest, "reason": "checked", **changes}
    return await api.http.post(
        f"/v1/approvals/{approval.approval_id}/decisions", json=body, headers=headers
    )


async def consume(url: str, approval: approvals.Approval, digest: str, seq: int = 9) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(
            "select security.consume_approval($1, $2, 'simulated', $3)",
            approval.approval_id,
            digest,
            seq,
        )
    finally:
        await connection.close()


async def request(api: Api, facts: dict) -> approvals.Approval:
    async with api.pool.acquire() as connection, connection.transaction():
        return await approvals.request_approval(
            connection, facts, subject="s", requested_by="usr_m"
        )


async def test_large_amounts_and_hashes_are_no_personal_data(api: Api) -> None:
    facts = correction_content(
        ledger="simulated", corrects=7, kind="transfer", effective_at="2026-07-01T12:00:00Z",
        entries="a:1:b debit 9223372036854775807 USD; a:2:b credit 9223372036854775807 USD",
        content="1234567890abcdef" * 4,
    )  # fmt: skip
    await request(api, facts)
    await request(api, content(amount="100000000000"))
    for name, value in (
        ("reason", "123456789"),
        ("amount", "ssn 123-45-6789"),
        ("content", "123456789"),
        ("entries", "customer:123456789:wallet debit 5 USD"),
    ):
        with pytest.raises(IdentifierError, match=r"personal|digits"):
            await request(api, {**facts, name: value})
    tier = Tier("100000000000", "0.012345678901", "123456789")
    rule = fee_rule("card", tier, minimum="123456789", maximum="9223372036854775807")
    await request(api, dict(declaration_content("simulated", rule)))
    for change in (
        {"credit": parts(("income:123456789", 1))},
        {"tiers": [Tier(rate="0.01"), Tier("ssn 123-45-6789")]},
        {"tiers": [Tier(rate="123-45-6789")]},
    ):
        changed = declaration_content("simulated", msgspec.structs.replace(rule, **change))
        with pytest.raises(IdentifierError, match=r"personal|digits"):
            await request(api, dict(changed))


async def test_an_approval_is_given_once_and_spent_once(api: Api, ledger_database):
    approval = await ask(api, "usr_maker")
    writer = ledger_database.url("writer")
    assert not await consume(writer, approval, approval.digest), "pending"
    shown = (await api.call("auditor", "GET", "/v1/approvals?status=pending")).json()["approvals"]
    assert [one["approval"] for one in shown] == [approval.approval_id]
    assert shown[0]["facts"] == content()

    checker = await api.sign_in("approver")
    assert (await decide(api, approval, checker, digest="0" * 64)).json()["code"] == (
        "digest_mismatch"
    )
    decided = await decide(api, approval, checker)
    assert decided.status_code == 200, decided.text
    assert decided.json()["decided_by"] == api.users["approver"]
    assert (await decide(api, approval, checker)).json()["code"] == "approval_decided"

    assert not await consume(writer, approval, "0" * 64), "another content"
    spent = await asyncio.gather(
        *(consume(writer, approval, approval.digest, seq) for seq in range(10, 16))
    )
    assert sorted(spent) == [False] * 5 + [True]
    found = await api.call("auditor", "GET", f"/v1/approvals/{approval.approval_id}")
    assert found.json()["status"] == "consumed"


async def test_a_refused_or_late_approval_can_not_be_spent(api: Api, ledger_database):
    checker = await api.sign_in("approver")
    refused = await ask(api, "usr_maker")
    assert (await decide(api, refused, checker, decision="refuse")).json()["status"] == "refused"
    late = await ask(api, "usr_maker", lifetime=dt.timedelta(seconds=-1))
    assert (await decide(api, late, checker)).json()["code"] == "approval_expired"
    approved = await ask(api, "usr_maker")
    assert (await decide(api, approved, checker)).status_code == 200
    await api.owner.execute("alter table security.approval disable trigger one_way")
    await api.owner.execute("update security.approval set expires_at = now()")
    await api.owner.execute("alter table security.approval enable trigger one_way")
    for one in (refused, late, approved):
        assert not await consume(ledger_database.url("writer"), one, one.digest)


async def test_the_maker_can_not_be_the_checker(api: Api):
    checker = await api.sign_in("approver")
    me = api.users["approver"]
    key = await identities.create_key(api.owner, "held", ["operator"], holder=me)
    for maker in (me, key.row_id):
        answer = await decide(api, await ask(api, maker), checker)
        assert answer.status_code == 409
        assert answer.json()["code"] == "maker_is_checker"
    log = (await api.call("auditor", "GET", "/v1/audit-log")).json()["rows"]
    refusals = [row for row in log if row["action"] == "approval.decided"]
    assert [row["details"]["code"] for row in refusals] == ["maker_is_checker"] * 2
    assert {row["outcome"] for row in refusals} == {"refused"}


async def test_the_database_holds_the_rule_by_itself(api: Api):
    """Whatever the code forgets: another's session, one's own request, a second life."""
    await api.sign_in("approver")
    await api.sign_in("operator")
    sessions = dict(await api.owner.fetch("select user_id, session_id from security.session"))
    me, other = api.users["approver"], api.users["operator"]
    approval = await ask(api, me)
    update = """update security.approval set status = $2, decided_by = $3, session_id = $4,
                decided_at = now(), reason = 'forged' where approval_id = $1"""
    for status, by, session in (
        ("approved", me, sessions[me]),
        ("approved", other, sessions[me]),
        ("approved", other, None),
        ("consumed", other, sessions[other]),
    ):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await api.pool.execute(update, approval.approval_id, status, by, session)
    await api.pool.execute(update, approval.approval_id, "refused", other, sessions[other])
    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await api.pool.execute(update, approval.approval_id, "approved", other, sessions[other])
    for forbidden in (
        "update security.approval set facts = '{}'",
        "update security.approval set digest = repeat('0', 64)",
        "update security.approval set requested_by = 'usr_other'",
        "delete from security.approval",
        "select security.consume_approval('', '', '', 1)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.pool.execute(forbidden)


async def test_only_a_person_decides(api: Api, ledger_database):
    approval = await ask(api, "usr_maker")
    answer = await decide(api, approval, {"Authorization": f"Bearer {api.keys['approver']}"})
    assert answer.json()["code"] == "session_required"
    assert (await decide(api, approval, await api.sign_in("operator"))).json()[
        "code"
    ] == "forbidden"
    worker = await asyncpg.connect(ledger_database.url("worker"))
    try:
        assert await worker.fetchval("select count(*) from security.approval") == 1
        for forbidden in (
            "update security.approval set status = 'approved'",
            "insert into security.approval select * from security.approval",
            "select security.consume_approval('', '', '', 1)",
            "select * from security.session",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await worker.execute(forbidden)
    finally:
        await worker.close()
