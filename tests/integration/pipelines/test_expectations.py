"""Great Expectations fails closed, and its general site shows nothing of the restricted marts."""

from __future__ import annotations

import dataclasses

import duckdb

from pipelines.checks import expectations
from pipelines.checks.suites import SUITES


def test_suites_catch_bad_data_and_never_pass_what_was_not_evaluated(world, tmp_path):
    flow = world.flow
    frames = tmp_path / "frames"
    flow.extract_frames(frames)
    target = frames / "account_balances_current.parquet"
    duckdb.sql(f"create table w as select * from '{target}'")
    duckdb.sql("update w set normal_side = 'left' where account = 'bank:fbo'")
    duckdb.sql(f"copy w to '{target}'")
    broken = next(suite for suite in SUITES if suite.mart == "reconciliation_days")
    asks_for_too_much = dataclasses.replace(
        broken,
        expectations=(
            *broken.expectations,
            ("ExpectColumnValuesToNotBeNull", {"column": "no_such_column"}),
        ),
    )
    (frames / "alert_candidates.parquet").unlink()
    suites = [asks_for_too_much if suite is broken else suite for suite in SUITES]
    warehouse = tmp_path / "warehouse"
    found = {o.check.name: o for o in expectations.run(frames, warehouse, suites)}
    assert all(outcome.check.blocking for outcome in found.values())
    assert found["expectations_entries"].check.passed, found["expectations_entries"]
    balances = found["expectations_account_balances_current"].check
    assert not balances.passed
    assert "normal_side: does not hold" in balances.detail
    days = found["expectations_reconciliation_days"].check
    assert not days.passed
    assert "no_such_column: error, not evaluated" in days.detail
    alerts = found["expectations_alert_candidates"]
    assert not alerts.check.passed
    assert alerts.restricted
    assert "error, not evaluated" in alerts.check.detail

    general = warehouse / "data_docs"
    assert (general / "index.html").is_file()
    pages = [path for path in general.rglob("*") if path.is_file()]
    assert not [path for path in pages if b"alert" in path.read_bytes() and path.suffix == ".html"]


def test_a_process_that_dies_has_failed_every_suite(tmp_path):
    outcomes = expectations.read_results(tmp_path)
    assert len(outcomes) == len(SUITES)
    assert not any(outcome.check.passed for outcome in outcomes)
