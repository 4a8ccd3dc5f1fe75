"""The routes of the ledger over HTTP, against API and writer as processes."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator

import httpx
import msgspec
import psycopg
import pytest

from ledger_service.contract import events
from ledger_service.domain.approval import approval_digest, reversal_content
from ledger_service.engine.merkle import leaf_hash
from ledger_service.engine.proofs import check_consistency, root_from_inclusion
from tests.ledger_api import LEDGER, Services, processes
from tests.servers import LedgerDatabase

L = "/v1/ledgers/simulated"
A, B = "customer:1:wallet", "customer:2:wallet"


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        yield running


def body(key: str, amount: str = "5", payer: str = A, payee: str = B, **more) -> dict:
    lines = [(payer, "debit"), (payee, "credit")]
    return {
        "idempotency_key": key,
        "kind": "transfer",
        "entries": [
            {"account": account, "side": side, "amount": amount, "currency": "USD"}
            for account, side in lines
        ],
        **more,
    }


def code(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["code"]


def test_a_ledger_from_opening_to_proof_over_http(services: Services) -> None:
    with services.client() as http:
        assert code(http.get(L)) == (404, "ledger_not_open")
        assert http.post("/v1/ledgers", json=LEDGER).status_code == 201
        assert http.post("/v1/ledgers", json=LEDGER).status_code == 200
        batch = {"accounts": [{"account": A, "currency": "USD"}, {"account": B, "currency": "USD"}]}
        found = http.post(f"{L}/accounts:batch", json=batch).json()["results"]
        assert [item["status"] for item in found] == ["committed"] * 2
        _one_by_one(http)
        _many(http)
        _reads(http)
        _reversal(http, services)
        _proofs(http)


def test_what_could_never_be_looked_up_is_refused_at_the_door(services: Services) -> None:
    """One such command would make the writer stop and begin anew, again and again, for everybody."""
    far = 2**63
    correction = body("c", corrects=far, effective_at="2026-01-01T12:00:00Z", approval="apr_1")
    capture = {"do": "capture", "idempotency_key": "b", "hold": far}
    asked = [
        ("transactions", body("x", payer="customer:1:\0"), "bad_text"),
        ("transactions:batch", {"transactions": [body("x", payer="customer:1:\0")]}, "bad_text"),
        ("transactions", body("x", effective_at="0001-01-01T00:00:00Z"), "bad_effective_at"),
        ("transactions", correction, "invalid_request"),
        (f"transactions/{far}:reverse", {"idempotency_key": "r", "reason": "x"}, "invalid_request"),
        (f"holds/{far}:capture", {"idempotency_key": "h"}, "invalid_request"),
        ("holds", body("e", expires_at="9999-12-31T23:59:59-14:00"), "bad_expiry"),
        ("accounts", {"account": A, "currency": "USD", "owner": "\0"}, "bad_text"),
        ("currencies", {"currency": "POINTS", "exponent": far}, "bad_currency"),
    ]
    with services.client() as http:
        assert http.post("/v1/ledgers", json=LEDGER).status_code == 201
        accounts = [{"account": name, "currency": "USD"} for name in (A, B)]
        http.post(f"{L}/accounts:batch", json={"accounts": accounts})
        for path, wrong, expected in asked:
            assert code(http.post(f"{L}/{path}", json=wrong)) == (422, expected), path
        [item] = http.post(f"{L}/commands:batch", json={"commands": [capture]}).json()["results"]
        assert (item["code"], item["where"]) == ("invalid_request", "hold")
        line = json.dumps(body("s", payer="customer:1:\0")).encode()
        streamed = http.post(f"{L}/transactions:stream", content=line + b"\n" + line)
        assert [json.loads(one)["code"] for one in streamed.content.splitlines()] == [
            "bad_text"
        ] * 2
    said = services.logs[0].read_text()
    assert "writer.surprised" not in said
    assert "undecidable" not in said


def _one_by_one(http: httpx.Client) -> None:
    first = http.post(f"{L}/transactions", json=body("k"))
    assert first.status_code == 201
    again = http.post(f"{L}/transactions", json=body("k"))
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == first.json()
    conflict = http.post(f"{L}/transactions", json=body("k", "6"))
    assert code(conflict) == (422, "idempotency_conflict")
    assert conflict.json()["difference"] == ["entries"]
    dry = http.post(f"{L}/transactions", json=body("dry", dry_run=True))
    assert (dry.status_code, dry.json()["dry_run"]) == (200, True)
    for wrong, expected in (
        (body("x", note="y"), "unknown_field"),
        (body("x", amount=5), "bad_amount"),
        (body("x", amount="1.5"), "bad_amount"),
        (body("x", payee="customer:9:wallet"), "unknown_account"),
        ({**body("x"), "entries": body("x")["entries"][:1]}, "too_few_entries"),
    ):
        assert code(http.post(f"{L}/transactions", json=wrong)) == (422, expected)
    assert http.post(f"{L}/transactions", content=b"{").json()["code"] == "bad_json"
    stated = http.get(f"{L}/transactions", params={"idempotency_key": "k"}).json()
    assert stated["seq"] == first.json()["seq"]
    missing = http.get(f"{L}/transactions", params={"idempotency_key": "dry"})
    assert code(missing) == (404, "unknown_transaction")


def _many(http: httpx.Client) -> None:
    batch = {"transactions": [body("b1"), body("k"), {"kind": "x"}, body("b2", payee="bank:x")]}
    found = http.post(f"{L}/transactions:batch", json=batch).json()["results"]
    assert [item["status"] for item in found] == ["committed", "replayed", "refused", "refused"]
    linked = {"linked": True, "transactions": [body("l1"), body("l2", payee="customer:9:wallet")]}
    found = http.post(f"{L}/transactions:batch", json=linked).json()["results"]
    assert [item["code"] for item in found] == ["linked_batch_refused", "unknown_account"]
    lines = [json.dumps(body(f"s{number}")) for number in range(2000)]
    lines.insert(7, '{"kind": 1}')
    content = ("\n".join(lines) + "\n").encode()
    answer = http.post(f"{L}/transactions:stream", content=content)
    found = [json.loads(line) for line in answer.text.splitlines()]
    assert len(found) == 2001
    assert found.pop(7)["status"] == "refused"
    seqs = [item["seq"] for item in found]
    assert seqs == list(range(seqs[0], seqs[0] + 2000))


def _reads(http: httpx.Client) -> None:
    account = http.get(f"{L}/accounts/{A}").json()
    assert (account["debits"], account["posted"]) == (str(5 * 2002), str(-5 * 2002))
    page = http.get(f"{L}/accounts/{A}/entries", params={"limit": 3}).json()
    seqs = [entry["seq"] for entry in page["entries"]]
    more = {"limit": 500, "before_seq": page["next_before_seq"]}
    while page["next_before_seq"]:
        page = http.get(f"{L}/accounts/{A}/entries", params=more).json()
        seqs += [entry["seq"] for entry in page["entries"]]
        more["before_seq"] = page["next_before_seq"]
    assert len(seqs) == 2002
    assert seqs == sorted(set(seqs), reverse=True)
    head = http.get(f"{L}/progress").json()["posted_seq"]
    middle = seqs[1000]
    stated = http.get(f"{L}/balances", params={"at_seq": middle}).text.splitlines()
    debits = {row["account"]: row["debits"] for row in map(json.loads, stated)}
    assert debits[A] == str(5 * 1002)
    trial = http.get(f"{L}/trial-balance", params={"at_seq": middle}).json()
    assert trial["balanced"]
    assert sum(int(line["debits"]) for line in trial["lines"]) == 5 * 1002
    raw = http.get(f"{L}/events", params={"after_seq": 0, "limit": 100_000}).content.splitlines()
    assert len(raw) == head
    assert [events.decode_journal(line).seq for line in raw] == list(range(1, head + 1))
    stated = http.get(f"{L}/transactions/{middle}").json()
    again = msgspec.convert({"type": "transaction.posted", **stated}, events.TransactionPosted)
    assert events.encode(again) == raw[middle - 1]
    frozen = http.patch(f"{L}/accounts/{B}", json={"status": "frozen", "reason": "hold"})
    assert frozen.json()["status"] == "frozen"
    assert code(http.post(f"{L}/transactions", json=body("f"))) == (422, "account_frozen")
    http.patch(f"{L}/accounts/{B}", json={"status": "open", "reason": "released"})
    listed = http.get(f"{L}/accounts", params={"prefix": "customer:", "limit": 1}).json()
    assert listed["next"] == A
    listed = http.get(f"{L}/accounts", params={"prefix": "customer:", "after": A}).json()
    assert [account["account"] for account in listed["accounts"]] == [B]


def _reversal(http: httpx.Client, services: Services) -> None:
    """Without an approval of exactly this nothing moves; with it, once, and both are linked."""
    seq = http.get(f"{L}/transactions", params={"idempotency_key": "k"}).json()["seq"]
    reverse = {
        "idempotency_key": "r",
        "approval": "apr_1",
        "reason": "duplicate",
        "reversal": "rev_1",
        "amount": "3",
    }
    path = f"{L}/transactions/{seq}:reverse"
    assert code(http.post(path, json=reverse)) == (422, "approval_invalid")
    content = reversal_content(
        ledger="simulated", transaction=seq, amount="3", reason="duplicate", reversal="rev_1"
    )
    with psycopg.connect(services.owner_url) as connection:
        connection.execute(
            "insert into security.person (user_id, user_name, password_hash, roles, demo) "
            "values ('usr_1', 'checker', 'x', array['approver'], false)"
        )
        connection.execute(
            "insert into security.session (session_id, user_id, secret_hash, expires_at) "
            "values ('ses_1', 'usr_1', 'x', now() + interval '1 hour')"
        )
        connection.execute(
            "insert into security.approval (approval_id, kind, subject, digest, facts, "
            "requested_by, requested_for, expires_at, status, decided_by, decided_at, session_id, "
            "reason) values ('apr_1', 'reversal', 'rev_1', %s, '{}', 'usr_2', 'usr_2', "
            "now() + interval '1 hour', 'approved', 'usr_1', now(), 'ses_1', 'fine')",
            (approval_digest(content),),
        )
    other = {**reverse, "amount": "4"}
    assert code(http.post(path, json=other)) == (422, "approval_invalid")
    done = http.post(path, json=reverse)
    assert done.status_code == 201, done.text
    assert (done.json()["reverses"], done.json()["approval"]) == (seq, "apr_1")
    assert done.json()["entries"][0] == {
        "account": A,
        "side": "credit",
        "amount": "3",
        "currency": "USD",
    }
    spent = {**reverse, "idempotency_key": "r2", "amount": "1"}
    assert code(http.post(path, json=spent)) == (422, "approval_invalid")
    assert http.get(f"{L}/transactions/{seq}").json()["reversed_by"] == [done.json()["seq"]]


def _proofs(http: httpx.Client) -> None:
    head = http.get(f"{L}/progress").json()["posted_seq"]
    until = time.monotonic() + 20
    # one may have been published when the ledger had hardly begun: that of the head is to come
    while (answer := http.get(f"{L}/checkpoints/latest")).status_code == 404 or (
        size := int(answer.text.split("\n")[1])
    ) < head:
        assert time.monotonic() < until
        time.sleep(0.1)
    proof = http.get(f"{L}/proofs/inclusion", params={"seq": 3, "size": size}).json()
    raw = http.get(f"{L}/events", params={"after_seq": 2, "limit": 1}).content.rstrip(b"\n")
    path = [base64.b64decode(node) for node in proof["proof"]]
    root = root_from_inclusion(2, size, leaf_hash(raw), path)
    assert base64.b64encode(root).decode() == answer.text.split("\n")[2]
    found = http.get(f"{L}/proofs/consistency", params={"first": 300, "second": size}).json()
    roots = [base64.b64decode(found[name]) for name in ("first_root", "second_root")]
    check_consistency(300, size, *roots, [base64.b64decode(node) for node in found["proof"]])
    assert roots[1] == root
