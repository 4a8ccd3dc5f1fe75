"""A posting rule is put in force, and withdrawn, by two people: by exactly what the second one saw."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest

from ledger_service.engine.verify import verify, verify_new
from ledger_service.security import identities
from tests.integration.engine.populated import sign_in
from tests.integration.engine.test_holds_and_periods import L, code, days_ago
from tests.integration.engine.test_posting_rules import CARD, FEES, PAYABLE
from tests.ledger_api import LEDGER, PASSWORD, Services, processes
from tests.servers import LedgerDatabase

RULES, WITHDRAW = f"{L}/rules", f"{L}/rules/card:withdraw"
OTHER_TERMS: list[dict[str, Any]] = [
    {"rule": "card_2"},
    {"since": days_ago(29)},
    {"tiers": [{"rate": "0.011"}]},
    {"tiers": [{"rate": "0.01", "fixed": "1"}]},
    {"tiers": [{"rate": "0.01", "at_least": "1"}]},
    {"tiers": [{"rate": "0.01"}, {"at_least": "9", "rate": "0.01"}]},
    {"tiering": "volume"},
    {"minimum": "0"},
    {"maximum": "100000"},
    {"rounding": "down"},
    {"debit": [{"account": "{account}", "weight": 2}]},
    {"debit": CARD["credit"], "credit": CARD["debit"]},
    {"credit": [{"account": FEES, "weight": 1}, {"account": PAYABLE, "weight": 1}]},
    {"credit": [{"account": PAYABLE, "weight": 2}, {"account": FEES, "weight": 1}]},
    {"kind": "interest", "day_count": "ACT/360", "debit": [{"account": FEES, "weight": 1}],
     "credit": [{"account": PAYABLE, "weight": 1}]},
]  # fmt: skip
"""What may differ from the rule that was approved; each field by itself: tests/unit/domain/test_approval.py."""


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        asyncio.run(_people(running.owner_url))
        yield running


async def _people(owner_url: str) -> None:
    owner = await asyncpg.connect(owner_url)
    await identities.create_user(owner, "maker", PASSWORD, ["integrator", "approver"])
    await identities.create_user(owner, "approver", PASSWORD, ["approver"])
    await owner.close()


def begin(http: httpx.Client) -> None:
    """A ledger with what the rule credits."""
    assert http.post("/v1/ledgers", json=LEDGER).is_success
    for account in (FEES, PAYABLE):
        assert http.post(f"{L}/accounts", json={"account": account, "currency": "USD"}).is_success


def decide(
    http: httpx.Client, asked: httpx.Response, who: str, decision: str = "approve"
) -> httpx.Response:
    """A person's decision, in a session of their own, on what was asked."""
    assert asked.status_code == 202, asked.text
    body = {"decision": decision, "digest": asked.json()["digest"], "reason": "read every term"}
    path = f"/v1/approvals/{asked.json()['approval']}/decisions"
    return http.post(path, json=body, headers=sign_in(http, who))


def with_approval(asked: httpx.Response, body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "approval": asked.json()["approval"]}


def test_a_rule_is_put_in_force_and_withdrawn_by_two_people(
    services: Services, ledger_database: LedgerDatabase
) -> None:
    def is_sound() -> bool:
        return verify_new(ledger_database.url("verifier")).findings == []

    with services.client() as http:
        begin(http)
        http.headers.update(sign_in(http, "maker"))
        asked = http.post(RULES, json=CARD)
        facts = asked.json()["facts"]
        assert (facts["kind"], facts["tiers"]) == (
            "rule_declaration",
            [{"at_least": "0", "rate": "0.01", "fixed": "0"}],
        )
        terms = with_approval(asked, CARD)
        assert code(http.post(RULES, json=terms)) == (422, "approval_invalid"), "pending"
        assert code(decide(http, asked, "maker")) == (409, "maker_is_checker")
        assert code(http.post(RULES, json=terms)) == (422, "approval_invalid"), "by one person"
        assert decide(http, asked, "approver").is_success
        declared = http.post(RULES, json=terms)
        assert (declared.status_code, declared.json()["approval"]) == (201, terms["approval"])
        assert is_sound()
        again = http.post(RULES, json=CARD)
        assert (again.status_code, again.json()["seq"]) == (200, declared.json()["seq"])

        # spent: what was approved once does not bring the old terms back
        other = {**CARD, "tiers": [{"rate": "0.02"}]}
        asked_other = http.post(RULES, json=other)
        assert decide(http, asked_other, "approver").is_success
        assert http.post(RULES, json=with_approval(asked_other, other)).json()["version"] == 2
        assert code(http.post(RULES, json=terms)) == (422, "approval_invalid"), "spent"

        ends = {"since": days_ago(3)}
        asked = http.post(WITHDRAW, json=ends)
        assert asked.json()["facts"] == {
            "kind": "rule_withdrawal", "ledger": "simulated", "rule": "card", **ends,
        }  # fmt: skip
        refused = http.post(WITHDRAW, json={"since": days_ago(4)})
        assert decide(http, refused, "approver", "refuse").is_success
        assert code(http.post(WITHDRAW, json=with_approval(refused, {"since": days_ago(4)}))) == (
            422,
            "approval_invalid",
        )
        assert decide(http, asked, "approver").is_success
        earlier = with_approval(asked, {"since": days_ago(5)})
        assert code(http.post(WITHDRAW, json=earlier)) == (422, "approval_invalid"), "another day"
        withdrawn = http.post(WITHDRAW, json=with_approval(asked, ends))
        assert (withdrawn.status_code, withdrawn.json()["version"]) == (201, 3)
        assert http.post(WITHDRAW, json=ends).status_code == 200
        assert is_sound()
    assert verify(ledger_database.owner_url).findings == []
    _is_found(ledger_database, withdrawn.json()["seq"])


def _is_found(database: LedgerDatabase, seq: int) -> None:
    """An event whose approval is not there."""
    with psycopg.connect(database.owner_url, autocommit=True) as owner:
        owner.execute("delete from security.approval where consumed_seq = %s", (seq,))
    [found] = [one for one in verify(database.owner_url).findings if one.ledger]
    assert (found.table, found.code, found.seq) == (
        "security.approval",
        "differs_from_journal",
        seq,
    )


def test_only_the_terms_that_were_approved_are_put_in_force(services: Services) -> None:
    with services.client() as http:
        begin(http)
        asked = http.post(RULES, json=CARD)
        assert decide(http, asked, "approver").is_success
        for change in OTHER_TERMS:
            changed = with_approval(asked, {**CARD, **change})
            assert code(http.post(RULES, json=changed)) == (422, "approval_invalid"), change
        assert http.get(RULES).json()["rules"] == []
        assert http.post(RULES, json=with_approval(asked, CARD)).status_code == 201


def test_nobody_is_asked_about_what_would_be_refused(services: Services) -> None:
    with services.client() as http:
        begin(http)
        assert code(http.post(RULES, json={**CARD, "tiers": []})) == (422, "bad_rule")
        unknown = {**CARD, "credit": [{"account": "income:none", "weight": 1}]}
        assert code(http.post(RULES, json=unknown)) == (422, "unknown_account")
        assert code(http.post(WITHDRAW, json={"since": days_ago(3)})) == (404, "unknown_rule")
        tried = http.post(RULES, json={**CARD, "dry_run": True})
        assert tried.status_code == 200
        assert (tried.json()["dry_run"], tried.json()["version"]) == (True, 1)
        assert "approval" not in tried.json()
        assert http.get("/v1/approvals").json()["approvals"] == []
        assert http.get(RULES).json()["rules"] == []
