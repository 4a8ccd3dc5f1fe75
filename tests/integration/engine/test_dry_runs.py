"""Anything can be tried first: a dry run says what would be recorded, and records nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.integration.engine.test_holds_and_periods import lines
from tests.ledger_api import LEDGER, Services, processes
from tests.servers import LedgerDatabase

L = "/v1/ledgers/simulated"
A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
DIFFER = ("seq", "recorded_at", "request_id", "effective_at", "dry_run")
"""Of an event that is tried and then recorded; what is not `seq` or tells the time stays."""
FEE = {
    "rule": "card_fee", "since": "2026-01-01", "kind": "fee", "currency": "USD",
    "tiers": [{"fixed": "30"}],
    "debit": [{"account": "{account}", "weight": 1}],
    "credit": [{"account": "income:fees", "weight": 1}],
}  # fmt: skip


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        yield running


def transfer(key: str, payer: str, payee: str, amount: int, **more: Any) -> dict[str, Any]:
    moved = lines(payer, payee, amount)
    return {"idempotency_key": key, "kind": "transfer", "entries": moved, **more}


def posted_seq(http: httpx.Client) -> int:
    return http.get(f"{L}/progress").json()["posted_seq"]


def test_every_command_can_be_tried_and_then_done(services: Services) -> None:
    with services.client() as http:

        def tried(
            path: str, body: dict[str, Any], *, method: str = "POST", is_done: bool = True
        ) -> dict[str, Any]:
            """Try it, and do it; gives what was recorded, or else what would be."""
            stood = posted_seq(http)
            dry = http.request(method, f"{L}{path}", json={**body, "dry_run": True})
            assert (dry.status_code, dry.json().get("dry_run")) == (200, True), dry.text
            assert posted_seq(http) == stood
            assert dry.json()["seq"] == stood + 1
            if not is_done:
                return dry.json()
            done = http.request(method, f"{L}{path}", json=body)
            assert done.is_success, done.text
            recorded = http.get(f"{L}/events/{stood + 1}").json()
            assert {k: v for k, v in dry.json().items() if k not in DIFFER} == {
                k: v for k, v in recorded.items() if k not in DIFFER
            }
            return recorded

        dry = http.post("/v1/ledgers", json={**LEDGER, "dry_run": True})
        assert (dry.status_code, dry.json()["seq"], dry.json()["dry_run"]) == (200, 1, True)
        assert http.get("/v1/ledgers").json() == {"ledgers": []}
        bad = http.post("/v1/ledgers", json={**LEDGER, "time_zone": "Mars", "dry_run": True})
        assert (bad.status_code, bad.json()["code"]) == (422, "bad_time_zone")
        assert http.post("/v1/ledgers", json=LEDGER).status_code == 201

        for account in (A, B, FBO, "income:fees"):
            tried("/accounts", {"account": account, "currency": "USD"})
        tried("/currencies", {"currency": "POINTS", "exponent": 9})
        funding = tried("/transactions", transfer("fund", FBO, A, 500))
        hold = tried("/holds", transfer("hold", A, B, 100))["seq"]
        part = {"idempotency_key": "part", "amount": "40", "ends_hold": False}
        assert tried(f"/holds/{hold}:capture", part)["captures"] == hold
        tried(f"/holds/{hold}:void", {"idempotency_key": "void", "reason": "cancelled"})
        tried(f"/accounts/{B}", {"status": "frozen", "reason": "court_order"}, method="PATCH")
        tried(f"/accounts/{B}", {"status": "open", "reason": "court_order"}, method="PATCH")
        # what a second person approves is tried before anybody is asked
        back = {"idempotency_key": "back", "reason": "duplicate", "amount": "200"}
        undone = tried(f"/transactions/{funding['seq']}:reverse", back, is_done=False)
        assert [one["amount"] for one in undone["entries"]] == ["200", "200"]
        declared = tried("/rules", FEE, is_done=False)
        assert declared["tiers"] == [{"fixed": "30"}]
        late = {"effective_at": "2026-01-30T12:00:00Z", "corrects": funding["seq"]}
        tried("/transactions", transfer("late", FBO, A, 5, **late), is_done=False)

        tried("/days/2026-01-30:attest", {"reference": "stmt_1"})
        tried("/periods:soft-close", {"through": "2026-01-31"})
        closed = tried("/periods:close", {"through": "2026-01-31"})
        assert {"day_sums_equal_balances", "sequence_gapless"} <= set(closed["checks"])
        since = {"since": "2026-01-31", "reason": "late_invoice"}
        assert tried("/periods:reopen", since, is_done=False)["since"] == "2026-01-31"
        assert http.get("/v1/approvals").json()["approvals"] == []


def test_a_batch_is_tried_as_a_whole(services: Services) -> None:
    with services.client() as http:
        assert http.post("/v1/ledgers", json=LEDGER).status_code == 201
        accounts = [{"account": name, "currency": "USD", "floor": "0"} for name in (A, B)]
        accounts.append({"account": FBO, "currency": "USD"})
        http.post(f"{L}/accounts:batch", json={"accounts": accounts})
        stood = posted_seq(http)
        # each as if those before it were done: B can pay only what it is given
        chain = [
            {"do": "post", **transfer("1", FBO, A, 50)},
            {"do": "post", **transfer("2", A, B, 50)},
            {"do": "hold", **transfer("3", B, FBO, 30)},
            {"do": "post", **transfer("4", B, FBO, 30)},
        ]
        for linked, expected in (
            (False, ["possible", "possible", "possible", "floor_passed"]),
            (True, ["linked_batch_refused"] * 3 + ["floor_passed"]),
        ):
            body = {"commands": chain, "linked": linked, "dry_run": True}
            results = http.post(f"{L}/commands:batch", json=body).json()["results"]
            assert [one.get("code", one["status"]) for one in results] == expected
        many = [transfer(f"m{number}", FBO, A, 1) for number in range(300)]
        body = {"transactions": many, "dry_run": True}
        results = http.post(f"{L}/transactions:batch", json=body).json()["results"]
        assert [one["status"] for one in results] == ["possible"] * 300
        assert posted_seq(http) == stood
        assert http.get(f"{L}/accounts/{A}").json()["posted"] == "0"
        # the keys are free, and the same batch is then done
        done = http.post(f"{L}/commands:batch", json={"commands": chain[:3], "linked": True}).json()
        assert [one["seq"] for one in done["results"]] == [stood + 1, stood + 2, stood + 3]
