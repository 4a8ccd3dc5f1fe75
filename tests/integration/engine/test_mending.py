"""What only readers use and has drifted is made anew by the verifier's service; writing never stops."""

from __future__ import annotations

import itertools
import sys
import threading
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg import errors

from ledger_service.engine import verifier_service
from ledger_service.engine.verifier_service import Verifier
from ledger_service.engine.verify import Keys, verify
from tests.integration.engine import populated
from tests.integration.engine.conftest import LEDGER, follow, local_writer, wait_until
from tests.integration.engine.test_stopping import ONE_MORE, post
from tests.integration.engine.test_verification import tamper
from tests.integration.engine.test_writer import opened
from tests.ledger_api import processes
from tests.servers import LedgerDatabase, Postgres, running

# The service with intervals shorter than the product's: that it acts is tested, not how long it waits.
VERIFIER = (
    "from ledger_service.engine import verifier_service as v; v.INTERVAL_S = 0.1; "
    "v.FULL_INTERVAL_S = v.UNSOUND_INTERVAL_S = v.REBUILD_INTERVAL_S = 0.3; v.main()"
)
DRIFT = {
    "day sums": "update ledger.day_delta set debits = debits + 1 where debits > 0",
    "the index of transactions": "update ledger.transaction set kind = 'fee' where seq % 7 = 0",
    "bitmaps of transactions": "update ledger.transaction_bitmap set bits = ~ bits",
    "value-dated transactions": "truncate ledger.value_dated_transaction",
    "posting lists": "update ledger.posting_list set amounts[1] = 7 where last_seq < 9999",
    "a position ahead": "update ledger.projection set seq = seq + 5000",
    "a position behind": "update ledger.projection set seq = seq - 10",
}


def test_the_service_mends_what_drifted_while_others_post(
    ledger_database: LedgerDatabase, postgres: Postgres, tmp_path: Path
) -> None:
    url, log = ledger_database.url("verifier"), tmp_path / "verifier.log"
    command = [sys.executable, "-c", VERIFIER]
    environment = {"TALLYSTICK_DATABASE_URL": url, "TALLYSTICK_ENV": "production"}
    with processes(ledger_database, tmp_path) as services, services.client() as api:
        populated.open_books(api)
        transactions = f"/v1/ledgers/{populated.LEDGER}/transactions"
        assert api.get(transactions).is_success, "the history has followed"
        failed: list[httpx.Response] = []
        stop = threading.Event()

        def post_on() -> None:
            with services.client() as own:
                for number in itertools.count():
                    if stop.is_set():
                        return
                    answer = _post(own, f"on {number}")
                    if answer.status_code != 201:
                        failed.append(answer)

        posting = threading.Thread(target=post_on)
        posting.start()
        try:
            with running(command, log, environment=environment):
                for what, change in DRIFT.items():
                    rebuilt = log.read_text().count("projection.rebuilt")
                    tamper(postgres.admin_url, ledger_database, change)
                    wait_until(lambda: log.read_text().count("projection.rebuilt") > rebuilt)  # noqa: B023
                    wait_until(lambda: not verify(url).findings)
                    assert "projection.drifted" in log.read_text(), what
        finally:
            stop.set()
            posting.join()
        assert failed == []
        assert "not_rebuilt" not in log.read_text()
        newest = _post(api, "newest").json()["seq"]
        listed = api.get(transactions, params={"limit": 1})
        assert listed.json()["transactions"][0]["seq"] == newest


def _post(api: httpx.Client, key: str) -> httpx.Response:
    entries = [
        {"account": account, "side": side, "amount": "5", "currency": "USD"}
        for account, side in ((populated.A, "debit"), (populated.B, "credit"))
    ]
    body = {"idempotency_key": key, "kind": "transfer", "entries": entries}
    return api.post(f"/v1/ledgers/{populated.LEDGER}/transactions", json=body)


async def test_what_drifts_again_soon_is_left_to_people(
    ledger_database: LedgerDatabase, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifier_service, "UNSOUND_INTERVAL_S", 0.0)
    url = ledger_database.url("verifier")
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await post(writer, *(f"a{n}" for n in range(5)))
        await follow(ledger_database)
        watching = Verifier(url, Keys())
        for _ in range(2):
            tamper(postgres.admin_url, ledger_database, DRIFT["day sums"])
            assert not watching.run_once()["ready"]
        assert {f.table for f in verify(url).findings} == {"ledger.day_delta"}
        monkeypatch.setattr(verifier_service, "REBUILD_INTERVAL_S", 0.0)
        watching.run_once()
        assert verify(url).findings == []


async def test_what_the_writer_decides_by_is_never_mended_by_itself(
    ledger_database: LedgerDatabase, postgres: Postgres
) -> None:
    """A balance may have been decided by: the ledger stops, and its evidence stays as it is."""
    url = ledger_database.url("verifier")
    async with local_writer(ledger_database) as writer:
        await opened(writer)
        await post(writer, "a")
        await follow(ledger_database)
        tamper(postgres.admin_url, ledger_database, ONE_MORE, DRIFT["day sums"])
        watching = Verifier(url, Keys())
        assert watching.run_once()["stopped"] == {LEDGER: "ledger.balance differs_from_journal"}
        found = {finding.table for finding in verify(url).findings}
        assert found == {"ledger.balance", "ledger.day_delta"}


@pytest.mark.parametrize(
    "change",
    [
        "update ledger.balance set debits = 0",
        "delete from ledger.idempotency",
        "delete from ledger.journal",
        "update ledger.head set seq = 0",
        "insert into ledger.account select * from ledger.account",
    ],
)
def test_the_rebuilder_s_role_reaches_no_table_that_is_decided_by(
    ledger_database: LedgerDatabase, change: str
) -> None:
    with psycopg.connect(ledger_database.url("verifier"), autocommit=True) as connection:
        connection.execute("set role tallystick_rebuilder")
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(change)  # type: ignore[arg-type]


def test_the_verifier_writes_nothing_in_its_own_role(ledger_database: LedgerDatabase) -> None:
    with (
        psycopg.connect(ledger_database.url("verifier"), autocommit=True) as connection,
        pytest.raises(errors.InsufficientPrivilege),
    ):
        connection.execute("delete from ledger.day_delta")
