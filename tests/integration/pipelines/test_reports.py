"""The daily report says what the published snapshot says, and the same input gives the same bytes."""

from __future__ import annotations

import csv
import hashlib
import io
import json

import pypdf

from ledger_service.contract.snapshots import pins
from pipelines.reports.fbo import MissingReports, outdated, read_days, write_reports
from tests.integration.pipelines.conftest import DAY, LEDGER


def test_the_report_of_a_day(world):
    assert world.publish().blocked_by == []
    places = world.flow.places
    manifest, days = read_days(places)
    (day,) = days
    files = write_reports(places, manifest, days, world.flow.api)
    first = {path.name: path.read_bytes() for path in files}
    assert set(first) == {f"{DAY}.csv", f"{DAY}.pdf"}

    text = pypdf.PdfReader(io.BytesIO(first[f"{DAY}.pdf"])).pages[0].extract_text()
    account = day.accounts[0]
    assert account["bank_closing"] == 700
    for words in (
        "Daily FBO reconciliation", LEDGER, "Thursday, July 2, 2026", "bank:fbo at first_partner, USD",
        "7.00", f"Open breaks: {len(day.breaks)}", "missing in ledger", "Difference, bank less ledger",
        f"Snapshot {manifest.version} · as of seq {manifest.as_of[LEDGER]}",
        f"Checkpoint tallystick.local/{LEDGER}",
    ):  # fmt: skip
        assert words in text, words

    rows = list(csv.DictReader(io.StringIO(first[f"{DAY}.csv"].decode())))
    balances = {row["item"]: row["amount_minor"] for row in rows if row["record"] == "balance"}
    assert balances["bank_closing"] == "700"
    assert int(balances["difference_bank_ledger"]) == 700 - int(balances["ledger_closing"])
    broken = [row for row in rows if row["record"] == "break"]
    assert len(broken) == len(day.breaks) > 0
    # A partner's text is never a formula in somebody's spreadsheet.
    assert not [v for row in rows for v in row.values() if v.startswith(("=", "+", "@"))]

    index = json.loads((places.reports / "fbo" / LEDGER / "index.json").read_bytes())
    assert index[DAY]["pdf_sha256"] == hashlib.sha256(first[f"{DAY}.pdf"]).hexdigest()
    # What a report cites stays.
    assert index[DAY]["snapshot_version"] == manifest.version
    assert pins(places.snapshots, "general") == {f"fbo.{LEDGER}.{DAY}": manifest.version}
    again = write_reports(places, manifest, days, world.flow.api)
    assert {path.name: path.read_bytes() for path in again} == first
    assert outdated(places, days) == []


def test_reports_that_are_missing_are_built_and_then_left_alone(world):
    world.publish()
    index = world.flow.places.reports / "fbo" / LEDGER / "index.json"
    index.unlink(missing_ok=True)
    missing = MissingReports(world.flow.places, world.flow.api)
    assert missing.build_some(10) == 1
    assert missing.build_some(10) == 0
