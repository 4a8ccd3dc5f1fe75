"""Great Expectations fails closed, and its general site shows nothing of the restricted marts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import duckdb
import msgspec
import psutil

from ledger_service.contract.snapshots import CheckResult
from pipelines.checks import expectations
from pipelines.checks.suites import SUITES
from pipelines.publication.snapshot import Outcome
from pipelines.streaming import ExpectationsProcess


def test_suites_catch_bad_data_and_never_pass_what_was_not_evaluated(world, tmp_path):
    frames, warehouse = tmp_path / "frames", tmp_path / "warehouse"
    world.flow.extract_frames(frames)
    spoil(frames / "account_balances_current.parquet", "update w set normal_side = 'left'")
    spoil(frames / "reconciliation_days.parquet", "alter table w drop column status")
    (frames / "alert_candidates.parquet").unlink()
    command = [sys.executable, "-m", expectations.__name__, str(frames), str(warehouse)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = {outcome.check.name: outcome for outcome in expectations.read_results(frames)}

    assert len(found) == len(SUITES)
    assert all(outcome.check.blocking for outcome in found.values())
    assert found["expectations_entries"].check.passed, found["expectations_entries"]
    balances = found["expectations_account_balances_current"].check
    assert not balances.passed
    assert "normal_side: does not hold" in balances.detail
    days = found["expectations_reconciliation_days"].check
    assert not days.passed
    assert "status: error, not evaluated" in days.detail
    alerts = found["expectations_alert_candidates"]
    assert not alerts.check.passed
    assert alerts.restricted
    assert "error, not evaluated" in alerts.check.detail

    general = warehouse / "data_docs"
    assert (general / "index.html").is_file()
    pages = [path for path in general.rglob("*") if path.is_file()]
    assert not [path for path in pages if b"alert_candidates" in path.read_bytes()]


def spoil(file: Path, change: str) -> None:
    with duckdb.connect(":memory:") as connection:
        connection.execute(f"create table w as select * from '{file}'")
        connection.execute(change)
        connection.execute(f"copy w to '{file}'")


def test_a_later_run_takes_up_fresh_good_results_and_nothing_else(tmp_path):
    flow = SimpleNamespace(places=SimpleNamespace(warehouse=tmp_path))
    results = tmp_path / "frames" / expectations.RESULTS
    results.parent.mkdir()
    assert ExpectationsProcess(flow).is_due()
    for passed, age, is_due in ((True, 0, False), (True, 600, True), (False, 0, True)):
        check = CheckResult("expectations_entries", passed=passed, blocking=True, detail="")
        results.write_bytes(msgspec.json.encode([Outcome(check)]))
        os.utime(results, (time.time() - age,) * 2)
        suites = ExpectationsProcess(flow)
        assert suites.is_due() == is_due
        assert [one.check.passed for one in suites.outcomes] == ([True] if passed else [])


def test_a_process_ends_with_the_run_that_began_it(tmp_path):
    """It would write its results, of other frames, where the next run looks for those of its own."""
    frames = tmp_path / "frames"
    frames.mkdir()
    command = [sys.executable, "-m", expectations.__name__, str(frames), str(tmp_path)]
    script = (
        f"import subprocess, time; one = subprocess.Popen({command!r})\n"
        "print(one.pid, flush=True); time.sleep(60)"
    )
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    one = psutil.Process(int(run.stdout.readline()))
    while not any("/pandas/" in file.path for file in one.memory_maps()):
        time.sleep(0.02)  # it is past its start, and imports what takes it seconds
    run.kill()
    run.wait()
    psutil.wait_procs([one], timeout=60)
    assert not (frames / expectations.RESULTS).exists()


def test_a_process_that_dies_has_failed_every_suite(tmp_path):
    outcomes = expectations.read_results(tmp_path)
    assert len(outcomes) == len(SUITES)
    assert not any(outcome.check.passed for outcome in outcomes)
