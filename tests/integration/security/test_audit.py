"""The audit log: append-only, and a chain that tells where it was broken."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from ledger_service.contract.identifiers import IdentifierError
from ledger_service.security import audit
from tests.ledger_api import Api


async def fill(api: Api, count: int) -> None:
    async def one(number: int) -> None:
        await audit.record(
            api.pool, actor="key_a", action="test.done", subject=f"thing {number}", details={"n": 1}
        )

    await asyncio.gather(*(one(number) for number in range(count)))


async def test_the_chain_holds_and_names_what_was_changed(api: Api):
    await fill(api, 20)
    assert await audit.verify_chain(api.pool) == audit.Verdict(20, None)
    for tampering, broken_at in (
        ("update security.audit_log set content = content || ' ' where seq = 7", 7),
        ("delete from security.audit_log where seq = 12", 12),
        ("delete from security.audit_log where seq = 20", 20),
        ("update security.audit_log set seq = 21 where seq = 20", 20),
    ):
        change = api.owner.transaction()
        await change.start()
        await api.owner.execute("alter table security.audit_log disable trigger append_only")
        await api.owner.execute(tampering)
        assert (await audit.verify_chain(api.owner)).broken_at == broken_at, tampering
        await change.rollback()
    assert (await audit.verify_chain(api.pool)).broken_at is None


async def test_nobody_who_serves_can_change_it(api: Api):
    await fill(api, 1)
    for statement in (
        "update security.audit_log set hash = hash",
        "delete from security.audit_log",
        "truncate security.audit_log",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.pool.execute(statement)
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await api.owner.execute(statement)
    for statement in (
        "insert into security.audit_log (seq, content, hash) values (9, '{}', '')",
        "update security.audit_head set seq = 0",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.pool.execute(statement)


async def test_personal_data_does_not_enter(api: Api):
    with pytest.raises(IdentifierError):
        await audit.record(api.pool, actor="key_a", action="test.done", subject="078-05-1120")
    with pytest.raises(IdentifierError):
        await audit.record(
            api.pool, actor="key_a", action="test.done", subject="x", details={"n": "123456789"}
        )


async def test_pages_follow_each_other(api: Api):
    await fill(api, 5)
    seen, after = [], 0
    while after is not None:
        page = await api.call("auditor", "GET", f"/v1/audit-log?after={after}&limit=2")
        seen += [row["seq"] for row in page.json()["rows"]]
        after = page.json()["next_after"]
    assert seen == [1, 2, 3, 4, 5]
