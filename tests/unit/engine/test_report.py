"""However much is found, what is to be done about it is done for each table of each ledger."""

from __future__ import annotations

from ledger_service.engine.verification.report import MAX_FINDINGS, Report


def test_a_flood_of_findings_hides_no_other_table_and_no_other_ledger() -> None:
    report = Report(remedies={"ledger.balance": "stop", "ledger.capture": "look"})
    for number in range(3 * MAX_FINDINGS):
        report.add("ledger.capture", "one", "differs_from_journal", "m", row=str(number))
    for number in range(3):
        report.add("ledger.balance", "one", "differs_from_journal", "m", row=str(number))
        report.add("ledger.balance", "two", "differs_from_journal", "m", row=str(number))
    assert len(report.findings) == MAX_FINDINGS + 2
    assert [(f.ledger, f.remedy) for f in report.findings[-2:]] == [
        ("one", "stop"),
        ("two", "stop"),
    ]
