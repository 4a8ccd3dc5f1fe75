"""Loads and simulations into a real ledger, over HTTP, with a bank beside it."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner

from ledger_service.contract.events import StatementLine, StatementReceived, decode_stream
from ledger_service.loading.cli import load
from ledger_service.loading.errors import LoadError
from ledger_service.rails.api_errors import ApiUnavailableError
from ledger_service.rails.bank_client import BankClient, BankRefusedError
from ledger_service.rails.cli import statements
from ledger_service.rails.sandbox_bank import Movement
from ledger_service.simulator.cli import simulate
from ledger_service.simulator.run import SimulationError
from tests.integration.loading.conftest import SECRET
from tests.unit.loading.test_plan import HEADER, MAPPING


def _run(command, *arguments: str) -> str:
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def _files(folder: Path, rows: list[str]) -> tuple[str, str]:
    """A file of rows and a mapping for it."""
    data, mapping = folder / "rows.csv", folder / "mapping.yaml"
    data.write_text("\n".join((HEADER, *rows)) + "\n")
    mapping.write_text(yaml.safe_dump(MAPPING))
    return str(data), str(mapping)


def _balance(api: httpx.Client, ledger: str, account: str) -> int:
    return int(api.get(f"/v1/ledgers/{ledger}/accounts/{account}").json()["posted"])


def _seq(api: httpx.Client, ledger: str) -> int:
    return api.get(f"/v1/ledgers/{ledger}/progress").json()["posted_seq"]


ROWS = [
    "0,100.00,IN,1,pay,,100,1",
    "0,40.005,1,2,pay,60,40,1",
    "1,10.00,2,OUT,pay,30,,1",
    "1,0.001,1,2,pay,60,30,1",
    "2,7.50,1,counter,cash,67.5,,1",
    "2,x,1,2,pay,,,1",
]


def test_a_load_its_manifest_its_quarantine_and_its_statements(surroundings, ledger, api, tmp_path):
    data, mapping = _files(tmp_path, ROWS)
    manifest = json.loads(_run(load, data, "--mapping", mapping, "--ledger", ledger, "--json"))
    assert (manifest["rows"], manifest["posted"], manifest["accounts"]) == (6, 4, 2)
    assert manifest["quarantined"] == {"bad_amount": 1, "rounds_to_zero": 1}
    assert manifest["source_amount_total"] == "157.506"
    assert manifest["residual_minor_total"] == "0.5"
    assert manifest == json.loads((surroundings / "loads" / f"{manifest['load']}.json").read_text())
    quarantine = (surroundings / "quarantine" / f"{manifest['load']}.ndjson").read_text()
    assert [json.loads(line)["row"] for line in quarantine.splitlines()] == [4, 6]
    assert (_balance(api, ledger, "customer:1:main"), _balance(api, ledger, "customer:2:main")) == (
        6750,
        3000,
    )
    assert _balance(api, ledger, "bank:fbo") == 9750

    again = json.loads(_run(load, data, "--mapping", mapping, "--ledger", ledger, "--json"))
    assert again["rows_known_before"] == 5
    assert _balance(api, ledger, "bank:fbo") == 9750
    # A home that remembers nothing asks the ledger for every row, and nothing doubles either.
    (surroundings / "loads" / f"{manifest['load']}.progress.json").unlink()
    seq = _seq(api, ledger)
    again = json.loads(_run(load, data, "--mapping", mapping, "--ledger", ledger, "--json"))
    assert (again["rows_known_before"], again["posted"], _seq(api, ledger)) == (0, 4, seq)


def test_statements_of_a_load_say_what_the_bank_saw(surroundings, ledger, services, tmp_path):
    data, mapping = _files(tmp_path, ROWS)
    _run(load, data, "--mapping", mapping, "--ledger", ledger)
    fetched = json.loads(_run(statements, "fetch", "--json"))
    assert fetched["quarantined"] == 0
    assert fetched["refused"] == []
    assert json.loads(_run(statements, "fetch", "--json"))["files"] == 0
    received, lines = _announced(services, ledger)
    fbo = [one for one in received if one.format == "camt.053"]
    assert [(one.statement_date, one.closing_balance) for one in fbo] == [
        ("2026-01-01", "10000"),
        ("2026-01-02", "9000"),
        ("2026-01-03", "9750"),
    ]
    assert [(line.side, line.amount) for line in lines] == [
        ("credit", "10000"),
        ("debit", "1000"),
        ("credit", "750"),
    ]
    stated = {(one.statement_date, one.closing_balance) for one in received if one.format == "bai2"}
    assert stated == {
        ("2026-01-01", "6000"),
        ("2026-01-01", "4000"),
        ("2026-01-02", "3000"),
        ("2026-01-03", "6750"),
    }


def _announced(services, ledger: str) -> tuple[list[StatementReceived], list[StatementLine]]:
    """What the `statements` stream says of one ledger's accounts."""
    import psycopg

    with psycopg.connect(services.owner_url) as connection:
        rows = connection.execute(
            "select e.bytes from stream.event as e join statement.account as a "
            "on a.statement_account = e.subject where e.stream = 'statements' and a.ledger = %s "
            "order by e.seq",
            (ledger,),
        ).fetchall()
    events = [decode_stream(bytes(row[0])) for row in rows]
    return (
        [event for event in events if isinstance(event, StatementReceived)],
        [event for event in events if isinstance(event, StatementLine)],
    )


def test_a_load_that_is_killed_goes_on_where_it_stopped(surroundings, ledger, api, tmp_path):
    rng = random.Random(3)
    rows = [f"0,{rng.randint(1, 999)},IN,{number % 50},pay,,,1" for number in range(5000)]
    data, mapping = _files(tmp_path, rows)
    command = [
        *(sys.executable, "-c", "from ledger_service.loading.cli import load; load()"),
        *(data, "--mapping", mapping, "--ledger", ledger),
    ]
    progress = None
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while progress is None and process.poll() is None and time.monotonic() < deadline:
        progress = next((surroundings / "loads").glob("*.progress.json"), None)
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert progress is not None
    known = json.loads(progress.read_text())["row"]
    assert 0 < known < 5000
    manifest = json.loads(_run(load, data, "--mapping", mapping, "--ledger", ledger, "--json"))
    assert manifest["rows_known_before"] == known
    total = sum(int(row.split(",")[1]) for row in rows) * 100
    assert _balance(api, ledger, "bank:fbo") == total
    with BankClient(_setting("TALLYSTICK_BANK_URL"), SECRET) as bank:
        issued = [one for one in bank.statements() if one["delivery"] == f"{ledger}-fbo"]
        assert str(total // 100).encode() in bank.statement(issued[-1]["id"])


def _setting(name: str) -> str:
    from ledger_service.contract import environment

    return environment.read(name)


def test_a_mapping_that_changes_its_mind_is_refused(surroundings, ledger, api, tmp_path):
    data, mapping = _files(tmp_path, ROWS[:1])
    _run(load, data, "--mapping", mapping, "--ledger", ledger)
    Path(mapping).write_text(yaml.safe_dump({**MAPPING, "version": 2, "name": "another"}))
    with pytest.raises(LoadError) as refused:
        _run(load, data, "--mapping", mapping, "--ledger", ledger)
    assert refused.value.code == "loaded_by_another_mapping"


def test_without_an_api_nothing_is_begun(home, tmp_path, monkeypatch, free_port):
    data, mapping = _files(tmp_path, ROWS)
    monkeypatch.setenv("TALLYSTICK_API_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("TALLYSTICK_API_KEY", "tsk_none")
    with pytest.raises(ApiUnavailableError, match="tally up"):
        _run(load, data, "--mapping", mapping)
    assert not list(home.rglob("*.json"))


def test_a_simulation_is_posted_once_with_its_answer_key(surroundings, ledger, services, api):
    arguments = ("--ledger", ledger, "--customers", "60", "--days", "45", "--start", "2026-02-02")
    _run(simulate, *arguments)
    key = json.loads((surroundings / "simulations" / f"{ledger}.json").read_text())
    assert key["posted_now"] == key["transactions"]
    seq = _seq(api, ledger)
    _run(simulate, *arguments)
    with pytest.raises(SimulationError) as refused:
        _run(simulate, *arguments, "--seed", "8")
    assert refused.value.code == "simulated_otherwise"
    assert _seq(api, ledger) == seq
    lines = [
        json.loads(line) for line in api.get(f"/v1/ledgers/{ledger}/balances").text.splitlines()
    ]
    owed = {line["account"]: int(line["credits"]) - int(line["debits"]) for line in lines}
    assert sum(owed.values()) == 0
    case = key["planted"][0]
    account = api.get(f"/v1/ledgers/{ledger}/accounts/{case['accounts'][0]}").json()
    assert account["owner"] == case["party"]

    _run(statements, "fetch")
    received, lines_ = _announced(services, ledger)
    assert {one.format for one in received} == {"bai2"}
    assert len(received) == 45
    # What bank and ledger differ in at the end is what was planted.
    planted = sum((one["bank_amount"] or 0) - (one["ledger_amount"] or 0) for one in key["breaks"])
    assert int(received[-1].closing_balance) - -owed["bank:fbo"] == planted
    references = [line.reference for line in lines_]
    for one in key["breaks"]:
        times = references.count(one["reference"])
        assert times == {"missing_at_bank": 0, "duplicate_at_bank": 2}.get(one["kind"], 1)


def test_the_bank_answers_only_who_signs_and_only_once(surroundings, bank_url):
    with (
        BankClient(bank_url, "another secret") as stranger,
        pytest.raises(BankRefusedError) as refused,
    ):
        stranger.close_days([])
    assert refused.value.code == "bad_signature"
    from ledger_service.rails import signing

    with httpx.Client(base_url=bank_url) as http:
        headers = signing.sign(SECRET, "GET", "/statements", b"")
        assert http.get("/statements", headers=headers).status_code == 200
        assert http.get("/statements", headers=headers).json()["code"] == "replayed"
        assert http.get("/statements").json()["code"] == "unsigned"
        old = dict(headers)
        old[signing.TIME] = str(int(old[signing.TIME]) - 1000)
        assert http.get("/statements", headers=old).json()["code"] == "bad_signature"


def test_the_bank_keeps_what_it_was_told(surroundings, bank_url):
    movement = Movement("m1", "nobody", "2026-01-01", "credit", "5", "ref", "ach")
    with BankClient(bank_url, SECRET) as bank:
        with pytest.raises(BankRefusedError) as refused:
            bank.tell_movements([movement])
        assert refused.value.code == "unknown_account"
        from ledger_service.rails.sandbox_bank import CloseDays, NewAccount

        bank.open_accounts([NewAccount("kept", "USD", "bai2", "kept")])
        told = Movement("m2", "kept", "2026-01-01", "credit", "5", "ref", "ach")
        bank.tell_movements([told])
        bank.tell_movements([told])
        with pytest.raises(BankRefusedError) as refused:
            bank.tell_movements([Movement("m2", "kept", "2026-01-01", "credit", "6", "ref", "ach")])
        assert refused.value.code == "movement_differs"
        assert bank.close_days([CloseDays("kept", "2026-01-03")]) == 3
        assert bank.close_days([CloseDays("kept", "2026-01-03")]) == 0
        bank.tell_movements([told])
        with pytest.raises(BankRefusedError) as refused:
            bank.tell_movements([Movement("m3", "kept", "2026-01-03", "credit", "6", "ref", "ach")])
        assert refused.value.code == "day_closed"
