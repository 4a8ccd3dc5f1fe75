"""The console in a real browser: what a person does, and that no page breaks its own policy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from monitoring.cli import upgrade
from tests import monitoring_console, servers
from tests.end_to_end.browser import sign_in
from tests.monitoring_console import Console
from tests.monitoring_ledger import PASSWORD

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def console(
    postgres: servers.Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    url = postgres.create_database("console_in_browser")
    upgrade(url)
    with monitoring_console.running(url, tmp_path_factory.mktemp("console")) as running:
        yield running
    postgres.drop_database("console_in_browser")


CUT_OFF = "tables => tables.filter(t => t.scrollWidth > t.clientWidth).map(t => t.textContent)"
"""Tables of which a part is hidden at the side."""


class Visitor:
    """One person's browser; what its pages complain of is kept."""

    def __init__(self, console: Console, page: Page) -> None:
        self.console, self.page = console, page
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on(
            "console",
            lambda line: self.complaints.append(line.text) if line.type == "error" else None,
        )

    def open(self, path: str) -> Page:
        self.page.goto(self.console.url + path)
        return self.page

    def sign_in(self, user: str, password: str = PASSWORD) -> Page:
        sign_in(self.page, self.console.url, user, password)
        return self.page


@pytest.fixture
def visit(console: Console, chromium: Browser) -> Iterator[Visitor]:
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    visitor = Visitor(console, context.new_page())
    visitor.page.set_default_timeout(15_000)
    yield visitor
    context.close()


def test_a_person_signs_in_sees_the_house_move_and_signs_out(visit: Visitor) -> None:
    page = visit.sign_in("auditor", "a wrong password")
    expect(page.get_by_role("alert")).to_contain_text("User name or password is wrong")
    page = visit.sign_in("auditor")
    posted = page.locator("[data-live='totals.posted']")
    before = len(visit.console.house.journal)
    expect(posted).to_have_text(str(before))
    visit.console.house.reverse(visit.console.house.seqs("payroll")[0])
    expect(posted).to_have_text(str(before + 1))
    expect(page.locator("[data-lag$='.marts']")).to_have_text("−1")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(visit.console.url + "/sign-in")
    assert [text for text in visit.complaints if "401" not in text] == []


def test_compliance_follows_an_alert_to_its_proof_and_closes_it(visit: Visitor) -> None:
    visit.sign_in("compliance")
    page = visit.open("/alerts")
    page.get_by_role("link", name="Structuring").last.click()
    alert = page.url
    expect(page.locator("tfoot")).to_contain_text("38,480.00")
    page.locator("tbody a").first.click()
    expect(page.get_by_text("Proven.")).to_be_visible()
    page.goto(alert)
    page.get_by_label("Reason").fill("Cash of a market stall; the receipts are on file.")
    page.get_by_role("button", name="Close").click()
    expect(page.locator(".timeline li").first).to_contain_text("Closed by usr_compliance")
    expect(page.locator(".headline .chip")).to_have_text("Closed")
    assert page.evaluate("window.canary") is None, "data ran as a script"
    assert visit.complaints == []


def test_the_maker_is_refused_and_the_approver_succeeds(visit: Visitor, chromium: Browser) -> None:
    visit.sign_in("both")
    page = visit.open("/reversals")
    page.get_by_label("Transaction (seq)").fill(str(visit.console.house.seqs("wire_out")[0]))
    page.locator("[name=reason]").fill("duplicate")
    page.get_by_role("button", name="Ask for approval").click()
    request = page.url
    page.get_by_label("Reason").fill("I am sure")
    page.get_by_role("button", name="Approve").click()
    expect(page.locator("main")).to_contain_text("maker_is_checker")
    expect(page.locator("main")).to_contain_text("You asked for this reversal yourself")

    context = chromium.new_context()
    approver = Visitor(visit.console, context.new_page())
    approver.sign_in("approver")
    approver.page.goto(request)
    approver.page.get_by_label("Reason").fill("Compared with the bank's line")
    approver.page.get_by_role("button", name="Approve").click()
    expect(approver.page.locator(".headline .chip")).to_have_text("Approved")
    context.close()
    assert [text for text in visit.complaints if "409" not in text] == []


def test_no_page_breaks_its_policy_or_the_width_of_a_phone(visit: Visitor) -> None:
    visit.sign_in("auditor")
    page = visit.page
    with visit.console.pool.connection() as connection:
        row = connection.execute("select alert_id from alert where rule = 'fan_in'").fetchone()
    alert = f"/alerts/{row['alert_id']}"
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 844})
        for path in (
            "/",
            "/balances",
            "/accounts/simulated/customer:3:wallet",
            "/fbo",
            "/breaks",
            "/breaks/brk_amount",
            "/alerts",
            alert,
            "/proofs/simulated/100",
            "/reversals",
            "/audit",
            "/data",
        ):
            visit.open(path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (
                f"{path} at {width}"
            )
            if width == 1280:
                assert page.locator(".scroll").evaluate_all(CUT_OFF) == [], (
                    f"{path} cuts tables off"
                )
    assert visit.complaints == []


def test_pages_work_by_keyboard(visit: Visitor) -> None:
    visit.sign_in("analyst")
    page = visit.open("/breaks")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('tbody') !== null"):
            break
    page.keyboard.press("Enter")
    expect(page).to_have_url(visit.console.url + "/breaks/brk_amount")
