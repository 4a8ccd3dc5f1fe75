"""What is new is verified for what it costs; a violation stops its ledger until two people agree."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import httpx
import psycopg
import pytest
from click.testing import CliRunner

from ledger_service.engine import cli, verifier_service
from ledger_service.engine.protocol import Committed, Refused
from ledger_service.engine.verifier_service import Verifier
from ledger_service.engine.verify import Keys, verify, verify_new
from tests.integration.engine import populated
from tests.integration.engine.conftest import LEDGER, follow, local_writer
from tests.integration.engine.test_verification import ONE_CENT, tamper
from tests.integration.engine.test_writer import A, B, opened, submit
from tests.ledger_api import KEYS as SETTINGS
from tests.ledger_api import processes
from tests.ledger_book import posting
from tests.servers import LedgerDatabase

ONE_MORE = (
    "update ledger.balance set debits = debits + 1 where number = "
    f"(select number from ledger.account where account = '{B}')"
)


async def post(writer, *names: str) -> list:
    return await submit(writer, *[posting(name, (A, 100), (B, -100)) for name in names])


async def test_an_incremental_run_goes_on_from_what_it_remembers(
    ledger_database: LedgerDatabase, postgres
) -> None:
    url = ledger_database.url("verifier")
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await post(writer, *(f"a{n}" for n in range(300)))
        assert verify_new(url).findings == []
        # what was verified is not read again: only a full run sees a change there
        tamper(postgres.admin_url, ledger_database, ONE_CENT.format(seq=20))
        await post(writer, *(f"b{n}" for n in range(300)))
        report = verify_new(url)
        assert (report.findings, report.ledgers) == ([], {LEDGER: 605})
        assert "bytes_changed" in {f.code for f in verify(url).findings}
        await post(writer, "c")
        await follow(ledger_database)
        changes = {
            "ledger.balance": ONE_MORE,
            "ledger.posting_list": "update ledger.posting_list set amounts[1] = 7 where last_seq = 606",
            "ledger.idempotency": "delete from ledger.idempotency where seq = 606",
            "ledger.journal": ONE_CENT.format(seq=606),
        }
        for table, change in changes.items():
            tamper(postgres.admin_url, ledger_database, change)
            assert table in {finding.table for finding in verify_new(url).findings}
    with psycopg.connect(ledger_database.owner_url) as connection:
        remembered = connection.execute("select seq from ledger.verified").fetchone()
    assert remembered == (605,), "an unsound run must remember nothing"


async def test_a_balance_moved_between_two_runs_is_found_by_the_next(
    ledger_database: LedgerDatabase, postgres
) -> None:
    """The writer's next posting builds on the false balance: the verifier's own memory shows it."""
    url = ledger_database.url("verifier")
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await post(writer, "a")
        assert verify_new(url).is_sound
    tamper(postgres.admin_url, ledger_database, ONE_MORE)
    async with local_writer(ledger_database) as writer:
        await post(writer, "b")
        [one, *_] = verify_new(url).findings
    assert (one.table, one.row, one.remedy) == ("ledger.balance", B, "stop")


async def test_a_change_in_verified_history_at_the_edge_of_the_tree_is_found(
    ledger_database: LedgerDatabase, postgres
) -> None:
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await post(writer, *(f"a{n}" for n in range(300)))
        assert verify_new(ledger_database.url("verifier")).is_sound
        rewrite = "update ledger.journal set leaf_hash = sha256(leaf_hash) where seq = 300"
        tamper(postgres.admin_url, ledger_database, rewrite)
        await post(writer, "b")
    codes = {f.code for f in verify_new(ledger_database.url("verifier")).findings}
    assert "verified_history_changed" in codes


async def test_no_commit_passes_a_stop_whenever_it_comes(ledger_database: LedgerDatabase) -> None:
    """Five times into a busy writer: what is answered after the stop is refused, and not posted."""
    async with local_writer(ledger_database) as writer:
        await opened(writer)

        async def until_refused(name: str) -> int:
            """Post one after the other; gives the last `seq`."""
            last = 0
            for number in range(2000):
                [verdict] = await post(writer, f"{name}.{number}")
                if isinstance(verdict, Refused):
                    assert verdict.code == "ledger_stopped"
                    return last
                assert isinstance(verdict, Committed)
                last = verdict.seq
            raise AssertionError("two thousand were posted, and none was refused")

        for attempt in range(5):
            posting_on = [asyncio.create_task(until_refused(f"{attempt}.{n}")) for n in range(4)]
            seq = await asyncio.to_thread(_stop, ledger_database.url("verifier"))
            assert max(await asyncio.gather(*posting_on)) <= seq == _head(ledger_database)
            with psycopg.connect(ledger_database.owner_url) as connection:
                connection.execute("delete from ledger.stop")


def _stop(url: str) -> int:
    with psycopg.connect(url) as connection:
        connection.execute("select ledger.stop_ledger(%s, 't', 'c', null, 'm')", (LEDGER,))
        row = connection.execute("select seq from ledger.head").fetchone()
        assert row is not None
        return row[0]


def _head(database: LedgerDatabase) -> int:
    with psycopg.connect(database.owner_url) as connection:
        row = connection.execute("select seq from ledger.head").fetchone()
        assert row is not None
        return row[0]


def test_a_violation_stops_the_ledger_and_two_people_resume_it(
    ledger_database: LedgerDatabase, postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    books, url = populated.LEDGER, ledger_database.url("verifier")
    with processes(ledger_database, tmp_path) as services, services.client() as api:
        populated.open_books(api)
        asyncio.run(populated.make_people(services.owner_url))
        monkeypatch.setattr(verifier_service, "UNSOUND_INTERVAL_S", 0.0)
        watching = Verifier(url, Keys())
        assert watching.run_once()["ready"] is True
        assert _post(api, "new").status_code == 201
        tamper(postgres.admin_url, ledger_database, ONE_MORE)
        figures = watching.run_once()
        assert (figures["ready"], figures["stopped"]) == (
            False,
            {books: "ledger.balance differs_from_journal"},
        )
        refused = _post(api, "newer")
        assert (refused.status_code, refused.json()["code"]) == (503, "ledger_stopped")
        assert "docs/operations.md" in refused.json()["detail"]
        assert api.get(f"/v1/ledgers/{books}").status_code == 200, "reading goes on"
        [stop] = api.get(f"/v1/ledgers/{books}/stops").json()["stops"]
        assert (stop["found_in"], stop["resumed_at"]) == ("ledger.balance", None)

        operator = populated.sign_in(api, "operator")
        path = f"/v1/ledgers/{books}/resumptions"
        asked = api.post(path, json={"reason": "balance put back"}, headers=operator)
        assert asked.status_code == 202, asked.text
        approval = asked.json()["approval"]
        body = {"decision": "approve", "digest": asked.json()["digest"], "reason": "mine"}
        alone = api.post(f"/v1/approvals/{approval}/decisions", json=body, headers=operator)
        assert alone.status_code in (403, 409)
        assert _post(api, "newer").json()["code"] == "ledger_stopped"
        # resumed without being mended it stops again
        populated.approve(api, approval)
        _until_posted(api, "unmended")
        assert watching.run_once()["stopped"]
        back = ONE_MORE.replace("+ 1", "- 1")
        tamper(postgres.admin_url, ledger_database, back)
        again = api.post(path, json={"reason": "balance put back, seen"}, headers=operator)
        populated.approve(api, again.json()["approval"])
        _until_posted(api, "newest")
        assert (watching.run_once()["stopped"], watching.run_once()["findings"]) == ({}, [])
        assert verify(url).findings == []
        assert [s["resumed_at"] is not None for s in _stops(api)] == [True, True]
        elsewhere = api.post(path, json={"reason": "nothing"}, headers=operator)
        assert elsewhere.json()["code"] == "ledger_not_stopped"


def _post(api: httpx.Client, key: str) -> httpx.Response:
    entries = [
        {"account": account, "side": side, "amount": "5", "currency": "USD"}
        for account, side in ((populated.A, "debit"), (populated.B, "credit"))
    ]
    body = {"idempotency_key": key, "kind": "transfer", "entries": entries}
    return api.post(f"/v1/ledgers/{populated.LEDGER}/transactions", json=body)


def _stops(api: httpx.Client) -> list[dict]:
    return api.get(f"/v1/ledgers/{populated.LEDGER}/stops").json()["stops"]


def _until_posted(api: httpx.Client, key: str) -> None:
    from tests.integration.engine.conftest import wait_until

    wait_until(lambda: _post(api, key).status_code in (200, 201))


async def test_the_command_names_explains_and_stops(
    ledger_database: LedgerDatabase, postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await post(writer, *(f"a{n}" for n in range(10)))
    monkeypatch.setenv("TALLYSTICK_DATABASE_URL", ledger_database.url("verifier"))
    run = CliRunner().invoke
    assert run(cli.verify, ["--json"]).exit_code == 0
    tamper(postgres.admin_url, ledger_database, ONE_CENT.format(seq=9))
    found = run(cli.verify, ["--full", "--json"])
    assert found.exit_code == 1
    report = json.loads(found.output.splitlines()[-1])
    assert {f["code"] for f in report["findings"]} >= {"bytes_changed", "wrong_root"}
    assert "docs/operations.md" in run(cli.verify, ["--full"]).output
    assert "bytes_changed" not in run(cli.verify, ["--explain", "bytes_changed"]).output
    explained = run(cli.verify, ["--explain", "9", "--ledger", LEDGER]).output
    assert '"amount":"101"' in explained
    assert "stored: " in explained
    with psycopg.connect(ledger_database.owner_url) as connection:
        stops = connection.execute("select ledger, found_in from ledger.stop").fetchall()
    assert stops == [(LEDGER, "ledger.journal")]
