"""Who may open what, by the contract's table; foreign forms; what pages carry and never show."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from fastapi.routing import APIRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from ledger_service.contract.permissions import PERMISSIONS, ROLES
from monitoring.console import render
from monitoring.console.app import PAGES
from tests.monitoring_console import Console
from tests.monitoring_house import CANARY, LEDGER

PERMISSION_OF = {
    "/": "ledgers.read",
    "/data": "ledgers.read",
    "/data-docs/index.html": "pipelines.view",
    "/restricted-data-docs/index.html": "alerts.view",
    f"/reports/fbo/{LEDGER}/2026-08-14.csv": "reports.view",
    "/balances": "balances.view",
    "/balances?q=customer": "balances.view",
    f"/accounts/{LEDGER}/customer:3:wallet": "balances.view",
    "/holds": "holds.view",
    "/holds?state=all&account=customer:1:wallet": "holds.view",
    f"/holds/{LEDGER}/HOLD": "holds.view",
    "/periods": "periods.view",
    f"/periods/{LEDGER}/CLOSING": "periods.view",
    "/rules": "rules.view",
    "/approvals": "approvals.read",
    "/approvals/apr_rule": "approvals.read",
    f"/rules/{LEDGER}/card_fee": "rules.view",
    "/fbo": "reconciliation.view",
    "/fbo?date=2026-07-20": "reconciliation.view",
    "/breaks": "reconciliation.view",
    "/breaks/brk_amount": "reconciliation.view",
    "/breaks/brk_missing": "reconciliation.view",
    "/alerts": "alerts.view",
    "/alerts?status=all&rule=fan_in": "alerts.view",
    "/alerts/ALERT": "alerts.view",
    f"/proofs/{LEDGER}/100": "proofs.read",
    f"/proofs/{LEDGER}/HOLD": "proofs.read",
    f"/proofs/{LEDGER}/CLOSING": "proofs.read",
    f"/proofs/{LEDGER}/100/bundle.json": "proofs.read",
    "/reversals": "reversals.read",
    "/reversals/REVERSAL": "reversals.read",
    "/audit": "audit.read",
}
POSTS = {
    "/alerts/ALERT/decisions": "alerts.decide",
    "/reversals": "reversals.request",
    "/periods/closings": "periods.close",
    "/periods/reopenings": "periods.close",
    "/approvals/APPROVAL/decisions": "approvals.read",
}
OPEN = {"/livez", "/readyz", "/sign-in", "/sign-out"}


@pytest.fixture(scope="module")
def known(console: Console) -> dict[str, str]:
    """Ids that stand in addresses."""
    with console.pool.connection() as connection:
        row = connection.execute("select alert_id from alert where rule = 'structuring'").fetchone()
    client = console.browser("operator")
    form = {
        "ledger": LEDGER,
        "transaction": "100",
        "reason": "duplicate",
        "csrf": console.csrf(client),
    }
    made = client.post("/reversals", data=form)
    reversal = made.headers["location"].rsplit("/", 1)[1]
    approval = console.ledger.reversals[reversal]["approval"]
    return {
        "ALERT": row["alert_id"],
        "REVERSAL": reversal,
        "APPROVAL": approval,
        "HOLD": str(console.house.hold),
        "CLOSING": str(console.house.closing),
    }


def filled(path: str, known: dict[str, str]) -> str:
    for name, value in known.items():
        path = path.replace(name, value)
    return path


def test_every_route_names_a_permission_and_is_in_this_table() -> None:
    from importlib import import_module

    seen = set()
    for name in PAGES:
        for route in import_module(f"monitoring.console.pages.{name}").router.routes:
            if not isinstance(route, APIRoute) or route.path in OPEN:
                continue
            found = [
                call.permission
                for dependency in route.dependant.dependencies
                if (call := dependency.call) is not None and hasattr(call, "permission")
            ]
            assert len(found) == 1, f"{route.path} names {found}"
            assert found[0] in PERMISSIONS
            pattern = re.compile(route.path_regex.pattern)
            tables = POSTS if route.methods == {"POST"} else PERMISSION_OF
            paths = [path for path in tables if pattern.match(path.split("?")[0])]
            if not route.path.startswith(("/dagster", "/overview/live", "/data-docs")):
                assert paths, f"{route.path} is in no table of this test"
            assert {tables[path] for path in paths} <= {found[0]}, route.path
            seen.add(route.path)
    assert len(seen) > 15


@pytest.mark.parametrize("role", ROLES)
def test_each_role_sees_exactly_what_the_table_allows(
    console: Console, known: dict[str, str], role: str
) -> None:
    client = console.browser(role)
    for path, permission in PERMISSION_OF.items():
        answer = client.get(filled(path, known))
        expected = 200 if role in PERMISSIONS[permission] else 403
        assert answer.status_code == expected, (
            f"{role} {path}: {answer.status_code} {answer.text[:300]}"
        )
        if expected == 403:
            assert permission in answer.text
            assert "held by" in answer.text
    for path, permission in POSTS.items():
        if role not in PERMISSIONS[permission]:
            form = {
                "csrf": console.csrf(client),
                "decision": "close",
                "reason": "r",
                "version": "1",
            }
            assert client.post(filled(path, known), data=form).status_code == 403


def test_nobody_signed_in_is_sent_to_sign_in(console: Console, known: dict[str, str]) -> None:
    for path in [*PERMISSION_OF, "/dagster/", "/overview/live"]:
        answer = httpx.get(console.url + filled(path, known), follow_redirects=False)
        assert answer.status_code == 303
        assert answer.headers["location"].startswith("/sign-in")
    forged = {"tallystick_session": "tss_forged"}
    assert httpx.get(console.url + "/alerts", cookies=forged).status_code == 303


def test_an_analysts_pages_hold_nothing_of_alerts(console: Console, known: dict[str, str]) -> None:
    client = console.browser("analyst")
    for path, permission in PERMISSION_OF.items():
        if "analyst" not in PERMISSIONS[permission]:
            continue
        text = client.get(filled(path, known)).text.lower()
        for word in ("alert", "structuring", "fan_in", "fan in", "restricted", "candidate"):
            assert word not in text, f"{path} shows {word!r}"
    with client.stream("GET", "/overview/live") as events:
        line = next(line for line in events.iter_lines() if line.startswith("data:"))
    assert '"alerts": null' in line
    assert line.count("alerts") == 1
    existing = client.get(filled("/alerts/ALERT", known))
    missing = client.get("/alerts/alr_none")
    assert (existing.status_code, missing.status_code) == (403, 403)
    assert existing.text == missing.text


def test_the_administrator_reads_audit_but_not_what_was_done_to_alerts(
    console: Console, known: dict[str, str]
) -> None:
    console.browser("compliance").get(filled("/alerts/ALERT", known))
    assert known["ALERT"] in console.browser("auditor").get("/audit?room=monitoring").text
    assert "alr_" not in console.browser("administrator").get("/audit?room=monitoring").text


@pytest.mark.parametrize(
    ("headers", "has_token"),
    [
        ({}, False),
        ({"origin": "https://evil.example"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
    ],
)
def test_a_form_from_elsewhere_does_nothing(
    console: Console, known: dict[str, str], headers: dict[str, str], has_token: bool
) -> None:
    client = console.browser("compliance")
    with console.pool.connection() as connection:
        before = connection.execute("select count(*) as n from alert_event").fetchone()
    form = {"decision": "close", "reason": "forged", "version": "1"}
    form["csrf"] = console.csrf(client) if has_token else "0" * 64
    answer = client.post(filled("/alerts/ALERT/decisions", known), data=form, headers=headers)
    assert answer.status_code == 403
    assert "foreign_form" in answer.text
    assert client.post("/sign-out", data=form | {"csrf": "x"}).status_code == 403
    with console.pool.connection() as connection:
        assert connection.execute("select count(*) as n from alert_event").fetchone() == before


def test_a_sign_in_form_from_elsewhere_opens_no_session(console: Console) -> None:
    opened = len(console.ledger.sessions)
    form = {"username": "analyst", "password": "a long enough password", "csrf": "0" * 64}
    assert httpx.post(console.url + "/sign-in", data=form).status_code == 403
    assert len(console.ledger.sessions) == opened


def test_data_never_becomes_markup(console: Console, known: dict[str, str]) -> None:
    auditor, analyst = console.browser("auditor"), console.browser("analyst")
    assert "window.canary" in auditor.get(filled("/alerts/ALERT", known)).text, (
        "the canary is on the page"
    )
    for path in PERMISSION_OF:
        text = auditor.get(filled(path, known)).text
        assert CANARY not in text
        assert "<script>window" not in text
        assert "<img src=x" not in text
    reflected = analyst.get("/balances", params={"q": CANARY}).text
    assert "window.canary" in reflected
    assert "<script>window" not in reflected
    assert "<script>window" not in analyst.get("/balances", params={"ledger": CANARY}).text
    signing = httpx.get(console.url + "/sign-in", params={"next": CANARY}).text
    assert "<script>window" not in signing


def test_every_answer_carries_the_headers(console: Console) -> None:
    client = console.browser("analyst")
    for path in ("/", "/alerts", "/nothing-here", "/sign-in", "/livez", "/static/console.css"):
        headers = client.get(path).headers
        assert headers["content-security-policy"] == render.CONTENT_SECURITY_POLICY
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == (
            "no-cache" if path.startswith("/static/") else "no-store"
        )
    answer = httpx.get(console.url + "/sign-in")
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=strict" in answer.headers["set-cookie"]


def test_pages_load_nothing_from_elsewhere_and_run_nothing_inline(
    console: Console, known: dict[str, str]
) -> None:
    client = console.browser("auditor")
    for path in PERMISSION_OF:
        text = client.get(filled(path, known)).text
        assert not re.search(r"""(src|href|action)=["'](https?:)?//""", text), path
        assert not re.search(
            r"\son\w+=|\sstyle=", text.replace("&#34;", "").replace("onerror=", "")
        ), path
        assert not re.search(r"<script(?! src=)", text), path


def test_sign_out_ends_the_session_at_once(console: Console) -> None:
    client = console.browser("analyst")
    token = client.cookies["tallystick_session"]
    assert client.post("/sign-out", data={"csrf": console.csrf(client)}).status_code == 303
    assert token not in console.ledger.sessions
    stolen = httpx.get(console.url + "/balances", cookies={"tallystick_session": token})
    assert stolen.status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_sign_in_leads_only_to_our_own_pages(console: Console, target: str) -> None:
    text = httpx.get(console.url + "/sign-in", params={"next": target}).text
    assert 'name="next_page" value="/"' in text


@pytest.mark.parametrize(
    "path",
    [
        "/data-docs/../../etc/passwd",
        "/data-docs/%2e%2e/%2e%2e/snapshots/progress.json",
        f"/reports/fbo/{LEDGER}/2026-01-01.pdf",
        "/reports/fbo/..%2f..%2fx/2026-08-14.csv",
    ],
)
def test_files_outside_their_folder_are_not_there(console: Console, path: str) -> None:
    assert console.browser("auditor").get(path).status_code == 404


@pytest.fixture
def dagster(console: Console) -> Iterator[list[dict[str, str]]]:
    """Pages behind the proxy; gives the headers of each request that came through."""
    received: list[dict[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            received.append(
                {name.lower(): value for name, value in self.headers.items()} | {"path": self.path}
            )
            self.send_response(200)
            self.send_header("set-cookie", "from=dagster")
            self.send_header("content-type", "text/plain")
            self.end_headers()
            self.wfile.write(b"assets")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    console.give_dagster(f"http://127.0.0.1:{server.server_address[1]}/dagster")
    yield received
    server.shutdown()
    server.server_close()
    console.give_dagster("")


def test_dagster_is_reached_only_with_the_permission_and_without_cookies(
    console: Console, dagster: list[dict[str, str]]
) -> None:
    assert console.browser("compliance").get("/dagster/assets").status_code == 403
    assert dagster == []
    answer = console.browser("auditor").get(
        "/dagster/assets?x=1",
        headers={"x-tallystick-proxy": "forged", "authorization": "Bearer mine"},
    )
    assert (answer.status_code, answer.text) == (200, "assets")
    assert "set-cookie" not in answer.headers
    (seen,) = dagster
    assert seen["path"] == "/dagster/assets?x=1"
    assert seen["x-tallystick-proxy"] == "from the console"
    assert "cookie" not in seen
    assert "authorization" not in seen


def test_dagsters_live_updates_pass_only_with_the_permission(console: Console) -> None:
    seen = []

    def echo(connection: ServerConnection) -> None:
        seen.append(connection.request.headers)
        for message in connection:
            connection.send(f"echo {message}")

    with serve(echo, "127.0.0.1", 0, subprotocols=["graphql-ws"]) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        console.give_dagster(f"http://127.0.0.1:{server.socket.getsockname()[1]}")
        address = console.url.replace("http", "ws") + "/dagster/graphql"

        def cookie(user: str) -> dict[str, str]:
            token = console.browser(user).cookies["tallystick_session"]
            return {"cookie": f"tallystick_session={token}"}

        with connect(
            address, subprotocols=["graphql-ws"], additional_headers=cookie("analyst")
        ) as ws:
            ws.send("hello")
            assert ws.recv(timeout=10) == "echo hello"
        assert seen[0]["x-tallystick-proxy"] == "from the console"
        assert "cookie" not in seen[0]
        for headers in (
            {},
            cookie("compliance"),
            {**cookie("analyst"), "origin": "https://evil.example"},
        ):
            with pytest.raises(InvalidStatus), connect(address, additional_headers=headers):
                pass
        assert len(seen) == 1
        server.shutdown()
    console.give_dagster("")
