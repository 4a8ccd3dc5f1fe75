"""A stand-in for the ledger API: the routes that the console calls, over a House's journal.

It keeps the API's interface and rules that pages rely on (sessions, roles by the contract's table,
maker is not checker, proofs that hold); the API's own tests prove the API.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import json
import re
import secrets
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger_service.contract import events
from ledger_service.contract.permissions import ROLES, allowed
from tests.merkle import consistency, leaf, path, root
from tests.monitoring_house import LEDGER, House

PASSWORD = "a long enough password"


RULE_APPROVAL = {
    "approval": "apr_rule",
    "kind": "rule_declaration",
    "subject": f"{LEDGER}/card_fee",
    "digest": "ab" * 32,
    "facts": {
        "kind": "rule_declaration",
        "ledger": LEDGER,
        "rule": "card_fee",
        "since": "2026-09-01",
        "rule_kind": "fee",
        "currency": "USD",
        "tiers": [{"at_least": "0", "rate": "0.035", "fixed": "30"}],
        "tiering": "graduated",
        "minimum": None,
        "maximum": "5000",
        "rounding": "half_even",
        "day_count": None,
        "balances": "positive",
        "debit": [{"account": "{account}", "weight": 1}],
        "credit": [{"account": "income:fees", "weight": 1}],
    },
    "requested_by": "usr_integrator",
    "requested_at": "2026-08-14T09:30:00.000000Z",
    "expires_at": "2026-08-17T09:30:00.000000Z",
    "status": "pending",
    "decided_by": None,
    "decided_at": None,
    "reason": None,
    "consumed_seq": None,
}


class Refused(Exception):
    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(code)
        self.status, self.code, self.detail = status, code, detail


class StandIn:
    """State and routes. A user's name is the role; `both` is operator and approver."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.log_key, self.witness_key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        self.users = {role: [role] for role in ROLES} | {"both": ["operator", "approver"]}
        self.sessions: dict[str, str] = {}
        self.reversals: dict[str, dict[str, Any]] = {}
        self.approvals: dict[str, dict[str, Any]] = {"apr_rule": RULE_APPROVAL}
        self.checkpoint_size = len(house.journal)
        self.is_cosigned = True
        self.served: list[str] = []

    # Keys and notes

    def public(self, key: Ed25519PrivateKey) -> bytes:
        return key.public_key().public_bytes_raw()

    def note(self) -> str:
        leaves = self.leaves()
        origin = f"tallystick.local/{LEDGER}"
        text = f"{origin}\n{len(leaves)}\n{base64.b64encode(root(leaves)).decode()}\n"
        lines = [self._line(origin, 1, self.log_key, b"", text.encode())]
        if self.is_cosigned:
            seconds = 1_790_000_000
            content = b"cosignature/v1\ntime %d\n" % seconds + text.encode()
            lines.append(
                self._line(
                    "witness.local", 4, self.witness_key, seconds.to_bytes(8, "big"), content
                )
            )
        return text + "\n" + "".join(line + "\n" for line in lines)

    def _line(
        self, name: str, kind: int, key: Ed25519PrivateKey, stamp: bytes, content: bytes
    ) -> str:
        key_id = hashlib.sha256(name.encode() + b"\n" + bytes([kind]) + self.public(key)).digest()[
            :4
        ]
        return f"— {name} {base64.b64encode(key_id + stamp + key.sign(content)).decode()}"

    def leaves(self) -> list[bytes]:
        return [leaf(events.encode(event)) for event in self.house.journal[: self.checkpoint_size]]

    # Routes

    def answer(self, method: str, address: str, token: str, body: Any) -> tuple[int, Any]:
        parts = urlsplit(address)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.served.append(f"{method} {parts.path}")
        if (method, parts.path) == ("POST", "/v1/sessions"):
            if body["username"] not in self.users or body["password"] != PASSWORD:
                raise Refused(401, "bad_credentials", "User name or password is wrong.")
            token = "tss_" + secrets.token_hex(20)
            self.sessions[token] = body["username"]
            return 201, {
                "token": token,
                "user_id": f"usr_{body['username']}",
                "roles": self.users[body["username"]],
                "expires_at": "2026-09-01T00:00:00.000000Z",
            }
        if token not in self.sessions:
            raise Refused(401, "unauthenticated", "Show a token.")
        name = self.sessions[token]
        for permission, verb, pattern, route in self.routes():
            found = re.fullmatch(pattern, parts.path)
            if verb == method and found:
                if permission and not allowed(permission, set(self.users[name])):
                    raise Refused(403, "forbidden", f"This takes the permission {permission}.")
                return route(f"usr_{name}", token, *found.groups(), body=body, query=query)
        raise Refused(404, "not_found", "There is nothing at this address.")

    def routes(self):
        ledger = "/v1/ledgers/" + LEDGER
        return [
            ("", "GET", "/v1/me", self.me),
            ("", "DELETE", "/v1/sessions/current", self.sign_out),
            (
                "ledgers.read",
                "GET",
                "/v1/ledgers",
                lambda *_, **__: (
                    200,
                    {"ledgers": [self.books()]},
                ),
            ),
            (
                "ledgers.read",
                "GET",
                ledger,
                lambda *_, **__: (200, self.books()),
            ),
            (
                "ledgers.read",
                "GET",
                ledger + "/progress",
                lambda *_, **__: (
                    200,
                    {
                        "posted_seq": len(self.house.journal),
                        "published_seq": len(self.house.journal),
                    },
                ),
            ),
            ("ledgers.read", "GET", ledger + r"/transactions/(\d+)", self.transaction),
            ("proofs.read", "GET", ledger + r"/events/(\d+)", self.event),
            ("ledgers.read", "GET", ledger + "/holds", self.holds),
            ("ledgers.read", "GET", ledger + r"/holds/(\d+)", self.one_hold),
            ("ledgers.read", "GET", ledger + "/periods", self.periods),
            ("ledgers.read", "GET", ledger + "/rules", self.rules),
            (
                "ledgers.read",
                "GET",
                ledger + "/rules/card_fee/transactions",
                lambda *_, **__: (200, {"transactions": [], "next_before": None}),
            ),
            ("proofs.read", "GET", ledger + "/proofs/consistency", self.consistency),
            (
                "approvals.read",
                "GET",
                "/v1/approvals",
                self.waiting,
            ),
            (
                "ledgers.read",
                "GET",
                ledger + "/chart",
                lambda *_, **__: (
                    200,
                    {"headings": [{"code": "1010", "name": "Cash at the bank"}]},
                ),
            ),
            (
                "approvals.read",
                "GET",
                "/v1/approvals/apr_reopening",
                lambda *_, **__: (200, {"requested_by": "usr_a", "decided_by": "usr_b"}),
            ),
            (
                "proofs.read",
                "GET",
                ledger + "/checkpoints/(?:latest|[0-9]+)",
                lambda *_, **__: (200, self.note()),
            ),
            ("proofs.read", "GET", ledger + "/proofs/inclusion", self.inclusion),
            ("reversals.request", "POST", ledger + "/reversals", self.ask),
            (
                "reversals.read",
                "GET",
                "/v1/reversals",
                lambda *_, **__: (200, {"reversals": list(self.reversals.values())[::-1]}),
            ),
            ("reversals.read", "GET", r"/v1/reversals/(\w+)", self.reversal),
            (
                "approvals.read",
                "GET",
                r"/v1/approvals/(\w+)",
                lambda _a, _t, name, **_: (200, self.approvals[name]),
            ),
            ("approvals.decide", "POST", r"/v1/approvals/(\w+)/decisions", self.decide),
            (
                "audit.read",
                "GET",
                "/v1/audit-log",
                lambda *_, **__: (
                    200,
                    {
                        "rows": [
                            {
                                "seq": 1,
                                "recorded_at": "2026-08-01T10:00:00.000000Z",
                                "actor": "usr_auditor",
                                "action": "session.opened",
                                "subject": "ses_1",
                                "outcome": "done",
                                "details": {"code": None, "permission": "audit.read"},
                                "hash": "ab" * 32,
                            }
                        ],
                        "next_after": None,
                    },
                ),
            ),
        ]

    def me(self, actor: str, token: str, **_: Any) -> tuple[int, Any]:
        name = self.sessions[token]
        return 200, {
            "actor": actor,
            "name": name,
            "roles": self.users[name],
            "kind": "session",
            "expires_at": None,
        }

    def sign_out(self, _actor: str, token: str, **_: Any) -> tuple[int, Any]:
        del self.sessions[token]
        return 204, None

    def transaction(self, _actor: str, _token: str, seq: str, **_: Any) -> tuple[int, Any]:
        found = next((event for event in self.house.transactions() if event.seq == int(seq)), None)
        if found is None:
            raise Refused(404, "unknown_transaction", "There is no such transaction.")
        return 200, {**msgspec.json.decode(events.encode(found)), "reversed_by": []}

    def books(self) -> dict[str, Any]:
        return {
            "ledger": LEDGER,
            "seq": len(self.house.journal),
            "time_zone": "America/New_York",
            "exponents": {"USD": 2},
        }

    def event(self, _actor: str, _token: str, seq: str, **_: Any) -> tuple[int, Any]:
        if int(seq) > len(self.house.journal):
            raise Refused(404, "unknown_transaction", "There is no such event.")
        return 200, events.encode(self.house.journal[int(seq) - 1]).decode()

    def _stated(self, *kinds: type[Any]) -> list[dict[str, Any]]:
        return [
            msgspec.json.decode(events.encode(event))
            for event in self.house.journal
            if isinstance(event, kinds)
        ]

    def holds(self, *_: Any, **__: Any) -> tuple[int, Any]:
        [placed] = self._stated(events.HoldPlaced)
        held = {"state": "open", "left": "6000", "captured_by": [], "changed_by": placed["seq"]}
        return 200, {"holds": [placed | held], "next_before": None}

    def one_hold(self, _actor: str, _token: str, seq: str, **_: Any) -> tuple[int, Any]:
        [hold] = self.holds()[1]["holds"]
        if hold["seq"] != int(seq):
            raise Refused(404, "unknown_hold", "No hold has this seq.")
        return 200, hold | {"release": None}

    def periods(self, *_: Any, **__: Any) -> tuple[int, Any]:
        return 200, {
            "ledger": LEDGER,
            "soft_closed_through": "2026-07-10",
            "closed_through": "2026-07-05",
            "attested_days": [],
            "first_open_day": "2026-07-11",
            "events": self._stated(events.PeriodClosed, events.PeriodReopened),
        }

    def rules(self, *_: Any, **__: Any) -> tuple[int, Any]:
        return 200, {"rules": self._stated(events.RuleDeclared)}

    def waiting(self, _actor: str, _token: str, query: dict[str, str], **_: Any) -> tuple[int, Any]:
        found = [one for one in self.approvals.values() if one["status"] == query["status"]]
        return 200, {"approvals": found, "next_after": None}

    def consistency(
        self, _actor: str, _token: str, query: dict[str, str], **_: Any
    ) -> tuple[int, Any]:
        nodes = consistency(int(query["first"]), self.leaves()[: int(query["second"])])
        return 200, {"proof": [base64.b64encode(one).decode() for one in nodes]}

    def inclusion(
        self, _actor: str, _token: str, query: dict[str, str], **_: Any
    ) -> tuple[int, Any]:
        leaves = self.leaves()
        proof = [base64.b64encode(node).decode() for node in path(int(query["seq"]) - 1, leaves)]
        return 200, {
            "ledger": LEDGER,
            "seq": int(query["seq"]),
            "size": len(leaves),
            "proof": proof,
        }

    def ask(self, actor: str, _token: str, body: Any, **_: Any) -> tuple[int, Any]:
        number = f"{len(self.reversals) + 1:026d}"
        facts = {
            "kind": "reversal",
            "ledger": LEDGER,
            "transaction": body["transaction"],
            "amount": body.get("amount"),
            "reason": body["reason"],
            "reversal": f"rev_{number}",
        }
        digest = hashlib.sha256(
            json.dumps(facts, sort_keys=True, separators=(",", ":")).encode()
        ).hexdigest()
        now = events.timestamp(dt.datetime(2026, 8, 14, 9, 30, tzinfo=dt.UTC))
        self.approvals[f"apr_{number}"] = {
            "approval": f"apr_{number}",
            "kind": "reversal",
            "subject": f"rev_{number}",
            "digest": digest,
            "facts": facts,
            "requested_by": actor,
            "requested_at": now,
            "expires_at": now,
            "status": "pending",
            "decided_by": None,
            "decided_at": None,
            "reason": None,
            "consumed_seq": None,
        }
        self.reversals[f"rev_{number}"] = {
            "reversal": f"rev_{number}",
            "approval": f"apr_{number}",
            "status": "awaiting_approval",
            "ledger": LEDGER,
            "transaction": body["transaction"],
            "amount": body.get("amount"),
            "reason": body["reason"],
            "requested_by": actor,
            "requested_at": now,
            "policy": "us_fintech/1",
            "executed_seq": None,
            "last_error": None,
        }
        return 202, self.reversals[f"rev_{number}"]

    def reversal(self, _actor: str, _token: str, name: str, **_: Any) -> tuple[int, Any]:
        if name not in self.reversals:
            raise Refused(404, "unknown_reversal", "There is no such reversal.")
        step = {
            "recorded_at": "2026-08-14T09:30:00.000000Z",
            "step": "requested",
            "code": None,
            "actor": self.reversals[name]["requested_by"],
        }
        return 200, {**self.reversals[name], "history": [step]}

    def decide(self, actor: str, _token: str, name: str, body: Any, **_: Any) -> tuple[int, Any]:
        approval = self.approvals[name]
        if approval["requested_by"] == actor:
            raise Refused(
                409, "maker_is_checker", "You asked for this yourself; another person must decide."
            )
        if approval["digest"] != body["digest"]:
            raise Refused(409, "digest_mismatch", "The digest is not that of this request.")
        status = "approved" if body["decision"] == "approve" else "refused"
        approval |= {
            "status": status,
            "decided_by": actor,
            "decided_at": "2026-08-14T09:40:00.000000Z",
            "reason": body["reason"],
        }
        if approval["kind"] == "reversal":
            self.reversals[approval["subject"]]["status"] = status
        return 200, approval


@contextlib.contextmanager
def serving(stand_in: StandIn) -> Iterator[str]:
    """Answer over HTTP; gives the base address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            token = self.headers.get("authorization", "").removeprefix("Bearer ")
            try:
                status, answer = stand_in.answer(self.command, self.path, token, body)
                kind = "application/json"
            except Refused as refused:
                status, kind = refused.status, "application/problem+json"
                answer = {
                    "code": refused.code,
                    "detail": refused.detail,
                    "status": status,
                    "title": refused.code,
                }
            raw = (
                b""
                if status == 204
                else (answer if isinstance(answer, str) else json.dumps(answer)).encode()
            )
            self.send_response(status)
            self.send_header("content-type", "text/plain" if isinstance(answer, str) else kind)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_DELETE = _serve  # noqa: N815 - the names the server calls

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
