"""Whatever bytes come, no route answers with a 5xx."""

from __future__ import annotations

import json

from ledger_service.api.app import every_route
from ledger_service.security import identities
from tests.ledger_api import PASSWORD, Api

HUGE = "9" * 400
BODIES = [
    b"",
    b"{",
    b"\xff\xfe{}",
    b'{"name": "\xc3\x28"}',
    b"null",
    b"[]",
    b"{}",
    b'"text"',
    b"1e999",
    b"NaN",
    HUGE.encode() * 20,
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b"<xml/>",
]
VALUES = [
    None,
    True,
    -1,
    1.5,
    10**40,
    "",
    "\0",
    "a\0b",
    "\ud800",
    "\u202e" * 300,
    "x" * 70_000,
    [],
    {},
    [[[]]],
    {"a": {"b": None}},
]
FIELDS = [
    "username",
    "password",
    "ledger",
    "currencies",
    "time_zone",
    "cut_off",
    "calendar",
    "chart",
    "accounts",
    "account",
    "currency",
    "owner",
    "floor",
    "ceiling",
    "status",
    "reason",
    "idempotency_key",
    "kind",
    "entries",
    "effective_at",
    "context",
    "metadata",
    "imposed",
    "dry_run",
    "transactions",
    "linked",
    "transaction",
    "amount",
    "approval",
    "reversal",
    "decision",
    "digest",
    "name",
    "country",
    "risk_tier",
    "tax_id",
    "birth_date",
    "address",
    "reference",
    "parties",
    "purpose",
    "fields",
    "legal_hold",
    "retain_until",
    "bank",
    "account_number",
    "statement_accounts",
]
QUERY = [
    "after", "before", "limit", "at_seq", "known_at", "effective_at", "effective_date", "from",
    "effective_from", "recorded_to", "kind", "counterparty", "metadata", "bank",
]  # fmt: skip
TEXTS = ["%00", "%ff%fe", "%ED%A0%80", "-1", "9" * 30, "1.5", "..%2f..", "%0d%0a", "x" * 3000, "''"]


async def test_no_bytes_make_a_5xx(api: Api):
    key = await identities.create_key(api.owner, "everything", sorted(api.keys))
    await identities.create_user(api.owner, "everybody", PASSWORD, sorted(api.keys))
    answer = await api.http.post(
        "/v1/sessions", json={"username": "everybody", "password": PASSWORD}
    )
    signed_in = {"Authorization": f"Bearer {answer.json()['token']}"}
    with_key = {"Authorization": f"Bearer {key.text}"}
    bodies = BODIES + [json.dumps(dict.fromkeys(FIELDS, value)).encode("ascii") for value in VALUES]
    for route in every_route():
        headers = signed_in if "approvals" in route.path else with_key
        headers = {**headers, "Content-Type": "application/json"}
        names = [part.split("}")[0] for part in route.path.split("{")[1:]]
        for method in route.methods:
            if (method, route.path) == ("DELETE", "/v1/sessions/current"):
                continue
            plain = route.path
            for name in names:
                plain = plain.replace(f"{{{name}}}", "1")
            sendings = [] if method == "GET" else [(plain, body) for body in bodies]
            for text in TEXTS:
                query = "&".join(f"{name}={text}" for name in QUERY)
                sendings.append((f"{plain}?{query}&idempotency_key={text}&seq={text}", b"{}"))
                sendings += [(f"{plain}?{name}={text}", b"{}") for name in QUERY]
                changed = route.path
                for name in names:
                    changed = changed.replace(f"{{{name}}}", text)
                if names:
                    sendings.append((changed, b"{}"))
            for path, body in sendings:
                answer = await api.http.request(method, path, content=body, headers=headers)
                assert answer.status_code < 500, (method, path[:200], body[:80], answer.text)
