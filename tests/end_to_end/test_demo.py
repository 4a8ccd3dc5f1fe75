"""The whole house on real servers: a small demo, its five acts in a browser, killed and tampered with.

The story: a quarter of traffic with planted findings goes in on the left; what comes out on the right is
judged against the answer key; then people and accidents happen to it.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import duckdb
import psycopg
import pytest
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser, Page, expect

from ledger_service.stack.demo import acts, published
from ledger_service.stack.demo.visitor import Api, eventually, identities
from ledger_service.stack.home import Home
from ledger_service.stack.kafka.server import fetch_jars
from tests import canary, servers
from tests.documents import ROOT, blocks
from tests.end_to_end.browser import sign_in

CUSTOMERS, DAYS = "60", "45"
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def tally(home: Home, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A `tally` command on the home under test."""
    return subprocess.run(
        [sys.executable, "-m", "ledger_service.stack.cli", *arguments],
        env={**os.environ, "TALLYSTICK_HOME": str(home.path)},
        cwd=cwd, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A demo without ../shared that stays up, on a home of its own."""
    folder = tmp_path_factory.mktemp("demo")
    home = Home(folder / "home").create()
    fetch_jars(servers.JARS)
    (home / "kafka" / "lib").symlink_to(servers.JARS)
    done = tally(home, "demo", "--customers", CUSTOMERS, "--days", DAYS, cwd=folder)
    try:
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        yield home
    finally:
        tally(home, "down", cwd=folder)


def signed_in(browser: Browser, home: Home, name: str) -> Page:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(20_000)
    password = identities(home)["users"][name]["password"]
    sign_in(page, f"http://{home.address('console')}", name, password)
    return page


def test_everything_planted_is_found(house: Home) -> None:
    score = json.loads((house / "bench" / "demo-score.json").read_text())
    for rule in score["rules"]:
        assert rule["planted"] == rule["found"] > 0, rule
    for breaks in score["breaks"]:
        assert breaks["planted"] == breaks["found"] > 0, breaks
        assert breaks["other"] == 0, breaks


@pytest.mark.browser
def test_act_1_an_alert_is_read_proven_and_closed(house: Home, chromium: Browser) -> None:
    page = signed_in(chromium, house, "carol")
    page.goto(f"http://{house.address('console')}/alerts?ledger=simulated")
    page.click("tbody th a >> nth=0")
    expect(page.locator(".why")).not_to_be_empty()
    alert = page.url
    page.click("a[href^='/proofs/'] >> nth=0")
    expect(page.locator(".banner.good")).to_contain_text("Proven.")
    page.goto(alert)
    page.fill("[name=reason]", "Reviewed entry by entry.")
    page.click("button[value=close]")
    expect(page.locator(".chip").first).to_contain_text("losed")


@pytest.mark.browser
def test_act_2_a_maker_is_refused_and_an_approver_moves_the_marts(
    house: Home, chromium: Browser
) -> None:
    waiting = acts.pending_reversal(house)
    address = f"http://{house.address('console')}/reversals/{waiting['reversal']}"
    maker = signed_in(chromium, house, "olivia")
    maker.goto(address)
    maker.fill("[name=reason]", "I trust myself.")
    maker.click("button[value=approve]")
    expect(maker.locator("body")).to_contain_text("maker_is_checker")
    checker = signed_in(chromium, house, "adam")
    checker.goto(address)
    checker.fill("[name=reason]", "Same facts, second pair of eyes.")
    checker.click("button[value=approve]")
    sql = "select reversed_by_seq from transactions where ledger = 'simulated' and seq = $1"

    def followed() -> bool:
        rows = published.rows(published.marts(house, "general"), sql, [waiting["transaction"]])
        return rows[0]["reversed_by_seq"] is not None

    eventually("The reversal in the marts", 60, followed)


@pytest.mark.browser
def test_act_3_a_break_shows_both_sides_and_the_day_its_report(
    house: Home, chromium: Browser
) -> None:
    found = acts.last_break(house)
    page = signed_in(chromium, house, "olivia")
    page.goto(f"http://{house.address('console')}/breaks/{found['break_id']}")
    expect(page.locator("h2", has_text="At the bank")).to_be_visible()
    expect(page.locator("h2", has_text="In the ledger")).to_be_visible()
    pdf = page.request.get(
        f"http://{house.address('console')}/reports/fbo/simulated/{found['day']}.pdf"
    )
    assert pdf.body().startswith(b"%PDF")


def test_act_4_what_is_killed_comes_back_with_equal_figures(house: Home, tmp_path: Path) -> None:
    done = tally(house, "demo", "kill", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_act_5_one_cent_is_noticed_twice(house: Home, tmp_path: Path) -> None:
    done = tally(house, "demo", "tamper", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "tally verify: simulated seq" in done.stdout


def test_posting_the_same_traffic_again_changes_no_mart(house: Home, tmp_path: Path) -> None:
    auditor = Api(house, user="aud")
    published.wait_until_published(house, auditor, 60)
    before = published.content(house), published.heads(auditor)
    start = (house / "simulations" / "demo_start").read_text()
    key = json.loads((house / "simulations" / "simulated.json").read_text())
    again = tally(
        house, "simulate", "--customers", CUSTOMERS, "--days", DAYS, "--start", key["start"],
        cwd=tmp_path,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert tally(house, "statements", "fetch", cwd=tmp_path).returncode == 0
    published.wait_until_published(house, auditor, 60)
    assert (published.content(house), published.heads(auditor)) == before
    assert start <= key["start"]


def test_questions_to_the_marts_are_answered_as_the_ledger_answers(
    house: Home, tmp_path: Path
) -> None:
    """As of both clocks, by `tally sql` over the snapshot and by the API over PostgreSQL."""
    auditor = Api(house, user="aud")
    published.wait_until_published(house, auditor, 60)
    start = json.loads((house / "simulations" / "simulated.json").read_text())["start"]
    days = [dt.date.fromisoformat(start) + dt.timedelta(days=past) for past in (10, int(DAYS))]

    def ask(question: str, **values: object) -> list[dict]:
        text = (ROOT / "docs" / "questions" / f"{question}.sql").read_text()
        given = [part for one in values.items() for part in ("--value", f"{one[0]}={one[1]}")]
        # A question begins with a comment, so behind a --: it would pass for an option.
        done = tally(house, "sql", "--format", "json", *given, "--", text, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    everything = ask("changed_since", ledger="simulated", since_seq=0)
    half = max(int(row["last_seq"]) for row in everything) // 2
    marts = published.marts(house, "general")
    sql = "select max(recorded_at) from entries where ledger = 'simulated' and seq <= ?"
    known_at = marts.execute(sql, [half]).fetchall()[0][0]
    path = "/v1/ledgers/simulated"
    for day in days:
        lines = ask("balances_as_of", ledger="simulated", day=day, known_at=known_at)
        assert len(lines) > 3
        for line in lines[:: max(1, len(lines) // 12)]:
            told = auditor.get(
                f"{path}/accounts/{line['account']}/balance",
                effective_date=day.isoformat(), known_at=f"{known_at.isoformat()}Z",
            )  # fmt: skip
            assert (line["debits"], line["credits"], line["balance"]) == (
                told["debits"], told["credits"], told["posted"],
            ), line  # fmt: skip
        told = auditor.get(f"{path}/trial-balance", effective_date=day.isoformat())
        ours = ask("trial_balance", ledger="simulated", day=day)
        columns = ("gl_code", "account_class", "custodial", "currency")
        assert {
            tuple(line[c] for c in columns): (line["closing_debits"], line["closing_credits"])
            for line in ours
        } == {
            tuple(line[c] for c in columns): (line["debits"], line["credits"])
            for line in told["lines"]
            if (line["debits"], line["credits"]) != ("0", "0")
        }
    account = lines[-1]["account"]
    history = ask("account_history", ledger="simulated", account=account)
    now = auditor.get(f"{path}/accounts/{account}/balance")
    assert history[-1]["balance"] == now["posted"]
    open_holds = ask("open_holds", ledger="simulated", moment="2026-01-01")
    told = auditor.get(f"{path}/holds", state="open", limit=1000)["holds"]
    assert {(int(h["seq"]), h["pending"]) for h in open_holds} == {
        (hold["seq"], hold["left"]) for hold in told
    }


def test_a_bi_tool_finds_the_newest_snapshot(house: Home) -> None:
    host, port = house.address("bi").split(":")
    published.wait_until_published(house, Api(house, user="aud"), 60)
    with psycopg.connect(
        host=host, port=port, user="analyst", password=house.secret_file("bi").read_text().strip(),
        dbname="general",
    ) as analyst:  # fmt: skip
        (count,) = analyst.execute("select count(*) from transactions").fetchone()
    assert (
        count
        == published.rows(
            published.marts(house, "general"), "select count(*) as n from transactions"
        )[0]["n"]
    )


def test_what_was_published_is_as_the_published_contract_says(house: Home) -> None:
    """Of every type that the house made, some hundreds of its records against the schema."""
    schema = json.loads((ROOT / "docs" / "contract" / "events.schema.json").read_text())
    landed = f"{house / 'landing' / 'raw'}/*/*.parquet"
    rows = duckdb.sql(
        f"select bytes from read_parquet('{landed}') "
        "qualify row_number() over (partition by type order by hash(bytes)) <= 300"
    ).fetchall()
    types = set()
    for (raw,) in rows:
        event = json.loads(raw)
        types.add(event["type"])
        one = {"$ref": f"#/$defs/{event['type']}", "$defs": schema["$defs"]}
        Draft202012Validator(one).validate(event)
    assert types >= {"transaction.posted", "account.opened", "party.registered", "statement.line"}


def test_a_person_stays_in_the_vault(house: Home) -> None:
    """An SSN and an account number, given to the vault and the bank's door, are nowhere else."""
    api = Api(house, key="integrator")
    party = {
        "kind": "person", "name": "Canary Bird", "tax_id": canary.SSN, "birth_date": "1980-02-29",
        "country": "US", "risk_tier": "low", "accounts": [canary.ACCOUNT_NUMBER],
    }  # fmt: skip
    api.post("/v1/parties", party)
    eventually("The party in the marts", 60, lambda: _party_count(house) > int(CUSTOMERS) or None)
    for folder in (
        "kafka",
        "landing",
        "warehouse",
        "snapshots",
        "reports",
        "logs",
        "dagster",
        "temporal",
    ):
        found = canary.in_directory(house / folder)
        assert not found, found


def test_the_documents_commands_run(house: Home, tmp_path: Path) -> None:
    """Every command and program of README and docs/ as it stands there, on the demo that is up.

    `make` needs the checkout's own environment and is what runs this test; what it calls is run
    here or above. Packages are the machine's. `tally down` has its turn when the house goes, and
    `tally pipeline spark` in tests/distributed, which has a cluster.
    """
    left_out = ("make ", "apt-get ", "tally down", "tally pipeline spark")
    values = {"http://API": f"http://{house.address('api')}",
              "KEY_FILE": str(house.secret_file("integrator.key")),
              "docs/questions/": f"{ROOT}/docs/questions/",
              "ledger_service/": f"{ROOT}/ledger_service/"}  # fmt: skip
    for language, text in blocks():
        programs = text.splitlines() if language == "sh" else [text]
        for program in programs:
            if program.startswith(left_out):
                continue
            for name, value in values.items():
                program = program.replace(name, value)  # noqa: PLW2901
            shell = ["bash", "-c"] if language == "sh" else ["python", "-c"]
            done = subprocess.run(
                [*shell, program],
                env={**os.environ, "TALLYSTICK_HOME": str(house.path), "PATH": PATH},
                cwd=tmp_path, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, program + done.stdout[-2000:] + done.stderr[-2000:]
            if language == "python":
                assert done.stdout.startswith("201 "), done.stdout


def _party_count(home: Home) -> int:
    marts = published.marts(home, "general")
    return published.rows(marts, "select count(*) as parties from parties")[0]["parties"]
