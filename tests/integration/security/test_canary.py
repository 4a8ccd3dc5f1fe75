"""An SSN and an account number are sent through every door of the API, one field at a time, and
must then stand nowhere: not in a journal, a stream, a table, the vault's sealed columns or a log.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import asyncpg
import httpx
import pytest

from ledger_service.api.app import every_route
from tests import canary
from tests.ledger_api import LEDGER, Services, processes
from tests.servers import LedgerDatabase

ACCOUNT = {"account": "customer:9_#:wallet", "currency": "USD", "owner": None, "floor": "0"}
TRANSACTION = {
    "idempotency_key": "k#",
    "kind": "deposit",
    "effective_at": "2026-07-01T12:00:00Z",
    "entries": [
        {"account": "bank:fbo", "side": "debit", "amount": "1250", "currency": "USD"},
        {"account": "customer:1:wallet", "side": "credit", "amount": "1250", "currency": "USD"},
    ],
    "context": {
        "channel": "ach",
        "counterparty": "tok_a",
        "counterparty_bank": "bank_a",
        "counterparty_country": "US",
        "rail_reference": "REF 1",
        "conductor": None,
    },
    "metadata": {"invoice": "x"},
}
PARTY = {
    "kind": "person",
    "name": "Ada",
    "country": "US",
    "risk_tier": "low",
    "tax_id": "tax #",
    "birth_date": "1970-12-31",
    "address": "1 Main Street",
    "accounts": ["1234"],
    "reference": "r#",
}
STATEMENT_ACCOUNT = {
    "bank": "sandbox_bank",
    "account_number": "12345678",
    "ledger": "simulated",
    "account": "bank:fbo",
    "purpose": "fbo",
}
HOLD = {**TRANSACTION, "expires_at": "2099-01-01T00:00:00Z"}
HOLD.pop("effective_at", None)
CORRECTION = {**TRANSACTION, "corrects": 4, "effective_at": "2026-07-01T12:00:00Z"}
RULE = {
    "rule": "card",
    "since": "2026-01-01",
    "kind": "fee",
    "currency": "USD",
    "tiers": [{"at_least": "0", "rate": "0.01", "fixed": "5"}],
    "debit": [{"account": "{account}", "weight": 1}],
    "credit": [{"account": "bank:fbo", "weight": 1}],
    "minimum": "1",
    "maximum": "500",
}
JSON = {"Content-Type": "application/json"}
_numbers = itertools.count(1)
BODIES: dict[str, Any] = {
    "POST /v1/sessions": {"username": "ana", "password": "a wrong password"},
    "POST /v1/ledgers": LEDGER,
    "POST /v1/ledgers/{ledger}/accounts": ACCOUNT,
    "POST /v1/ledgers/{ledger}/accounts:batch": {"accounts": [ACCOUNT]},
    "PATCH /v1/ledgers/{ledger}/accounts/{account}": {"status": "open", "reason": "thawed"},
    "POST /v1/ledgers/{ledger}/transactions": TRANSACTION,
    "POST /v1/ledgers/{ledger}/transactions:batch": {"transactions": [TRANSACTION]},
    "POST /v1/ledgers/{ledger}/transactions:stream": TRANSACTION,
    "POST /v1/ledgers/{ledger}/transactions/{seq}:reverse": {
        "idempotency_key": "k",
        "approval": "apr_a",
        "reason": "duplicate",
        "reversal": "rev_a",
        "amount": "1",
    },
    "POST /v1/ledgers/{ledger}/holds": HOLD,
    "POST /v1/ledgers/{ledger}/holds/{seq}:capture": {
        "idempotency_key": "k#",
        "amount": "1",
        "metadata": {"memo_code": "c"},
        "context": {"channel": "card", "counterparty": "cp_1"},
    },
    "POST /v1/ledgers/{ledger}/holds/{seq}:void": {"idempotency_key": "k#", "reason": "cancelled"},
    "POST /v1/ledgers/{ledger}/commands:batch": {"commands": [{"do": "hold", **HOLD}]},
    "POST /v1/ledgers/{ledger}/periods:soft-close": {"through": "2020-01-31"},
    "POST /v1/ledgers/{ledger}/periods:close": {"through": "2020-01-31"},
    "POST /v1/ledgers/{ledger}/periods:reopen": {"since": "2020-01-15", "reason": "late_invoice"},
    "POST /v1/ledgers/{ledger}/days/{day}:attest": {"reference": "stm_1"},
    "POST /v1/ledgers/{ledger}/corrections": CORRECTION,
    "POST /v1/ledgers/{ledger}/currencies": {"currency": "POINTS", "exponent": 3},
    "POST /v1/ledgers/{ledger}/rules": RULE,
    "POST /v1/ledgers/{ledger}/rules/{rule}:withdraw": {"since": "2099-01-01"},
    "POST /v1/ledgers/{ledger}/rules/{rule}:charge": {
        "idempotency_key": "k#",
        "account": "customer:1:wallet",
        "amount": "1000",
        "metadata": {"invoice": "x"},
    },
    "POST /v1/ledgers/{ledger}/rules/{rule}:accrue": {
        "idempotency_key": "k#",
        "account": "customer:1:wallet",
        "through": "2026-07-02",
        "since": "2026-07-01",
    },
    "POST /v1/ledgers/{ledger}/rules/{rule}:capitalize": {
        "idempotency_key": "k#",
        "account": "customer:1:wallet",
    },
    "POST /v1/ledgers/{ledger}/resumptions": {"reason": "looked at it"},
    "POST /v1/ledgers/{ledger}/checkpoints/{size}/cosignatures": {"cosignature": "x"},
    "POST /v1/ledgers/{ledger}/reversals": {
        "transaction": 4,
        "amount": "10",
        "reason": "duplicate",
        "idempotency_key": "k#",
    },
    "POST /v1/approvals/{approval}/decisions": {
        "decision": "approve",
        "digest": "0" * 64,
        "reason": "checked",
    },
    "POST /v1/parties": PARTY,
    "POST /v1/parties:batch": {"parties": [PARTY]},
    "POST /v1/parties/{party}/reveal": {"purpose": "alert_review", "fields": ["name"]},
    "POST /v1/parties/{party}/retention": {"legal_hold": False, "retain_until": "2030-01-01"},
    "POST /v1/statement-accounts": STATEMENT_ACCOUNT,
    "POST /v1/statement-accounts:batch": {"statement_accounts": [STATEMENT_ACCOUNT]},
    "POST /v1/statements": None,
}
"""A good body of each route that takes one; None: the bank file below. Each # becomes a number, so
that nothing is refused only because it was there before."""
MONEY = frozenset(
    {"amount", "floor", "ceiling", "at_least", "fixed", "minimum", "maximum"},
)
"""Fields whose digits are minor units: there an account number is just a large sum."""
PARAMETERS = {
    "ledger": "simulated",
    "account": "customer:1:wallet",
    "seq": "4",
    "size": "1",
    "day": "2020-02-01",
    "rule": "card",
}
BANK_FILE = """\
01,PARTNER,TALLY,260702,0600,1,80,1,2/
02,TALLY,{number},1,260701,2400,USD,2/
03,{number},USD,015,1250,,,040,0,,/
16,142,1250,0,{text},{text},PAYROLL {text}/
88,{text} CONTINUED/
49,2500,4/
98,2500,1,6/
99,2500,1,8/
"""


def with_canary(value: Any, bird: str) -> Iterator[Any]:
    """Copies of `value`, each with one of its texts, or the name of one of its fields, replaced."""
    if isinstance(value, str):
        yield bird if bird == canary.ACCOUNT_NUMBER else f"x {bird} y"
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if key in MONEY:
                continue
            for changed in with_canary(inner, bird):
                whole = copy.deepcopy(value)
                whole[key] = changed
                yield whole
    if isinstance(value, dict):
        yield {**value, bird: "x"}


@pytest.fixture(scope="module")
def services(postgres, _migrated, tmp_path_factory) -> Iterator[Services]:
    """Writer and API as processes, on a database of their own."""
    database = LedgerDatabase(postgres.create_database("ledger_canary", template=_migrated))
    with processes(database, tmp_path_factory.mktemp("canary")) as running:
        yield running


def doors() -> list[tuple[str, str]]:
    """Method and path of every route."""
    return [(method, route.path) for route in every_route() for method in sorted(route.methods)]


def address(path: str, **changes: str) -> str:
    """A path with its parameters filled in."""
    for name, value in {**PARAMETERS, **changes}.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    return path.replace("{", "").replace("}", "")


def as_json(body: Any) -> bytes:
    """A body's bytes, with fresh numbers in it."""
    return json.dumps(body).replace("#", str(next(_numbers))).encode()


def send_through(http: httpx.Client, method: str, path: str, bird: str) -> list[httpx.Response]:
    """One canary through one door: path, query string, headers, body."""
    route = f"{method} {path}"
    body = BODIES.get(route)
    names = [part.split("}")[0] for part in path.split("{")[1:]]
    headers = {"X-Request-Id": bird, "Idempotency-Key": bird, "User-Agent": bird, "Referer": bird}
    queries = {"bank": bird, "idempotency_key": bird, "after": bird, "prefix": bird, "status": bird}

    def request(target: str, content: Any = body, **options: Any) -> httpx.Request:
        options["headers"] = {**JSON, **options.get("headers", {})}
        return http.build_request(method, target, content=as_json(content), **options)

    requests = [
        *(request(address(path, **{name: bird})) for name in names),
        request(address(path), headers=headers, params=queries),
        request(address(path), params={"after": bird, bird: "1"}),
        *(request(address(path), one) for one in with_canary(body, bird)),
    ]
    if method == "GET":
        bad = {"Authorization": f"Bearer {bird}"}
        requests.append(http.build_request(method, address(path), headers=bad))
    if route == "POST /v1/statements":
        for number, text in ((bird, "plain"), ("12345678", bird)):
            content = BANK_FILE.format(number=number, text=text)
            requests.append(
                http.build_request(
                    method, path, params={"bank": "sandbox_bank"}, content=content.encode()
                )
            )
    return [http.send(request) for request in requests]


def prepare(services: Services, http: httpx.Client) -> None:
    """What the good bodies rest on: a ledger with two accounts and a transaction, a bank account.
    And the proof that they are good: were they refused as they are, no canary would be tried."""
    accounts = [{"account": name, "currency": "USD"} for name in ("bank:fbo", "customer:1:wallet")]
    for path, body in (
        ("/v1/ledgers", LEDGER),
        *(("/v1/ledgers/simulated/accounts", account) for account in accounts),
        ("/v1/ledgers/simulated/accounts", ACCOUNT),
        ("/v1/ledgers/simulated/transactions", TRANSACTION),
        ("/v1/ledgers/simulated/holds", HOLD),
        ("/v1/parties", PARTY),
        ("/v1/statement-accounts", STATEMENT_ACCOUNT),
    ):
        answer = http.post(path, content=as_json(body), headers=JSON)
        assert answer.status_code == 201, (path, answer.text)
    assert services.by_two(http, "/v1/ledgers/simulated/rules", RULE).status_code == 201
    stream = http.post(
        "/v1/ledgers/simulated/transactions:stream", content=as_json(TRANSACTION), headers=JSON
    )
    assert stream.json()["status"] == "committed"


def test_every_route_that_takes_a_body_is_tried():
    taking = {f"{m} {p}" for m, p in doors() if m in ("POST", "PATCH", "PUT")}
    assert taking == BODIES.keys()


def test_no_door_lets_personal_data_pass(services: Services):
    statuses: dict[int, int] = {}
    with services.client() as http:
        prepare(services, http)
        for method, path in doors():
            for bird in (canary.SSN, canary.ACCOUNT_NUMBER):
                for answer in send_through(http, method, path, bird):
                    statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
                    assert answer.status_code < 500, (method, path, answer.text)
        number = BANK_FILE.format(number="12345678", text="plain").encode()
        kept = http.post("/v1/statements", params={"bank": "sandbox_bank"}, content=number)
        assert kept.status_code == 201, kept.text
    assert statuses[422] > 100

    async def search() -> list[str]:
        owner = await asyncpg.connect(services.owner_url)
        try:
            assert await owner.fetchval("select count(*) from vault.field") > 10
            assert await owner.fetchval("select count(*) from stream.event") > 2
            return await canary.in_database(owner)
        finally:
            await owner.close()

    assert asyncio.run(search()) == []
    assert canary.in_directory(services.logs[0].parent) == []
    lines = services.logs[1].read_text().splitlines()
    assert any(json.loads(line)["event"] == "api.request_answered" for line in lines)


def test_the_search_finds_what_it_looks_for(tmp_path, ledger_database: LedgerDatabase):
    """The control: a canary that is there is found, in each kind of place."""
    import gzip

    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "a.log").write_text(f"x {canary.SSN}")
    (tmp_path / "b.gz").write_bytes(gzip.compress(canary.ACCOUNT_NUMBER.encode()))
    pq.write_table(pa.table({"n": [canary.ACCOUNT_NUMBER]}), tmp_path / "c.parquet")
    (tmp_path / "d.txt").write_text("nothing")
    assert canary.in_directory(tmp_path) == ["a.log", "b.gz", "c.parquet"]

    async def planted() -> list[str]:
        owner = await asyncpg.connect(ledger_database.owner_url)
        change = owner.transaction()
        await change.start()
        try:
            await owner.execute("create table stream.leak (a jsonb, b bytea)")
            await owner.execute(
                "insert into stream.leak values ($1, $2)",
                json.dumps({"deep": [canary.SSN]}),
                canary.ACCOUNT_NUMBER.encode(),
            )
            return await canary.in_database(owner)
        finally:
            await change.rollback()
            await owner.close()

    assert asyncio.run(planted()) == ["stream.leak.a", "stream.leak.b"]
