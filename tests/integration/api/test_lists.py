"""Lists of holds and of what a rule posted: each page against a slow filter, whatever the index does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import asyncpg
import httpx
import pytest

from ledger_service.api import rule_postings
from ledger_service.contract.events import decode_journal, encode
from ledger_service.engine import hold_reads
from tests.ledger_api import Services, processes
from tests.servers import LedgerDatabase

L = "/v1/ledgers/simulated"
A, B, CARD, FBO, FEES = (
    "customer:1:wallet",
    "customer:2:wallet",
    "clearing:card",
    "bank:fbo",
    "income:fees",
)
ROWS = 60_000


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        yield running


def post(http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = http.post(f"{L}/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json()


def lines(debited: str, credited: str, amount: int) -> list[dict[str, str]]:
    return [
        {"account": account, "side": side, "amount": str(amount), "currency": "USD"}
        for account, side in ((debited, "debit"), (credited, "credit"))
    ]


def pages(http: httpx.Client, path: str, what: str, **query: Any) -> list[dict[str, Any]]:
    """All rows of a list, asked for in pages of two."""
    found, before = [], None
    while True:
        asked = {**query, "limit": 2, **({"before": before} if before else {})}
        answer = http.get(f"{L}/{path}", params=asked).json()
        found += answer[what]
        before = answer["next_before"]
        if before is None:
            return found


def begin(http: httpx.Client) -> None:
    opening = {
        "ledger": "simulated", "currencies": ["USD"], "time_zone": "America/New_York",
        "cut_off": "17:00", "calendar": "us_federal_reserve", "chart": "us_fintech_fbo/1",
    }  # fmt: skip
    assert http.post("/v1/ledgers", json=opening).is_success
    for account in (A, B, CARD, FBO, FEES):
        post(http, "accounts", {"account": account, "currency": "USD"})
    for account in (A, B):
        body = {"idempotency_key": f"in {account}", "kind": "deposit"}
        post(http, "transactions", {**body, "entries": lines(FBO, account, 10_000)})


async def test_lists_lose_and_repeat_none(
    services: Services, ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.client() as http:
        begin(http)
        holds = [
            post(http, "holds", {"idempotency_key": f"h{n}", "kind": "card_purchase",
                                 "entries": lines((A, B)[n % 2], CARD, 100 + n)})["seq"]
            for n in range(12)
        ]  # fmt: skip
        for n, seq in enumerate(holds):
            if n % 3 == 0:
                post(http, f"holds/{seq}:capture", {"idempotency_key": f"c{n}", "amount": "5"})
            if n % 6 == 1:
                post(http, f"holds/{seq}:void", {"idempotency_key": f"v{n}", "reason": "x"})
        model = [http.get(f"{L}/holds/{seq}").json() for seq in reversed(holds)]
        released = [hold for hold in model if hold.pop("release") is not None]
        assert [hold["state"] for hold in released] == ["voided"] * 2
        assert pages(http, "holds", "holds") == model
        for state in ("open", "captured", "voided", "expired"):
            of_state = [hold for hold in model if hold["state"] == state]
            assert pages(http, "holds", "holds", state=state) == of_state
            of_both = [hold for hold in of_state if hold["entries"][0]["account"] == A]
            assert pages(http, "holds", "holds", state=state, account=A) == of_both
        assert pages(http, "holds", "holds", account=CARD) == model
        unknown = http.get(f"{L}/holds", params={"account": "customer:9:wallet"})
        assert unknown.json()["code"] == "unknown_account"
        _rules_list_what_they_posted(services, http)
        _any_event_is_read_by_who_may_see_proofs(http, holds[1])
    monkeypatch.setattr(hold_reads, "EXAMINED_MAX", 3)
    connection = await asyncpg.connect(ledger_database.url("api"))
    found, before, looks = [], 2**62, 0
    while before is not None:
        page = await hold_reads.find(
            connection, "simulated", state="voided", before=before, limit=9
        )
        found += [hold["seq"] for hold in page.holds]
        before, looks = page.following, looks + 1
    await connection.close()
    assert found == [hold["seq"] for hold in released]
    assert looks == 5, "twelve holds, three at a time, and the end"


def _rules_list_what_they_posted(services: Services, http: httpx.Client) -> None:
    for name in ("card", "wire"):
        services.by_two(http, f"{L}/rules", {
            "rule": name, "since": "2026-01-01", "kind": "fee", "currency": "USD",
            "tiers": [{"fixed": "7"}], "debit": [{"account": "{account}", "weight": 1}],
            "credit": [{"account": FEES, "weight": 1}],
        })  # fmt: skip
    posted = [
        post(http, f"rules/{('card', 'wire')[n % 2]}:charge",
             {"idempotency_key": f"f{n}", "account": A, "amount": "1"})
        for n in range(7)
    ]  # fmt: skip
    post(
        http,
        "transactions",
        {"idempotency_key": "own", "kind": "fee", "entries": lines(A, FEES, 1)},
    )
    assert pages(http, "rules/card/transactions", "transactions") == posted[::-2]
    assert pages(http, "rules/wire/transactions", "transactions") == posted[-2::-2]
    assert http.get(f"{L}/rules/none/transactions").json()["code"] == "unknown_rule"


def _any_event_is_read_by_who_may_see_proofs(http: httpx.Client, seq: int) -> None:
    raw = http.get(f"{L}/events/{seq}").content
    assert encode(decode_journal(raw)) == raw
    listed = http.get(f"{L}/events", params={"after_seq": seq - 1, "limit": 1}).content
    assert listed == raw + b"\n"
    assert http.get(f"{L}/events/99999").status_code == 404


async def test_a_rule_that_posted_little_is_looked_for_in_bounded_pages(
    services: Services, ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with services.client() as http:
        begin(http)
        _rules_list_what_they_posted(services, http)
        head = http.get(L).json()["seq"]
        known = [one["seq"] for one in pages(http, "rules/wire/transactions", "transactions")]
    monkeypatch.setattr(rule_postings, "PAGE_MAX", 2)
    monkeypatch.setattr(rule_postings, "EXAMINED_MAX", 2)
    connection = await asyncpg.connect(ledger_database.url("api"))
    found, before, places = [], 2**62, []
    while before is not None:
        some, before = await rule_postings.find(
            connection, "simulated", "wire", "fee", before=before, limit=5, head=head
        )
        found += [one["seq"] for one in some]
        places.append(before or 0)
    await connection.close()
    assert found == known
    assert all(earlier > later for earlier, later in pairwise(places))
    assert len(places) == 4, "eight fees, two at a time"


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


async def test_no_page_of_holds_looks_at_more_than_it_may(ledger_database: LedgerDatabase) -> None:
    connection = await asyncpg.connect(ledger_database.owner_url)
    await connection.execute(
        "insert into ledger.hold select 'simulated', seq, "
        f"case when seq <= {ROWS // 3} then 'open' when seq % 7 = 0 then 'voided' "
        "else 'captured' end, "
        "seq, null, array[7, 8 + seq % 997], array[1, -1] "
        f"from generate_series(1, {ROWS}) as seq"
    )
    await connection.execute("vacuum analyze ledger.hold")
    for state in (None, "open", "voided", "expired"):
        for number in (None, 7, 9, 5):
            sql, arguments = hold_reads.question("simulated", state, number, 2**62, 100)
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"set plan_cache_mode = {mode}")
                explained = await connection.fetchval(
                    f"explain (analyze, format json) {sql}", *arguments
                )
                read = [
                    node
                    for node in nodes(json.loads(explained)[0]["Plan"])
                    if node.get("Relation Name") == "hold"
                ]
                assert "Seq Scan" not in {node["Node Type"] for node in read}, (state, number, mode)
                examined = sum(
                    node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read
                )
                most = (
                    200 if state in (None, "open") and number is None else hold_reads.EXAMINED_MAX
                )
                assert examined <= most, (state, number, mode, examined)
    await connection.close()
