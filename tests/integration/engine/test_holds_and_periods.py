"""Holds and periods over HTTP, against API and writer as processes, across restarts of both."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from ledger_service.contract import events
from ledger_service.contract.events import timestamp
from ledger_service.engine.verify import verify, verify_new
from tests.ledger_api import LEDGER, Services, days_ago, processes
from tests.servers import LedgerDatabase

L = "/v1/ledgers/simulated"
A, B, FBO, CARD = "customer:1:wallet", "customer:2:wallet", "bank:fbo", "clearing:card"


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        yield running


def lines(payer: str, payee: str, amount: int) -> list[dict[str, str]]:
    return [
        {"account": account, "side": side, "amount": str(amount), "currency": "USD"}
        for account, side in ((payer, "debit"), (payee, "credit"))
    ]


def post(http: httpx.Client, key: str, payer: str, payee: str, amount: int, **more: Any):
    body = {"idempotency_key": key, "kind": "transfer", "entries": lines(payer, payee, amount)}
    return http.post(f"{L}/transactions", json={**body, **more})


def hold(http: httpx.Client, key: str, amount: int, **more: Any) -> httpx.Response:
    body = {"idempotency_key": key, "kind": "card_purchase", "entries": lines(A, CARD, amount)}
    return http.post(f"{L}/holds", json={**body, **more})


def act(http: httpx.Client, seq: int, what: str, key: str, **more: Any) -> httpx.Response:
    return http.post(f"{L}/holds/{seq}:{what}", json={"idempotency_key": key, **more})


def found_by_key(http: httpx.Client, key: str) -> dict[str, Any]:
    """What a caller finds who has not heard the outcome (P2)."""
    return http.get(f"{L}/transactions", params={"idempotency_key": key}).json()


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def balances(http: httpx.Client) -> tuple[str, str, str]:
    found = http.get(f"{L}/accounts/{A}").json()
    return found["posted"], found["pending_debits"], found["available"]


def begin(http: httpx.Client) -> None:
    assert http.post("/v1/ledgers", json=LEDGER).status_code == 201
    accounts = [{"account": name, "currency": "USD", "floor": "0"} for name in (A, B)]
    accounts += [{"account": name, "currency": "USD"} for name in (FBO, CARD)]
    http.post(f"{L}/accounts:batch", json={"accounts": accounts})
    assert post(http, "in", FBO, A, 100).status_code == 201


def test_a_hold_from_its_placing_to_its_end(
    services: Services, ledger_database: LedgerDatabase
) -> None:
    def is_sound() -> bool:
        """By what is new alone, which rests on holds that were verified before."""
        return verify_new(ledger_database.url("verifier")).findings == []

    with services.client() as http:
        begin(http)
        placed = hold(http, "h1", 60)
        assert placed.status_code == 201, placed.text
        seq = placed.json()["seq"]
        assert is_sound()
        assert hold(http, "h1", 60).status_code == 200
        assert found_by_key(http, "h1") == placed.json()
        conflict = hold(http, "h1", 61)
        assert code(conflict) == (422, "idempotency_conflict")
        assert conflict.json()["difference"] == ["entries"]
        assert hold(http, "dry", 40, dry_run=True).json()["dry_run"]
        assert balances(http) == ("100", "60", "40")
        assert code(post(http, "much", A, B, 41)) == (422, "floor_passed")
        assert code(hold(http, "h2", 41)) == (422, "floor_passed")
        part = act(http, seq, "capture", "c1", amount="25", ends_hold=False)
        assert (part.status_code, part.json()["captures"]) == (201, seq)
        assert code(act(http, seq, "capture", "c2", amount="36")) == (422, "hold_exceeded")
        assert balances(http) == ("75", "35", "40")
        assert is_sound()
        [shown] = http.get(f"{L}/accounts/{A}/holds").json()["holds"]
        assert (shown["left"], shown["captured_by"]) == ("35", [part.json()["seq"]])
        # what the writer knew is gone: it reads back what is left
        services.restart_writer()
        assert act(http, seq, "capture", "c3", amount="10").status_code == 201
        assert balances(http) == ("65", "0", "65")
        assert is_sound()
        assert code(act(http, seq, "void", "v1", reason="cancelled")) == (409, "hold_ended")
        assert http.get(f"{L}/holds/{seq}").json()["state"] == "captured"
        assert http.get(f"{L}/accounts/{A}/holds").json()["holds"] == []
        other = hold(http, "h3", 65).json()["seq"]
        services.restart_writer()
        assert act(http, other, "void", "v3", reason="cancelled").status_code == 201
        again = act(http, other, "void", "v3", reason="cancelled")
        assert (again.status_code, again.json()) == (200, found_by_key(http, "v3"))
        assert balances(http) == ("65", "0", "65")
        assert is_sound()
        in_ledgers = [one for one in verify(ledger_database.owner_url).findings if one.ledger]
        assert in_ledgers == []
        assert code(http.get(f"{L}/holds/1")) == (404, "unknown_hold")
        assert code(act(http, 1, "capture", "c9")) == (404, "unknown_hold")


def test_a_hold_expires_by_the_server_s_clock_as_an_event(services: Services) -> None:
    with services.client() as http:
        begin(http)
        soon = timestamp(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
        seq = hold(http, "h1", 60, expires_at=soon).json()["seq"]
        until = time.monotonic() + 20
        while http.get(f"{L}/holds/{seq}").json()["state"] == "open":
            assert time.monotonic() < until
            time.sleep(0.1)
        assert balances(http) == ("100", "0", "100")
        raw = http.get(f"{L}/events", params={"after_seq": seq, "limit": 1}).content.strip()
        released = events.decode_journal(raw)
        assert isinstance(released, events.HoldReleased)
        assert (released.hold, released.cause, released.actor) == (seq, "expired", "writer")
        assert code(act(http, seq, "capture", "c1")) == (409, "hold_ended")


def test_linked_commands_happen_all_or_none(services: Services) -> None:
    with services.client() as http:
        begin(http)
        seq = hold(http, "h1", 60).json()["seq"]
        capture = {"do": "capture", "idempotency_key": "c1", "hold": seq, "amount": "50"}
        fee = {
            "do": "post", "idempotency_key": "fee", "kind": "fee", "entries": lines(A, B, 51),
        }  # fmt: skip
        more = {
            "do": "hold", "idempotency_key": "h2", "kind": "card_purchase",
            "entries": lines(A, CARD, 5),
        }  # fmt: skip
        body = {"linked": True, "commands": [capture, more, fee]}
        found = http.post(f"{L}/commands:batch", json=body).json()["results"]
        assert [one.get("code") for one in found] == [
            "linked_batch_refused",
            "linked_batch_refused",
            "floor_passed",
        ]
        assert balances(http) == ("100", "60", "40")
        body["commands"][2] = {**fee, "entries": lines(A, B, 45)}
        found = http.post(f"{L}/commands:batch", json=body).json()["results"]
        assert [one["status"] for one in found] == ["committed"] * 3
        assert balances(http) == ("5", "5", "0")
        void = {"do": "void", "idempotency_key": "v", "hold": found[1]["seq"], "reason": "x"}
        wrong = {"do": "dance", "idempotency_key": "d"}
        body = {"commands": [wrong, void]}
        found = http.post(f"{L}/commands:batch", json=body).json()["results"]
        assert [one["status"] for one in found] == ["refused", "committed"]


def _refused_among_others(http: httpx.Client, correction: dict[str, Any]) -> None:
    """However it is sent with others, its approval would not be the one that is consumed (P12)."""
    transfer = {"idempotency_key": "beside", "kind": "transfer", "entries": lines(A, B, 1)}
    for linked in (False, True):
        body = {"transactions": [correction, transfer], "linked": linked}
        found = http.post(f"{L}/transactions:batch", json=body).json()["results"]
        assert found[0]["code"] == "not_by_itself"
        body = {"commands": [{"do": "post", **transfer}, {"do": "post", **correction}]}
        found = http.post(f"{L}/commands:batch", json={**body, "linked": linked}).json()["results"]
        assert found[1]["code"] == "not_by_itself"
    alone = {"transactions": [{**correction, "approval": "apr_other"}], "linked": True}
    found = http.post(f"{L}/transactions:batch", json=alone).json()["results"]
    assert found[0]["code"] == "approval_invalid"


def test_a_month_is_closed_corrected_closed_reopened(services: Services) -> None:
    with services.client() as http:
        begin(http)
        past = f"{days_ago(20)}T12:00:00Z"
        first = post(http, "early", A, B, 5, effective_at=past).json()["seq"]
        soft = http.post(f"{L}/periods:soft-close", json={"through": days_ago(10)})
        assert soft.status_code == 201, soft.text
        late = post(http, "late", A, B, 7, effective_at=past)
        assert code(late) == (422, "period_soft_closed")
        assert late.json()["first_open_day"] == days_ago(9)

        correction = {
            "idempotency_key": "cor", "kind": "adjustment", "entries": lines(B, A, 2),
            "effective_at": past, "corrects": first,
        }  # fmt: skip
        for wrong, why in (
            ({"corrects": 999}, "unknown_corrected"),
            ({"kind": ""}, "unknown_kind"),
        ):
            assert code(http.post(f"{L}/corrections", json={**correction, **wrong})) == (422, why)
        asked = http.post(f"{L}/corrections", json=correction)
        assert asked.status_code == 202, asked.text
        approval = asked.json()["approval"]
        approved = {**correction, "approval": approval}
        assert code(http.post(f"{L}/transactions", json=approved)) == (422, "approval_invalid")
        _refused_among_others(http, approved)
        services.approve(approval)
        _refused_among_others(http, approved)
        other = {**approved, "entries": lines(B, A, 3)}
        assert code(http.post(f"{L}/transactions", json=other)) == (422, "approval_invalid")
        done = http.post(f"{L}/transactions", json=approved)
        assert (done.status_code, done.json()["corrects"]) == (201, first)
        assert http.post(f"{L}/transactions", json=approved).status_code == 200

        wrong = http.post(f"{L}/periods:close", json={"through": "last Friday"})
        assert code(wrong) == (422, "bad_day")
        closed = http.post(f"{L}/periods:close", json={"through": days_ago(10)})
        assert closed.status_code == 201, closed.text
        stated = {
            line["gl_code"]: (line["debits"], line["credits"])
            for line in closed.json()["trial_balance"]
        }
        assert stated["2010"] == ("7", "7")
        assert stated["1010"] == ("0", "0"), "what came later is not in it"
        assert closed.json()["tree_size"] == closed.json()["seq"] - 1
        assert "day_sums_equal_balances" in closed.json()["checks"]
        # signed as it was closed, whatever comes right after it
        size, later = closed.json()["seq"], [post(http, f"l{n}", FBO, A, 1) for n in range(3)]
        assert all(answer.is_success for answer in later)
        assert http.get(f"{L}/checkpoints/{size}").text.split("\n")[1] == str(size)
        assert http.post(f"{L}/periods:close", json={"through": days_ago(10)}).status_code == 200
        services.restart_writer()
        assert code(post(http, "late", A, B, 7, effective_at=past)) == (422, "period_closed")
        imposed = post(http, "imp", A, B, 1, effective_at=past, imposed=True, kind="return").json()
        assert imposed["value_date"] == days_ago(20)

        assert http.post(f"{L}/days/{days_ago(5)}:attest", json={"reference": "stm_1"}).is_success
        at = f"{days_ago(5)}T12:00:00Z"
        assert code(post(http, "at", A, B, 1, effective_at=at)) == (422, "day_attested")

        reopening = {"since": days_ago(12), "reason": "late_invoice"}
        for wrong, why in (
            ({"since": days_ago(2)}, "period_not_closed"),
            ({"reason": "!"}, "bad_reason"),
        ):
            tried = http.post(f"{L}/periods:reopen", json={**reopening, **wrong})
            assert code(tried) == (422, why), "nobody is asked about what would be refused"
        asked = http.post(f"{L}/periods:reopen", json=reopening)
        assert asked.status_code == 202
        approval = asked.json()["approval"]
        services.approve(approval)
        reopened = http.post(f"{L}/periods:reopen", json={**reopening, "approval": approval})
        assert (reopened.status_code, reopened.json()["approval"]) == (201, approval)
        found = http.get(f"{L}/periods").json()
        assert found["closed_through"] == days_ago(13)
        assert found["soft_closed_through"] == days_ago(10)
        assert found["attested_days"] == []
        assert [event["type"] for event in found["events"]] == [
            "period.soft_closed",
            "period.closed",
            "day.attested",
            "period.reopened",
        ]
