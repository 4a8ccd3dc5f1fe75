"""Events of earlier versions: they decode, and their canonical bytes stay what they were."""

from __future__ import annotations

import pytest

from ledger_service.contract.events import RuleDeclared, RuleWithdrawn, decode_journal, encode

DECLARED = (
    b'{"type":"rule.declared","v":1,"ledger":"simulated","seq":9,'
    b'"recorded_at":"2026-07-01T16:00:00.000000Z","actor":"key_a","rule":"card","version":1,'
    b'"since":"2026-06-01","kind":"fee","currency":"USD","tiers":[{"rate":"0.029","fixed":"30"}],'
    b'"debit":[{"account":"{account}","weight":1}],"credit":[{"account":"income:fees","weight":1}]}'
)
WITHDRAWN = (
    b'{"type":"rule.withdrawn","v":1,"ledger":"simulated","seq":10,'
    b'"recorded_at":"2026-07-01T16:00:00.000000Z","actor":"key_a","rule":"card","version":2,'
    b'"since":"2026-07-01"}'
)


@pytest.mark.parametrize("raw", [DECLARED, WITHDRAWN])
def test_a_rule_of_one_person_s_time_stays_as_it_was(raw: bytes) -> None:
    event = decode_journal(raw)
    assert isinstance(event, RuleDeclared | RuleWithdrawn)
    assert event.approval is None
    assert encode(event) == raw


@pytest.mark.parametrize("raw", [DECLARED, WITHDRAWN])
def test_an_approval_stands_at_the_end(raw: bytes) -> None:
    with_approval = raw[:-1] + b',"approval":"apr_a"}'
    event = decode_journal(with_approval)
    assert isinstance(event, RuleDeclared | RuleWithdrawn)
    assert (event.approval, encode(event)) == ("apr_a", with_approval)
