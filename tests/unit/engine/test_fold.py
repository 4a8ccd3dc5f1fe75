"""The fold: which rules are in force by two people."""

from __future__ import annotations

import msgspec

from ledger_service.contract.events import RuleDeclared
from ledger_service.engine.fold import Fold
from tests.ledger_events import declarations


def test_after_the_first_rule_of_two_people_none_is_one_person_s() -> None:
    _, rule, _ = declarations("simulated", 1)
    assert isinstance(rule, RuleDeclared)
    old = msgspec.structs.replace(rule, rule="old")
    ones = [old, msgspec.structs.replace(rule, seq=3, rule="new", approval="apr_a")]
    fold = Fold()
    for event in ones:
        fold.apply(event)
    assert (fold.approvals, fold.unapproved) == ({3: "apr_a"}, [])
    fold.apply(msgspec.structs.replace(old, seq=4, version=2))
    assert (fold.approvals, fold.unapproved) == ({3: "apr_a"}, [4])
