"""Posting rules and a ledger's own currencies over HTTP, across restarts, verification and a move."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from ledger_service.contract.events import decode_journal
from ledger_service.domain.commands import OpenAccount
from ledger_service.engine import store
from ledger_service.engine.arriving import arrive
from ledger_service.engine.leaving import export
from ledger_service.engine.rebuild import rebuild
from ledger_service.engine.verification import journal
from ledger_service.engine.verify import verify, verify_new
from tests.integration.engine.conftest import by_two, local_writer
from tests.integration.engine.test_holds_and_periods import L, code
from tests.integration.engine.test_writer import submit
from tests.ledger_api import LEDGER, Services, days_ago, processes
from tests.ledger_book import OPENING, accruing, interest_rule, posting
from tests.servers import LedgerDatabase, Postgres

A, B, FBO = "customer:1:wallet", "customer:2:wallet", "bank:fbo"
EXPENSE, PAYABLE, FEES = "expense:interest", "payable:interest", "income:fees"
RULE = {"rule": "save", "since": days_ago(30), "kind": "interest", "currency": "USD",
        "tiers": [{"rate": "0.0365"}], "day_count": "ACT/365F",
        "debit": [{"account": EXPENSE, "weight": 1}],
        "credit": [{"account": PAYABLE, "weight": 1}]}  # fmt: skip
CARD = {"rule": "card", "since": days_ago(30), "kind": "fee", "currency": "USD",
        "tiers": [{"rate": "0.01"}], "debit": [{"account": "{account}", "weight": 1}],
        "credit": [{"account": FEES, "weight": 2}, {"account": PAYABLE, "weight": 1}]}  # fmt: skip


@pytest.fixture
def services(ledger_database: LedgerDatabase, tmp_path) -> Iterator[Services]:
    with processes(ledger_database, tmp_path) as running:
        yield running


@pytest.fixture
def elsewhere(postgres: Postgres, _migrated: str) -> Iterator[LedgerDatabase]:
    yield LedgerDatabase(postgres.create_database("rules_elsewhere", template=_migrated))
    postgres.drop_database("rules_elsewhere")


def post(http: httpx.Client, path: str, body: dict[str, Any], status: int = 201) -> Any:
    answer = http.post(f"{L}/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def fund(http: httpx.Client, account: str, amount: int, ago: int) -> Any:
    lines = [(FBO, "debit"), (account, "credit")]
    entries = [{"account": name, "side": side, "amount": str(amount), "currency": "USD"}
               for name, side in lines]  # fmt: skip
    return post(http, "transactions", {
        "idempotency_key": f"fund {account} {amount} {ago}", "kind": "deposit",
        "effective_at": f"{days_ago(ago)}T16:00:00Z", "entries": entries,
    })  # fmt: skip


def begin(services: Services, http: httpx.Client) -> None:
    assert http.post("/v1/ledgers", json=LEDGER).status_code == 201
    accounts = [
        {"account": name, "currency": "USD"} for name in (A, B, FBO, EXPENSE, PAYABLE, FEES)
    ]
    http.post(f"{L}/accounts:batch", json={"accounts": accounts})
    for rule in (RULE, CARD):
        assert services.by_two(http, f"{L}/rules", rule).status_code == 201


def accrue(http: httpx.Client, key: str, ago: int, account: str = A, **more: Any) -> httpx.Response:
    body = {"idempotency_key": key, "account": account, "through": days_ago(ago), **more}
    return http.post(f"{L}/rules/save:accrue", json=body)


def test_interest_and_fees_from_declaration_to_another_installation(
    services: Services, ledger_database: LedgerDatabase, elsewhere: LedgerDatabase, tmp_path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def is_sound() -> bool:
        """By what is new alone, which rests on what was verified before."""
        return verify_new(ledger_database.url("verifier")).findings == []

    with services.client() as http:
        begin(services, http)
        assert post(http, "rules", RULE, 200)["version"] == 1
        assert is_sound()
        fund(http, A, 100_000, 20)
        dry = accrue(http, "dry", 11, dry_run=True).json()
        assert (dry["dry_run"], dry["entries"][0]["amount"]) == (True, "100")
        first = accrue(http, "i1", 11)
        assert (first.status_code, first.json()["applied"]["interest"]) == (201, "100/1")
        assert first.json()["effective_date"] == days_ago(11)
        assert accrue(http, "i1", 11).status_code == 200
        assert accrue(http, "i1", 11).headers["Idempotent-Replayed"] == "true"
        assert code(accrue(http, "i2", 11)) == (409, "already_accrued")
        assert code(accrue(http, "i2", 0)) == (422, "day_not_over")
        assert code(accrue(http, "i2", 12, B)) == (422, "nothing_due")
        assert is_sound()
        # what the writer knew is gone: it reads back what has accrued
        services.restart_writer()
        fund(http, A, 100_000, 15)  # backdated into days that are accrued
        fund(http, A, 3, 0)  # after all days that are asked for
        second = accrue(http, "i2", 6).json()
        assert (second["applied"]["interest"], second["applied"]["true_up"]) == ("100/1", "50/1")
        assert second["applied"]["first_day"] == days_ago(10)
        assert is_sound()
        stated = http.get(f"{L}/accounts/{A}/accruals").json()["accruals"]
        assert [(one["accrued"], one["through"]) for one in stated] == [("250", days_ago(6))]
        paid = post(http, "rules/save:capitalize", {"idempotency_key": "c", "account": A})
        assert [(e["account"], e["amount"]) for e in paid["entries"]] == [
            (PAYABLE, "250"),
            (A, "250"),
        ]
        assert http.get(f"{L}/accounts/{PAYABLE}").json()["posted"] == "0"

        fee = post(
            http, "rules/card:charge", {"idempotency_key": "f", "account": A, "amount": "1000"}
        )
        assert [entry["amount"] for entry in fee["entries"]] == ["10", "7", "3"]
        withdrawn = services.by_two(http, f"{L}/rules/card:withdraw", {"since": days_ago(3)})
        assert withdrawn.status_code == 201
        late = {"idempotency_key": "g", "account": A, "amount": "1000"}
        assert code(http.post(f"{L}/rules/card:charge", json=late)) == (422, "rule_not_in_force")
        assert [rule["version"] for rule in http.get(f"{L}/rules").json()["rules"]] == [1, 2, 1]
        _many(http)
        assert is_sound()
        in_ledgers = [one for one in verify(ledger_database.owner_url).findings if one.ledger]
        assert in_ledgers == []
        for projection in ("accruals", "declarations"):
            with psycopg.connect(ledger_database.owner_url, autocommit=True) as connection:
                connection.execute("delete from ledger.accrual")
                connection.execute("delete from ledger.declaration")
                assert rebuild(connection, "simulated", projection).differing
                rebuild(connection, "simulated", "declarations")
                rebuild(connection, "simulated", "accruals")
        assert code(accrue(http, "again", 6)) == (409, "already_accrued")
        before = http.get(f"{L}/accounts/{A}/accruals").json()
        size = http.post(f"{L}/periods:close", json={"through": days_ago(24)}).json()["seq"]
        fund(http, B, 1, 0)  # decided only when the closing is signed
        assert http.get(f"{L}/checkpoints/{size}").status_code == 200
    _is_found(ledger_database.owner_url, monkeypatch)
    export(ledger_database.owner_url, "simulated", tmp_path / "out", log_key="", witness_key="")
    arrive(elsewhere.owner_url, tmp_path / "out")
    assert verify(elsewhere.owner_url, "simulated").findings == []
    (tmp_path / "there").mkdir()
    with processes(elsewhere, tmp_path / "there") as there, there.client() as http:
        assert http.get(f"{L}/accounts/{A}/accruals").json() == before
        assert code(accrue(http, "there", 6)) == (409, "already_accrued")
        assert accrue(http, "there", 1).json()["applied"]["first_day"] == days_ago(5)


def _is_found(owner_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interest that the entries do not give; what is changed here is put back."""
    # What came before the page is brought in from what follows the journal.
    monkeypatch.setattr(journal, "_PAGE", 1)
    change = (
        "update ledger.posting_list set effective_dates[1] = effective_dates[1] + %s "
        "where number = %s"
    )
    with psycopg.connect(owner_url, autocommit=True) as connection:
        number = connection.execute(
            "select number from ledger.account where account = %s", (B,)
        ).fetchone()
        assert number
        connection.execute(change, (1, number[0]))
        found = verify(owner_url).findings
        connection.execute(change, (-1, number[0]))
    assert ("interest_differs", "rebuild") in [(f.code, f.remedy) for f in found]


def _many(http: httpx.Client) -> None:
    """A verdict for each of a batch; a linked one is taken back as a whole, its days too."""
    fund(http, B, 36_500, 10)
    accruals = [{"do": "accrue", "rule": "save", "idempotency_key": f"b{number}", "account": account,
                 "through": days_ago(ago)}
                for number, (account, ago) in enumerate(
                    [(B, 9), (B, 8), (B, 8), ("customer:9:wallet", 9)])]  # fmt: skip
    body = {"commands": accruals, "linked": True}
    found = http.post(f"{L}/commands:batch", json=body).json()["results"]
    assert [one["code"] for one in found][2] == "already_accrued"
    found = http.post(f"{L}/commands:batch", json={"commands": accruals}).json()["results"]
    assert [one.get("code", one["status"]) for one in found] == [
        "committed",
        "committed",
        "already_accrued",
        "unknown_account",
    ]
    shown = http.get(f"{L}/transactions/{found[1]['seq']}").json()["applied"]
    assert (shown["first_day"], shown["interest"], shown["accrued"]) == (days_ago(8), "73/20", "11")


async def test_an_accrual_sees_what_a_commit_under_way_posts(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deposit's commit hangs, one that counts later; another one comes in the accruals' batch."""
    wallet = "customer:1:wallet"
    async with local_writer(ledger_database, overlapping_commands=1) as writer:
        names = (wallet, FBO, EXPENSE, PAYABLE)
        await submit(writer, OPENING, *(OpenAccount(name, "USD", "key_test") for name in names))
        rule = by_two(ledger_database, interest_rule("save", "0.0365", since=days_ago(9)))
        await submit(writer, rule)
        going_on, real, begun = asyncio.Event(), store.commit, asyncio.Event()

        async def commit(connection, rows, epoch) -> None:
            begun.set()
            await going_on.wait()
            await real(connection, rows, epoch)

        def deposit(key: str, ago: int):
            moves = [(FBO, 100_000), (wallet, -100_000)]
            return posting(key, *moves, effective_at=f"{days_ago(ago)}T16:00:00Z")

        await submit(writer, deposit("first", 9))
        monkeypatch.setattr(store, "commit", commit)
        under_way = submit(writer, deposit("one", 1))
        await begun.wait()
        accrued = submit(
            writer,
            accruing("i1", "save", wallet, days_ago(5)),
            deposit("two", 4),
            accruing("i2", "save", wallet, days_ago(3)),
        )
        await asyncio.sleep(0.2)
        assert not under_way.done()
        going_on.set()
        first, _, second = await accrued
    interest = [decode_journal(one.event_bytes).applied.interest for one in (first, second)]
    assert interest == ["50/1", "40/1"], "of 100,000 for five days, of 200,000 for two"
    in_ledgers = [one for one in verify(ledger_database.owner_url).findings if one.ledger]
    assert in_ledgers == []


def test_a_ledger_keeps_currencies_of_its_own(
    services: Services, ledger_database: LedgerDatabase
) -> None:
    with services.client() as http:
        begin(services, http)
        path, coins = f"{L}/currencies", {"currency": "USDX", "exponent": 9}
        assert code(http.post(f"{L}/accounts", json={"account": "customer:1:coins", "currency": "USDX"})) \
            == (422, "unknown_currency")  # fmt: skip
        for wrong in ({"currency": "USD", "exponent": 2}, {"currency": "USDX", "exponent": 10},
                      {"currency": "usdx", "exponent": 2}, {"currency": "USDX", "exponent": -1},
                      {"currency": "USDX", "exponent": 2**64 - 1}):  # fmt: skip
            assert code(http.post(path, json=wrong)) == (422, "bad_currency")
        assert http.post(path, json=coins).status_code == 201
        assert http.post(path, json=coins).status_code == 200
        assert code(http.post(path, json={**coins, "exponent": 8})) == (409, "currency_declared")
        assert http.get(L).json()["exponents"] == {"USD": 2, "USDX": 9}
        services.restart_writer()
        accounts = [{"account": name, "currency": "USDX", "floor": floor}
                    for name, floor in (("customer:1:coins", "0"), ("position:usdx", None))]  # fmt: skip
        accounts.append({"account": "position:usd", "currency": "USD", "floor": None})
        found = http.post(f"{L}/accounts:batch", json={"accounts": accounts}).json()["results"]
        assert [one["status"] for one in found] == ["committed"] * 3
        fund(http, A, 100_000, 1)
        most = str(2**63 - 1)

        def buy(key: str, cents: str, coins: str) -> httpx.Response:
            moves = [(A, "debit", cents, "USD"), ("position:usd", "credit", cents, "USD"),
                     ("position:usdx", "debit", coins, "USDX"),
                     ("customer:1:coins", "credit", coins, "USDX")]  # fmt: skip
            entries = [dict(zip(("account", "side", "amount", "currency"), move, strict=True))
                       for move in moves]  # fmt: skip
            rate = {"sell": "USD", "buy": "USDX", "numerator": "3", "denominator": "2"}
            return http.post(f"{L}/transactions", json={
                "idempotency_key": key, "kind": "transfer", "entries": entries, "rate": rate,
            })  # fmt: skip

        assert code(buy("b", "100", "1500000001")) == (422, "rate_differs")
        assert buy("b", "100", "1500000000").status_code == 201
        assert code(buy("c", "100", str(2**63))) == (422, "bad_amount")
        back = [("customer:1:coins", "debit"), ("position:usdx", "credit")]
        body = {"idempotency_key": "imposed", "kind": "return", "imposed": True, "entries": [
            {"account": name, "side": side, "amount": most, "currency": "USDX"} for name, side in back
        ]}  # fmt: skip
        short = post(http, "transactions", body)["entries"][2]
        assert short == {"account": "receivable:shortfall_usdx", "side": "debit", "currency": "USDX",
                         "amount": str(2**63 - 1 - 1_500_000_000)}  # fmt: skip
        body["idempotency_key"] = "more"
        post(http, "transactions", body)
        stated = http.get(f"{L}/accounts/receivable:shortfall_usdx").json()
        assert int(stated["posted"]) == 2 * (2**63 - 1) - 1_500_000_000
        assert http.get(f"{L}/trial-balance").json()["balanced"]
        in_ledgers = [one for one in verify(ledger_database.owner_url).findings if one.ledger]
        assert in_ledgers == []
