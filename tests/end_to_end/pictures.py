"""The README's pictures, taken from the demo that is up: `make pictures`."""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import Page

from ledger_service.stack.demo import published
from ledger_service.stack.demo.visitor import identities
from ledger_service.stack.home import Home
from tests.end_to_end import browser

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"


def sign_in(page: Page, home: Home, name: str) -> None:
    """Enter as one of the demo's people."""
    password = identities(home)["users"][name]["password"]
    browser.sign_in(page, f"http://{home.address('console')}", name, password)
    page.wait_for_url("**/")


def take(home: Home) -> None:
    """Write every picture anew."""
    console = f"http://{home.address('console')}"
    marts = published.marts(home, "general")
    day = published.rows(
        marts,
        "select statement_date from reconciliation_days where ledger = 'simulated' and open_breaks > 0 "
        "order by statement_date desc limit 1",
    )[0]["statement_date"]
    PICTURES.mkdir(parents=True, exist_ok=True)
    with browser.launched() as chromium:
        compliance = chromium.new_page(viewport={"width": 1280, "height": 900})
        sign_in(compliance, home, "carol")
        compliance.screenshot(path=PICTURES / "overview.png")
        compliance.goto(f"{console}/alerts?ledger=simulated&rule=structuring")
        compliance.click("tbody th a >> nth=0")
        compliance.screenshot(path=PICTURES / "alert.png")
        compliance.click("a[href^='/proofs/'] >> nth=0")
        compliance.wait_for_load_state()
        compliance.screenshot(path=PICTURES / "proof.png")
        operator = chromium.new_page(viewport={"width": 1280, "height": 900})
        sign_in(operator, home, "olivia")
        operator.goto(f"{console}/fbo?ledger=simulated&date={day:%Y-%m-%d}")
        operator.screenshot(path=PICTURES / "reconciliation-day.png")
        graph = chromium.new_page(viewport={"width": 1600, "height": 1000})
        sign_in(graph, home, "ana")
        graph.goto(f"{console}/dagster/asset-groups")
        graph.wait_for_timeout(15_000)  # the graph is laid out by Dagster's page itself
        if graph.get_by_role("button", name="Skip").is_visible():
            graph.get_by_role("button", name="Skip").click()
            graph.wait_for_timeout(1_000)
        graph.screenshot(path=PICTURES / "asset-graph.png")


if __name__ == "__main__":
    take(Home.current())
