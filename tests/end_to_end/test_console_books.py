"""The console over a real ledger: an accountant sees holds, closes a period, reads a rule."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import asyncpg
import httpx
import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from playwright.sync_api import Browser, Page, expect

from ledger_service.engine import checkpoints
from ledger_service.security import identities
from monitoring.cli import upgrade
from monitoring.console import proving
from monitoring.proofs import Keys
from tests import monitoring_console, servers
from tests.end_to_end.browser import sign_in
from tests.end_to_end.test_console import CUT_OFF
from tests.ledger_api import PASSWORD, TIME_ZONE, Services, days_ago, processes

pytestmark = pytest.mark.browser

L = "/v1/ledgers/books"
A, CARD, FBO, FEES, GRAIN = (
    "customer:1:wallet",
    "clearing:card",
    "bank:fbo",
    "income:fees",
    "customer:1:grain",
)
LOG, WITNESS = (Ed25519PrivateKey.from_private_bytes(seed * 32) for seed in (b"l", b"w"))
KEYS = Keys(checkpoints.public_bytes(LOG), checkpoints.public_bytes(WITNESS))


# Of the module, as the browser is, and made before it: what runs a loop of its own can't be started
# where the browser's runs.
@pytest.fixture(scope="module")
def services(
    postgres: servers.Postgres, _migrated: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Services]:
    database = servers.LedgerDatabase(postgres.create_database("books", template=_migrated))
    with processes(database, tmp_path_factory.mktemp("services")) as running:
        asyncio.run(_people(running.owner_url))
        yield running
    postgres.drop_database("books")


async def _people(owner_url: str) -> None:
    owner = await asyncpg.connect(owner_url)
    for role in ("operator", "approver", "auditor"):
        await identities.create_user(owner, role, PASSWORD, [role])
    await owner.close()


@pytest.fixture(scope="module")
def console(
    services: Services, postgres: servers.Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    url = postgres.create_database("console_over_books")
    upgrade(url)
    folder = tmp_path_factory.mktemp("console")
    with (
        pytest.MonkeyPatch.context() as patch,
        monitoring_console.over(services.url, KEYS, url, folder) as (_, address),
    ):
        patch.setattr(proving, "WITNESS_SECONDS", 0)  # nobody here co-signs by itself
        yield address
    postgres.drop_database("console_over_books")


def entries(debited: str, credited: str, amount: int, currency: str = "USD") -> list[dict]:
    return [
        {"account": account, "side": side, "amount": str(amount), "currency": currency}
        for account, side in ((debited, "debit"), (credited, "credit"))
    ]


def post(http: httpx.Client, path: str, body: dict[str, Any]) -> int:
    answer = http.post(f"{L}/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json().get("seq", 0)


def begin(http: httpx.Client) -> None:
    """Books with 250.00 of a customer since a month ago, and a currency of nine places."""
    opening = {
        "ledger": "books", "currencies": ["USD"], "time_zone": TIME_ZONE,
        "cut_off": "17:00", "calendar": "us_federal_reserve", "chart": "us_fintech_fbo/1",
    }  # fmt: skip
    assert http.post("/v1/ledgers", json=opening).is_success
    post(http, "currencies", {"currency": "GRAIN", "exponent": 9})
    accounts = dict.fromkeys((A, CARD, FBO, FEES), "USD") | {
        GRAIN: "GRAIN",
        "position:grain": "GRAIN",
    }
    for account, currency in accounts.items():
        post(http, "accounts", {"account": account, "currency": currency})
    at = f"{days_ago(30)}T16:00:00Z"
    body = {"idempotency_key": "in", "kind": "deposit", "entries": entries(FBO, A, 25_000)}
    post(http, "transactions", {**body, "effective_at": at})


def cosign(services: Services) -> None:
    """What the witness would put under the newest checkpoint."""
    with psycopg.connect(services.owner_url) as owner:
        row = owner.execute(
            "select size, note from ledger.checkpoint order by size desc limit 1"
        ).fetchone()
        assert row is not None
        line = checkpoints.cosign(checkpoints.parse(row[1]), "witness", WITNESS, 1_790_000_000)
        owner.execute(
            "insert into ledger.cosignature values ('books', %s, 'witness', %s) "
            "on conflict do nothing",
            (row[0], line),
        )


def visit(chromium: Browser, console: str, user: str) -> Page:
    page = chromium.new_page(viewport={"width": 1280, "height": 800}, base_url=console)
    page.set_default_timeout(15_000)
    sign_in(page, console, user, PASSWORD)
    page.wait_for_url("**/")
    return page


def test_an_accountant_follows_holds_a_closing_and_a_rule(
    services: Services, console: str, chromium: Browser
) -> None:
    with services.client() as http:
        begin(http)
        page = visit(chromium, console, "operator")
        complaints: list[str] = []
        page.on("console", lambda line: complaints.append(line.text))
        hold = _a_hold_is_placed_captured_in_part_and_released(http, page)
        closing = _a_period_is_closed(services, page)
        approver = visit(chromium, console, "approver")
        _two_people_reopen_it(page, approver)
        _two_people_put_a_rule_in_force(http, page, approver)
        approval = _a_charge_and_the_next_version(http, page, approver)
        _an_end_and_a_correction_can_be_read(services, http, approver)
        cosign(services)
        assert [text for text in complaints if "409" not in text] == []
        auditor = visit(chromium, console, "auditor")
        for width in (1280, 390):
            auditor.set_viewport_size({"width": width, "height": 844})
            for path in ("/holds?state=all", f"/holds/books/{hold}", "/periods", "/rules",
                         "/approvals", f"/approvals/{approval}",
                         f"/periods/books/{closing}", "/rules/books/card",
                         f"/proofs/books/{closing}"):  # fmt: skip
                auditor.goto(path)
                wide = auditor.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{path} at {width}"
                if width == 1280:
                    cut_off = auditor.locator(".scroll").evaluate_all(CUT_OFF)
                    assert cut_off == [], f"{path} cuts tables off"
        assert auditor.get_by_role("button", name="Close").count() == 0


def _a_hold_is_placed_captured_in_part_and_released(http: httpx.Client, page: Page) -> int:
    page.goto("/holds")
    expect(page.locator(".empty")).to_contain_text("No hold is open")
    hold = post(http, "holds", {"idempotency_key": "h", "kind": "card_purchase",
                                "entries": entries(A, CARD, 6_000)})  # fmt: skip
    post(http, "transactions", {"idempotency_key": "g", "kind": "transfer",
                                "entries": entries("position:grain", GRAIN, 5_000_000_001, "GRAIN")})  # fmt: skip
    other = post(http, "holds", {"idempotency_key": "k", "kind": "transfer",
                                 "entries": entries(GRAIN, "position:grain", 1, "GRAIN")})  # fmt: skip
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(2)
    expect(page.locator("tbody tr").first).to_contain_text("0.000000001")
    page.get_by_role("searchbox").fill(CARD)
    page.get_by_role("button", name="Find").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("tbody tr")).to_contain_text("60.00")
    part = {"idempotency_key": "c", "amount": "2500", "ends_hold": False}
    captured = post(http, f"holds/{hold}:capture", part)
    page.reload()
    expect(page.locator("tbody tr")).to_contain_text(f"part by {captured}")
    page.get_by_role("link", name=str(hold), exact=True).click()
    expect(page.locator(".headline")).to_contain_text("35.00")
    post(http, f"holds/{hold}:void", {"idempotency_key": "v", "reason": "order_cancelled"})
    page.reload()
    expect(page.locator(".headline .chip")).to_have_text("Voided")
    steps = page.locator(".timeline li")
    expect(steps).to_have_count(3)
    expect(steps.nth(0)).to_contain_text("Voided: order cancelled, 35.00")
    expect(steps.nth(1)).to_contain_text("Captured 25.00")
    expect(steps.nth(2)).to_contain_text("Placed 60.00")
    page.goto("/holds?state=voided")
    expect(page.locator("tbody tr")).to_have_count(1)
    page.goto("/holds?state=open")
    expect(page.locator("tbody th")).to_contain_text(str(other))
    return hold


def _a_period_is_closed(services: Services, page: Page) -> int:
    page.get_by_role("link", name="Periods").click()
    expect(page.locator(".flow")).to_contain_text("nothing yet")
    page.get_by_label("Through").fill(days_ago(10))
    page.get_by_role("combobox").select_option("For good")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("h1")).to_contain_text("Closed through")
    closing = int(page.url.rsplit("/", 1)[1])
    assert page.url.endswith(f"/periods/books/{closing}")
    cosign(services)
    page.reload()
    expect(page.locator(".banner")).to_contain_text("Proven.")
    expect(page.locator("table").first).to_contain_text("250.00")
    expect(page.locator("tbody th").nth(1)).to_have_text(
        "1010 Cash at the partner bank for the benefit of customers"
    )
    stated, checked = page.locator(".checks").all()
    assert stated.locator(".good").count() == 5
    assert checked.locator(".good").count() == 5
    with psycopg.connect(services.owner_url) as owner:
        root = owner.execute(
            "select convert_from(bytes, 'UTF8')::jsonb ->> 'tree_root' from ledger.journal "
            "where seq = %s", (closing,)
        ).fetchone()  # fmt: skip
    assert root is not None
    expect(page.locator("main")).to_contain_text(root[0])
    page.get_by_role("link", name="Proof of seq").click()
    expect(page.locator(".banner.good")).to_contain_text("Proven.")
    return closing


def _two_people_reopen_it(operator: Page, approver: Page) -> None:
    operator.goto("/periods")
    operator.get_by_label("From this day on").fill(days_ago(12))
    operator.get_by_label("Reason").fill("late_statement")
    operator.get_by_role("button", name="Ask for approval").click()
    waiting = operator.locator("#waiting")
    waiting.get_by_label("Reason").fill("I am sure")
    waiting.get_by_role("button", name="Approve").click()
    expect(operator.locator("main")).to_contain_text("You asked for this reopening yourself")
    approver.goto("/periods")
    approver.get_by_label("Reason").fill("Seen the statement")
    approver.get_by_role("button", name="Approve").click()
    expect(approver.locator("#waiting .chip")).to_have_text("Approved")
    operator.goto("/periods")
    operator.get_by_role("button", name="Reopen from").click()
    expect(operator.locator("#waiting")).to_have_count(0)
    expect(operator.locator("tbody tr").first).to_contain_text("Late statement")
    expect(operator.locator("tbody tr").first).to_contain_text("approved by usr_")


RULE = {
    "rule": "card", "since": days_ago(20), "kind": "fee", "currency": "USD",
    "tiers": [{"rate": "0.029", "fixed": "30"}],
    "debit": [{"account": "{account}", "weight": 1}],
    "credit": [{"account": FEES, "weight": 1}],
}  # fmt: skip


def ask_for(http: httpx.Client, rule: dict[str, Any]) -> str:
    """The approval that a rule is asked for by."""
    asked = http.post(f"{L}/rules", json=rule)
    assert asked.status_code == 202, asked.text
    return asked.json()["approval"]


def _two_people_put_a_rule_in_force(http: httpx.Client, page: Page, approver: Page) -> None:
    page.get_by_role("link", name="Posting rules").click()
    expect(page.locator(".empty")).to_contain_text("No rule is declared yet")
    approval = ask_for(http, RULE)
    page.reload()
    expect(page.locator("#waiting")).to_contain_text("Fee rule “card” from")
    approver.get_by_role("link", name="Approvals").click()
    approver.get_by_role("link", name="Fee rule “card”").click()
    expect(approver.locator("h2").first).to_have_text("The terms of a new rule")
    terms = approver.locator(".terms")
    expect(terms).to_contain_text("2.9 % of the amount and 0.30 USD")
    expect(terms).to_contain_text("The account it is applied to")
    expect(approver.locator(".banner.warn")).to_contain_text("It begins in the past")
    approver.get_by_label("Reason").fill("As the board resolved")
    approver.get_by_role("button", name="Approve").click()
    expect(approver.locator("aside .chip")).to_have_text("Approved")
    assert http.post(f"{L}/rules", json={**RULE, "approval": approval}).status_code == 201
    approver.reload()
    expect(approver.locator("aside .chip")).to_have_text("Consumed")
    page.reload()
    expect(page.locator("#waiting")).to_have_count(0)
    expect(page.locator("tbody tr")).to_contain_text("2.9 % + 0.30")
    expect(page.locator("tbody .chip")).to_have_text("In force")


def _a_charge_and_the_next_version(http: httpx.Client, page: Page, approver: Page) -> str:
    page.get_by_role("link", name="card").click()
    expect(page.locator(".empty")).to_contain_text("Nothing yet")
    expect(page.locator(".facts").first).to_contain_text("Approvedby usr_")
    charge = {"idempotency_key": "f", "account": A, "amount": "10000"}
    post(http, "rules/card:charge", charge)
    page.reload()
    charged = page.locator("section").last.locator("tbody tr")
    expect(charged).to_contain_text("100.00")
    expect(charged).to_contain_text("3.20")
    tiers = [{"rate": "0.029", "fixed": "30"}, {"at_least": "100000", "rate": "0.019"}]
    approval = ask_for(http, {**RULE, "since": days_ago(-30), "tiers": tiers, "maximum": "5000"})
    approver.goto(f"/approvals/{approval}")
    changed = approver.locator(".changed")
    expect(changed).to_have_count(3)
    expect(approver.locator("h2").first).to_have_text("The terms 3 of 7 differ from version 1")
    expect(changed.nth(1)).to_contain_text("1.9 % of what is above 1,000.00 USD")
    expect(approver.locator(".banner")).to_have_count(0)
    approver.get_by_label("Reason").fill("Not what was agreed")
    approver.get_by_role("button", name="Refuse").click()
    expect(approver.locator("aside .chip")).to_have_text("Refused")
    expect(changed).to_have_count(3)
    return approval


def _asked_for_untried(services: Services, like: str) -> str:
    """An approval from before what is asked for was tried first: its words need not be entries."""
    with psycopg.connect(services.owner_url) as owner:
        owner.execute(
            "insert into security.approval (approval_id, kind, subject, digest, facts, "
            " requested_by, requested_for, expires_at) "
            "select 'apr_untried', kind, subject, digest, "
            "       jsonb_set(facts, '{entries}', to_jsonb(text 'no account debit 200 USD')), "
            "       requested_by, requested_for, expires_at "
            "  from security.approval where approval_id = %s",
            (like,),
        )
    return "apr_untried"


def _an_end_and_a_correction_can_be_read(
    services: Services, http: httpx.Client, approver: Page
) -> None:
    ends = http.post(f"{L}/rules/card:withdraw", json={"since": days_ago(-9)}).json()["approval"]
    approver.goto(f"/approvals/{ends}")
    expect(approver.locator("h1")).to_contain_text("Withdrawal of rule “card” from")
    expect(approver.locator("h2").first).to_have_text("What ends version 1")
    expect(approver.locator(".terms")).to_contain_text("2.9 % of the amount and 0.30 USD")
    first = http.get(f"{L}/transactions", params={"idempotency_key": "in"}).json()["seq"]
    correction = {
        "idempotency_key": "cor", "kind": "adjustment", "entries": entries(A, FBO, 200),
        "effective_at": f"{days_ago(11)}T16:00:00Z", "corrects": first,
    }  # fmt: skip
    asked = http.post(f"{L}/corrections", json=correction).json()["approval"]
    nonsense = {**correction, "entries": [{**entries(A, FBO, 200)[0], "account": "no account"}] * 2}
    assert http.post(f"{L}/corrections", json=nonsense).json()["code"] == "unbalanced"
    approver.goto(f"/approvals/{_asked_for_untried(services, asked)}")
    expect(approver.locator(".facts").first).to_contain_text("no account debit 200 USD")
    approver.goto("/approvals")
    approver.get_by_role("link", name=f"Correction of transaction {first}").first.click()
    assert approver.url.endswith(asked)
    expect(approver.locator("tbody tr").first).to_contain_text("2.00")
    expect(approver.locator("tbody tr").first).to_contain_text(A)
