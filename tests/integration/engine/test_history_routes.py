"""What follows the journal, over HTTP: read at once after posting, on both clocks, in pages."""

from __future__ import annotations

import asyncio
import contextlib
import random

import asyncpg
import httpx
import psycopg
import pytest

from ledger_service.engine import projector
from ledger_service.engine.projections import HISTORY
from ledger_service.engine.rebuild import drift
from tests import dated_histories, ledger_events
from tests.integration.engine.test_ledger_routes import LEDGER, A, B, L, body, code
from tests.ledger_api import processes, serving
from tests.servers import LedgerDatabase, Postgres


def test_a_read_sees_what_was_answered_before_it(ledger_database: LedgerDatabase, tmp_path) -> None:
    with processes(ledger_database, tmp_path) as services, services.client() as http:
        http.post("/v1/ledgers", json=LEDGER)
        accounts = [{"account": account, "currency": "USD"} for account in (A, B)]
        http.post(f"{L}/accounts:batch", json={"accounts": accounts})
        for number in range(30):
            effective = {"effective_at": f"2026-01-{1 + number % 10:02}T12:00:00-05:00"}
            posted = http.post(f"{L}/transactions", json=body(f"k{number}", **effective)).json()
            balance = http.get(
                f"{L}/accounts/{A}/balance", params={"effective_date": "2026-01-10"}
            ).json()
            assert (balance["debits"], balance["at_seq"]) == (str(5 * (number + 1)), posted["seq"])
            listed = http.get(f"{L}/transactions", params={"kind": "transfer", "limit": 1}).json()
            assert listed["transactions"][0] == posted
        _both_clocks(http)
        _statement(http)
        _lists(http)
        _entries(http)
        _refusals(http)


def _both_clocks(http: httpx.Client) -> None:
    one = http.get(f"{L}/transactions", params={"idempotency_key": "k14"}).json()
    asked = {"effective_at": "2026-01-05T12:00:00-05:00", "known_at": one["recorded_at"]}
    balance = http.get(f"{L}/accounts/{B}/balance", params=asked).json()
    # k0 to k14 are known; of each ten five count by then
    assert (balance["credits"], balance["posted"]) == ("50", "50")
    assert balance["at_seq"] == one["seq"]
    trial = http.get(f"{L}/trial-balance", params=asked).json()
    assert [line["debits"] for line in trial["lines"]] == ["0", "50"]
    assert (trial["balanced"], trial["effective_at"]) == (True, "2026-01-05T17:00:00.000000Z")
    assert (trial["lines"][1]["gl_code"], trial["lines"][1]["parent"]) == ("2010", "2000")
    assert [(one["gl_code"], one["debits"]) for one in trial["roll_ups"]] == [
        ("1100", "0"),
        ("2000", "50"),
    ]
    now = http.get(f"{L}/trial-balance").json()["roll_ups"]
    assert [(one["name"], one["parent"], one["credits"]) for one in now][1:] == [
        ("What we owe customers", None, "150")
    ]
    every = http.get(f"{L}/balances", params={**asked, "known_at": "2020-01-01T00:00:00Z"})
    assert (every.text, every.headers["X-Ledger-Seq"]) == ("", "0")
    early = http.get(f"{L}/accounts/{B}/balance", params={"at_seq": 1})
    assert code(early) == (404, "not_found")


def _statement(http: httpx.Client) -> None:
    asked = {"from": "2026-01-02", "effective_date": "2026-01-03", "limit": 4}
    page = http.get(f"{L}/accounts/{B}/statement", params=asked).json()
    assert (page["opening"]["posted"], page["closing"]["posted"]) == ("15", "45")
    more = {**asked, "at_seq": page["at_seq"], "after": page["next"]}
    rest = http.get(f"{L}/accounts/{B}/statement", params=more).json()
    entries = page["entries"] + rest["entries"]
    assert [entry["effective_date"] for entry in entries] == ["2026-01-02"] * 3 + ["2026-01-03"] * 3
    assert (len(page["entries"]), rest["next"]) == (4, None)
    asked = {"from": "2026-01-09", "limit": 1}
    days = http.get(f"{L}/accounts/{B}/daily-balances", params=asked).json()
    assert days["days"] == [
        {
            "effective_date": "2026-01-09",
            "moved_debits": "0",
            "moved_credits": "15",
            "debits": "0",
            "credits": "135",
            "posted": "135",
        }
    ]
    assert days["next"] == "2026-01-10"


def _lists(http: httpx.Client) -> None:
    marked = {"metadata": {"invoice": "a=b"}, "context": {"channel": "ach", "counterparty": "cp1"}}
    seq = http.post(f"{L}/transactions", json=body("marked", **marked)).json()["seq"]
    for asked in (
        {"metadata": "invoice=a=b"},
        {"channel": "ach"},
        {"counterparty": "cp1", "kind": "transfer"},
        {"effective_from": "2026-02-01T00:00:00Z"},
    ):
        found = http.get(f"{L}/transactions", params=asked).json()
        assert [event["seq"] for event in found["transactions"]] == [seq], asked
    pages, asked = [], {"effective_to": "2026-01-04T00:00:00Z", "limit": 2}
    while True:
        page = http.get(f"{L}/transactions", params=asked).json()
        pages += [event["effective_date"] for event in page["transactions"]]
        if page["next"] is None:
            break
        asked["before"] = page["next"]
    assert pages == ["2026-01-03"] * 3 + ["2026-01-02"] * 3 + ["2026-01-01"] * 3


def _entries(http: httpx.Client) -> None:
    """A's 31 debits of 5, three on each day of early January, and one of today."""
    for asked, expected in (
        ({}, 31),
        ({"side": "credit"}, 0),
        ({"side": "debit", "amount_min": 5, "amount_max": 5}, 31),
        ({"amount_min": 6}, 0),
        ({"effective_date_from": "2026-01-03", "effective_date_to": "2026-01-04"}, 6),
        ({"effective_date_from": "2026-01-11"}, 1),
        ({"recorded_to": "2026-01-01T00:00:00Z"}, 0),
        ({"recorded_from": "2026-01-01T00:00:00Z", "effective_date_to": "2026-01-01"}, 3),
    ):
        pages, place = [], {"limit": 4}
        while True:
            page = http.get(f"{L}/accounts/{A}/entries", params={**asked, **place}).json()
            pages += [entry["seq"] for entry in page["entries"]]
            if page["next_before_seq"] is None:
                break
            place["before_seq"] = page["next_before_seq"]
        assert len(pages) == expected, asked
        assert pages == sorted(pages, reverse=True)


def _refusals(http: httpx.Client) -> None:
    for path, asked, expected in (
        ("transactions", {"metadata": "colour=red"}, "undeclared_metadata"),
        ("transactions", {"effective_from": "yesterday"}, "invalid_request"),
        ("transactions", {"before": "2026-01-01T00:00:00Z_4"}, "invalid_request"),
        ("transactions", {"limit": 1001}, "invalid_request"),
        (f"accounts/{A}/balance", {"at_seq": 4, "known_at": "x"}, "invalid_request"),
        (f"accounts/{A}/balance", {"at_seq": 10**6}, "invalid_request"),
        (f"accounts/{A}/statement", {"after": "1_2"}, "invalid_request"),
        (f"accounts/{A}/entries", {"side": "left"}, "invalid_request"),
        (f"accounts/{A}/entries", {"amount_min": "1.5"}, "invalid_request"),
        (f"accounts/{A}/entries", {"effective_date_from": "May"}, "invalid_request"),
    ):
        assert code(http.get(f"{L}/{path}", params=asked)) == (422, expected), (path, asked)
    assert code(http.get("/v1/ledgers/none/transactions")) == (404, "ledger_not_open")


async def test_a_history_that_does_not_come_is_named(
    ledger_database: LedgerDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger_events.store_journal(ledger_database.owner_url, ledger_events.history("simulated", 3))
    monkeypatch.setattr(projector, "WAIT_S", 0.05)
    async with serving(ledger_database, monkeypatch) as api:
        answer = await api.call("auditor", "GET", f"{L}/transactions")
        assert code(answer) == (503, "projection_behind")
        assert answer.headers["Retry-After"] == "1"


async def test_every_event_is_counted_once_whoever_follows_and_is_cut_off(
    ledger_database: LedgerDatabase, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = ledger_events.history("simulated", 200)
    dated_histories.store(ledger_database.owner_url, events)
    monkeypatch.setattr(projector, "STEP_EVENTS", 3)
    owner = await asyncpg.connect(ledger_database.owner_url)
    for table in HISTORY.tables:
        await owner.execute(f"delete from ledger.{table.name}")
    await owner.execute("delete from ledger.projection")

    async def follow() -> None:
        at = 0
        while at < len(events):
            with contextlib.suppress(
                asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError
            ):
                connection = await asyncpg.connect(ledger_database.url("writer"))
                while at < len(events):
                    at = await projector.step(connection, "simulated")

    async def cut_off() -> None:
        administrator = await asyncpg.connect(postgres.admin_url)
        database = ledger_database.owner_url.rsplit("/", 1)[1].split("?")[0]
        while True:
            await asyncio.sleep(0.05 * random.random())
            await administrator.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 "
                "and usename like '%writer%' order by random() limit 1",
                database,
            )

    cutting = asyncio.create_task(cut_off())
    await asyncio.wait_for(asyncio.gather(*(follow() for _ in range(3))), 60)
    cutting.cancel()
    await owner.close()
    with psycopg.connect(ledger_database.owner_url) as connection:
        assert drift(connection, "simulated", HISTORY).differing == {}
